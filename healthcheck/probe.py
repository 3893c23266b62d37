"""Asking one node what it is, over a connection kept open between probes (asyncpg).

In: where the node is and who asks. Out: an Observation, or ProbeError with the reason in one line. The role that asks
needs `pg_monitor` to see a standby's received timeline; everything else is open to every role.
"""

import errno
import os
from typing import Any, Final

import anyio
import asyncpg
import msgspec

from healthcheck.topology import Observation, Role

APPLICATION_NAME: Final = "pointsman-monitor"

# The timeline of a primary is the one it inserts WAL on: pg_control_checkpoint() still shows the old one until the
# first checkpoint after a promotion. A standby follows what it receives, or what its last restartpoint was on.
_QUERY: Final = """
SELECT pg_is_in_recovery() AS in_recovery,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       CASE WHEN pg_is_in_recovery()
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
       END AS timeline,
       CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END AS insert_lsn,
       (pg_last_wal_receive_lsn() - '0/0')::bigint AS receive_lsn,
       (pg_last_wal_replay_lsn() - '0/0')::bigint AS replay_lsn
"""


class Credentials(msgspec.Struct, frozen=True):
    """Who asks, and in which database."""

    user: str
    password: str | None
    database: str

    def __repr__(self) -> str:
        # The generated one would print the password.
        return f"Credentials(user={self.user!r}, database={self.database!r})"


class ProbeError(Exception):
    """The node did not answer as a PostgreSQL node in service does. The text says why, for people."""


class Probe:
    """A line to one node. Not for concurrent use."""

    def __init__(self, name: str, host: str, port: int, credentials: Credentials, timeout_s: float) -> None:
        self._name, self._host, self._port = name, host, port
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._connection: Any = None

    async def ask(self) -> Observation:
        """What the node is now. Raises ProbeError; the connection is then dropped, and opened anew the next time."""
        try:
            with anyio.fail_after(self._timeout_s):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._open()
                row = await self._connection.fetchrow(_QUERY)
        except TimeoutError:
            self.close()
            raise ProbeError(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.close()
            raise ProbeError(reason(error)) from None
        except BaseException:
            self.close()
            raise
        return Observation(
            name=self._name,
            host=self._host,
            port=self._port,
            up=True,
            role=Role.STANDBY if row["in_recovery"] else Role.PRIMARY,
            system_identifier=row["system_identifier"],
            timeline=row["timeline"],
            insert_lsn=row["insert_lsn"],
            receive_lsn=row["receive_lsn"],
            replay_lsn=row["replay_lsn"],
        )

    async def _open(self) -> Any:
        return await asyncpg.connect(
            host=self._host,
            port=self._port,
            user=self._credentials.user,
            password=self._credentials.password,
            database=self._credentials.database,
            # One timeout, ours, covers connecting and asking.
            timeout=self._timeout_s * 2,
            statement_cache_size=0,
            server_settings={"application_name": APPLICATION_NAME},
        )

    def close(self) -> None:
        """Drop the connection at once, without a word to the node: it may not be listening."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def reason(error: BaseException) -> str:
    """An error of asyncpg or the network in one line."""
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        # asyncio's own text names the address in Python's notation.
        return os.strerror(error.errno).lower()
    return str(error).partition("\n")[0] or type(error).__name__
