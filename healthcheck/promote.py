"""What a failover or a switchover does to nodes, as failover_user: promotes a standby, points the others to it.

Each act raises ProbeError with the reason in one line; none is repeated here.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from healthcheck.conninfo import literal, parse, pointed_at
from healthcheck.line import Credentials, Denied, Line, NoAnswer, NotNow, ProbeError
from healthcheck.topology import Node

GRACE_S: Final = 5.0
"""Beyond the time that a node is given, for its answer."""


CHECKPOINT_S: Final = 600.0
"""For what may be dirty of a large shared_buffers to be written."""

_POSITION: Final = """
SELECT CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END AS lsn
"""
_PROGRESS: Final = """
SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint AS received,
       (pg_last_wal_replay_lsn() - '0/0')::bigint AS replayed,
       (SELECT sender_host || ':' || sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming') AS upstream
"""
_UPSTREAM: Final = "SELECT current_setting('primary_conninfo') AS conninfo"
_MAY_RUN_PROGRAMS: Final = """
SELECT rolsuper OR pg_has_role(oid, 'pg_execute_server_program', 'USAGE') AS may
  FROM pg_roles WHERE rolname = current_user
"""
# What pg_ctl stop -m fast does. A backend's working directory is its data directory.
_SHUT_DOWN: Final = "COPY (SELECT 1) TO PROGRAM 'kill -INT $(head -n 1 postmaster.pid)'"


class NotAsked(ProbeError):
    """The order has not come to the node, or the node has not taken it."""


class Progress(NamedTuple):
    """A standby's."""

    received: int
    """Up to where, in bytes since the cluster's beginning."""
    replayed: int
    upstream: str
    """`host:port` it streams from; "" while it does not."""


class Hand:
    """Acts on nodes. `credentials` are asked for with each act."""

    def __init__(self, credentials: Callable[[], Credentials], timeout_s: float) -> None:
        self._credentials: Final = credentials
        self._timeout_s = timeout_s

    def use(self, timeout_s: float) -> None:
        """With so much patience from now on."""
        self._timeout_s = timeout_s

    async def promote(self, node: Node, timeout_s: float, left_s: Callable[[], float]) -> None:
        """Make a standby the primary; it has accepted that when this returns.

        `left_s` says for how long we may; the node itself, by its own clock, refuses an order that comes later: one
        that was held up on its way, or by our being stopped. Raises NotAsked where it was certainly not promoted.
        """
        line = self._line(node, timeout_s + GRACE_S)
        try:
            try:
                row = await line.ask("SELECT extract(epoch FROM clock_timestamp())::text AS now")
            except ProbeError as error:
                raise NotAsked(str(error)) from None
            # It looked at its clock before we look at ours, so this is early rather than late.
            until = float(row["now"]) + left_s()
            row = await line.ask(
                "SELECT CASE WHEN clock_timestamp() < to_timestamp($1::text::float8)"
                f" THEN pg_promote(true, {max(1, round(timeout_s))}) END AS promoted",
                str(until),
            )
        finally:
            line.close()
        if row["promoted"] is None:
            raise NotAsked("the order came too late: another Pointsman may lead by now")
        if not row["promoted"]:
            raise NoAnswer(f"was not promoted within {timeout_s:g} s")

    async def repoint(self, standby: Node, primary: Node) -> None:
        """Let a standby follow another primary: by the connection string it has, and with a slot of the same name."""
        line = self._line(standby, self._timeout_s)
        try:
            row = await line.ask(
                "SELECT current_setting('primary_conninfo') AS conninfo, current_setting('primary_slot_name') AS slot"
            )
            try:
                conninfo = pointed_at(row["conninfo"], primary.host, primary.port)
            except ValueError as error:
                raise ProbeError(f"its primary_conninfo cannot be read: {error}") from None
            if row["slot"]:
                await self._make_slot(primary, row["slot"])
            await line.ask(f"ALTER SYSTEM SET primary_conninfo = {literal(conninfo)}")
            await line.ask("SELECT pg_reload_conf()")
        finally:
            line.close()

    async def checkpoint(self, primary: Node) -> None:
        """Write out what is dirty, so that a shutdown has little left to write."""
        await self._ask(primary, "CHECKPOINT", CHECKPOINT_S)

    async def position(self, primary: Node) -> int:
        """Where a primary writes now; not a primary, ProbeError."""
        row = await self._ask(primary, _POSITION, self._timeout_s)
        if row["lsn"] is None:
            raise ProbeError("it is not a primary any more")
        lsn: int = row["lsn"]
        return lsn

    async def progress(self, standby: Node) -> Progress:
        """How far a standby has come."""
        row = await self._ask(standby, _PROGRESS, self._timeout_s)
        return Progress(row["received"] or 0, row["replayed"] or 0, row["upstream"] or "")

    async def may_shut_down(self, primary: Node) -> bool:
        """Whether shut_down() is allowed."""
        row = await self._ask(primary, _MAY_RUN_PROGRAMS, self._timeout_s)
        return bool(row["may"])

    async def shut_down(self, primary: Node) -> str:
        """Have a node shut itself down, fast and cleanly; returns what it has said to that, which may be anything: its
        last word to a session that it ends."""
        try:
            await self._ask(primary, _SHUT_DOWN, self._timeout_s)
        except ProbeError as error:
            return str(error)
        return ""

    async def stopped(self, node: Node) -> bool:
        """Whether a node that was told to stop has; one that goes on as if nothing had been said, ProbeError."""
        try:
            await self._ask(node, "SELECT 1", self._timeout_s)
        except NotNow:
            return False
        except Denied as error:
            raise ProbeError(f"it still runs: {error}") from None
        except ProbeError:
            return True
        raise ProbeError("it still runs")

    async def follows(self, standby: Node, upstream: Node) -> bool:
        """Whether a standby is set to stream from a node."""
        row = await self._ask(standby, _UPSTREAM, self._timeout_s)
        try:
            values = parse(row["conninfo"] or "")
        except ValueError:
            return False
        return (values.get("host"), values.get("port", "5432")) == (upstream.host, str(upstream.port))

    async def _ask(self, node: Node, query: str, timeout_s: float) -> Any:
        line = self._line(node, timeout_s)
        try:
            return await line.ask(query)
        finally:
            line.close()

    async def _make_slot(self, primary: Node, slot: str) -> None:
        line = self._line(primary, self._timeout_s)
        try:
            await line.ask(
                "SELECT pg_create_physical_replication_slot($1, true)"
                " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
                slot,
            )
        finally:
            line.close()

    def _line(self, node: Node, timeout_s: float) -> Line:
        return Line(node.host, node.port, self._credentials(), timeout_s)
