"""What a failover does to nodes, as failover_user: promotes a standby, and points the others to it.

Each act raises ProbeError with the reason in one line; none is repeated here.
"""

from collections.abc import Callable
from typing import Final

from healthcheck.conninfo import literal, pointed_at
from healthcheck.line import Credentials, Line, NoAnswer, ProbeError
from healthcheck.topology import Node

GRACE_S: Final = 5.0
"""Beyond the time that a node is given, for its answer."""


class NotAsked(ProbeError):
    """The order has not come to the node, or the node has not taken it."""


class Hand:
    """Acts on nodes. `credentials` are asked for with each act."""

    def __init__(self, credentials: Callable[[], Credentials], timeout_s: float) -> None:
        self._credentials: Final = credentials
        self._timeout_s: Final = timeout_s

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
