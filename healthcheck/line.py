"""A connection to one node that is kept open between questions (asyncpg), and the reasons why there is no answer."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import anyio
import asyncpg
import msgspec

APPLICATION_NAME: Final = "pointsman-monitor"


class Credentials(msgspec.Struct, frozen=True):
    """Who asks, in which database, and over what."""

    user: str
    password: str | None
    database: str
    tls: Callable[[], Any] = lambda: None
    """What asyncpg's connect() takes as `ssl`, asked for each connection; None for its own default."""
    direct_tls: bool = False

    def __repr__(self) -> str:
        # The generated one would print the password.
        return f"Credentials(user={self.user!r}, database={self.database!r})"

    def elsewhere(self, database: str) -> "Credentials":
        """The same in another database."""
        return msgspec.structs.replace(self, database=database)


async def connect(
    host: str, port: int, credentials: Credentials, timeout_s: float, statement_cache_size: int = 0, **settings: str
) -> Any:
    """A connection of asyncpg's, with `settings` in its startup message. Raises OSError and asyncpg's errors.

    Where one timeout of the caller's covers connecting and asking, `timeout_s` is beyond that."""
    return await asyncpg.connect(
        host=host,
        port=port,
        user=credentials.user,
        password=credentials.password,
        database=credentials.database,
        ssl=credentials.tls(),
        direct_tls=credentials.direct_tls,
        timeout=timeout_s,
        statement_cache_size=statement_cache_size,
        server_settings={"application_name": APPLICATION_NAME, **settings},
    )


def overlook_given_up(loop: asyncio.AbstractEventLoop) -> None:
    """Have a loop say nothing of connections that were given up in the moment in which they came about.

    asyncpg leaves a future behind that says they are lost, and that nobody waits for."""
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), OSError) and context.get("message") == _NOBODY_WAITED:
            return
        if before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)

    loop.set_exception_handler(handle)


_NOBODY_WAITED: Final = "Future exception was never retrieved"
"""asyncio's words; of tasks it has others."""


class ProbeError(Exception):
    """The node did not answer as a PostgreSQL node in service does. The text says why, for people."""


class NoAnswer(ProbeError):
    """The node has said nothing within the time there was."""


class Denied(ProbeError):
    """The node is alive: it has answered with an error of its own, such as that all its connection slots are taken."""


NOT_IN_SERVICE: Final = ("08", "57P", "58", "XX")
"""How the SQLSTATEs of those begin that have no connection, start or stop, cannot read or write, or are broken."""


class NotNow(ProbeError):
    """It runs, or did a moment ago, and takes no connections: it is starting or ending."""


_ENDING: Final = (
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ConnectionDoesNotExistError,
    ConnectionResetError,
    BrokenPipeError,
)


class Line:
    """A line to one node. Not for concurrent use."""

    def __init__(self, host: str, port: int, credentials: Credentials, timeout_s: float) -> None:
        self._host, self._port = host, port
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._connection: Any = None

    async def ask(self, query: str, *arguments: str) -> Any:
        """The first row of the answer, None where it has none.

        Raises ProbeError, of which NoAnswer is one; the connection is then dropped, and opened anew next time.
        """
        try:
            with anyio.fail_after(self._timeout_s):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._open()
                return await self._connection.fetchrow(query, *arguments)
        except TimeoutError:
            self.close()
            raise NoAnswer(f"no answer within {self._timeout_s:g} s") from None
        except _ENDING as error:
            self.close()
            raise NotNow(reason(error)) from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.close()
            raise (Denied if _alive(error) else ProbeError)(reason(error)) from None
        except BaseException:
            self.close()
            raise

    async def _open(self) -> Any:
        # Enough for the one query of each line, which is then prepared once.
        return await connect(self._host, self._port, self._credentials, self._timeout_s * 2, statement_cache_size=10)

    def close(self) -> None:
        """Drop the connection at once, without a word to the node: it may not be listening."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _alive(error: BaseException) -> bool:
    """Whether it comes from a node in service."""
    return isinstance(error, asyncpg.PostgresError) and not (error.sqlstate or "XX").startswith(NOT_IN_SERVICE)


def reason(error: BaseException) -> str:
    """An error of asyncpg or the network in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or error}"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        # asyncio's own text names the address in Python's notation.
        return os.strerror(error.errno).lower()
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror.lower()
    return str(error).partition("\n")[0] or type(error).__name__
