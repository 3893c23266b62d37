"""DETACH NODE, ATTACH NODE, DRAIN NODE: an operator takes a node out of use, and has it used again.

In: an order, who gives it, and `tell` for what it waits for meanwhile. Out: the node is used, or is not; and what is to
be noticed of that. An order holds until ATTACH NODE, through changes of the topology, and is handed on in an online
restart. A switchover gives orders of its own: while one goes on, an operator's are refused.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, Literal

import anyio
import msgspec

from healthcheck.guard import Happening
from healthcheck.monitor import Monitor
from healthcheck.topology import Condition, Node, Role
from middleware import sqlstate
from middleware.errors import PointsmanError
from middleware.supervisor.pausing import TELL_S, Tell, many, unheard
from middleware.supervisor.traffic import DrainingTraffic, names

LOOK_S: Final = 1.0
"""A node that is drained is looked at that often, whatever workers say: it may be down."""


class NodeOrder(msgspec.Struct, frozen=True):
    """What was said of a node."""

    node: str
    order: Literal["draining", "detached"]
    who: str
    at: float
    """time.time()"""


class NodeOrders:
    """One Pointsman's. All raise PointsmanError: 42704 for a node that there is not, 55000 where it is so already,
    55006 while a switchover goes on. What is to be noticed of one: that it was the primary, or the last standby."""

    def __init__(
        self,
        monitor: Monitor,
        traffic: DrainingTraffic,
        switching: Callable[[], bool],
        happened: Callable[[Happening], None],
    ) -> None:
        """`switching`: whether a switchover goes on."""
        self._monitor: Final = monitor
        self._traffic: Final = traffic
        self._switching: Final = switching
        self._happened: Final = happened
        self._orders: Final[dict[str, NodeOrder]] = {}

    def orders(self) -> tuple[NodeOrder, ...]:
        """Those in force."""
        self._forget_what_is_gone()
        return tuple(self._orders.values())

    def _forget_what_is_gone(self) -> None:
        """A node that was taken out of the settings, and maybe put in again since."""
        for name in list(self._orders):
            if self._monitor.ordered(name) is Condition.UP:
                del self._orders[name]

    def restore(self, orders: Iterable[NodeOrder]) -> None:
        """Have nodes be detached as another Pointsman says that they were there. Whoever was draining one is gone: it
        stays out, too. A node that is not there any more is passed over."""
        for one in orders:
            if self._node(one.node) is not None:
                self._orders[one.node] = msgspec.structs.replace(one, order="detached")
                self._monitor.detach(one.node, one.who)

    async def detach(self, node: str, who: str) -> tuple[str, ...]:
        """Give it nothing new from now on; what it has may end."""
        found = self._check(node)
        if node in self._orders and self._orders[node].order == "detached":
            raise _is_so(f'node "{node}" is detached already', self._orders[node])
        self._put(node, "detached", who)
        self._monitor.detach(node, who)
        self._tell("node_detached", f"it was detached by {who}", node)
        return self._notices(found)

    async def attach(self, node: str, who: str) -> tuple[str, ...]:
        """Use it again as it deserves."""
        self._check(node)
        if self._orders.pop(node, None) is None:
            raise PointsmanError(f'node "{node}" is not detached', sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE)
        self._monitor.attach(node)
        self._tell("node_attached", f"it was attached by {who}", node)
        found = self._node(node)
        return () if found is None or found.up else (f'node "{node}" is not used all the same: {found.why}',)

    async def drain(self, node: str, who: str, tell: Tell = unheard) -> tuple[str, ...]:
        """Give it nothing new; returns when nothing is lent there and all connections are closed. It is detached then.
        Cancelled, it is used again. What is to be noticed is told at once, and nothing is left to be noticed then."""
        found = self._check(node)
        if node in self._orders:
            order = self._orders[node]
            raise _is_so(f'node "{node}" is {order.order} already', order)
        order = self._put(node, "draining", who)
        self._monitor.drain(node, who)
        self._tell("node_drain_begun", f"it is drained by {who}", node)
        for notice in self._notices(found):
            tell(notice)
        try:
            await self._until_empty(order, self._monitor.topology.version, tell)
        except BaseException:
            if self._orders.get(node) is order:
                del self._orders[node]
                if self._node(node) is not None:
                    self._monitor.attach(node)
                    self._tell("node_attached", f"it is used again: the DRAIN of {who} was called off", node)
            raise
        self._put(node, "detached", who)
        self._monitor.detach(node, who)
        self._tell("node_drained", f"nothing is left there: it stays out, by {who}", node)
        return ()

    async def _until_empty(self, order: NodeOrder, version: int, tell: Tell) -> None:
        """Until nothing is left there, or it is down. Raises PointsmanError where somebody has said otherwise."""
        last, next_at = "", time.monotonic() + TELL_S
        while True:
            node = self._node(order.node)
            if self._orders.get(order.node) is not order or node is None:
                raise PointsmanError(
                    f'somebody else has said of node "{order.node}" what is to become of it',
                    sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
                )
            left = self._traffic.left(version, order.node)
            if node.condition is Condition.DOWN or (not left.silent and not left.servers):
                return
            parts = [
                f"{many(left.busy, 'server')} with transactions or statements under way" if left.busy else "",
                f"{many(left.resting, 'server')} that clients keep because their session is there"
                if left.resting
                else "",
                f"{many(left.servers, 'server')} to be closed" if left.servers and not left.busy + left.resting else "",
                f"answers of workers: {names(left.silent)}" if left.silent else "",
            ]
            text, now = f"waiting for {', '.join(part for part in parts if part)}", time.monotonic()
            if now >= next_at and text != last:
                tell(text)
                last, next_at = text, now + TELL_S
            with anyio.move_on_after(max(LOOK_S, next_at - now) if text != last else LOOK_S):
                await self._traffic.moved()

    def _check(self, name: str) -> Node:
        self._forget_what_is_gone()
        node = self._node(name)
        if node is None:
            known = ", ".join(node.name for node in self._monitor.topology.nodes)
            raise PointsmanError(
                f'node "{name}" does not exist', hint=f"There are {known}.", sqlstate=sqlstate.UNDEFINED_OBJECT
            )
        if self._switching():
            raise PointsmanError("a switchover is going on", sqlstate=sqlstate.OBJECT_IN_USE)
        return node

    def _node(self, name: str) -> Node | None:
        return next((node for node in self._monitor.topology.nodes if node.name == name), None)

    def _put(self, node: str, order: Literal["draining", "detached"], who: str) -> NodeOrder:
        put = self._orders[node] = NodeOrder(node, order, who, time.time())
        return put

    def _notices(self, before: Node) -> tuple[str, ...]:
        """What is to be noticed of it that a node, which was in use before, is so no longer."""
        topology = self._monitor.topology
        if not before.up:
            return ()
        if before.role is Role.PRIMARY:
            return (
                f'node "{before.name}" is the primary: new work for one waits until ATTACH NODE, '
                "for query_wait_timeout at most",
            )
        if not topology.standbys():
            return (f'node "{before.name}" was the last standby in use: reads go to the primary, if they may',)
        return ()

    def _tell(self, what: str, text: str, node: str) -> None:
        self._happened(Happening(time.time(), what, text, node))


def _is_so(message: str, order: NodeOrder) -> PointsmanError:
    return PointsmanError(message, detail=f"By {order.who}.", sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE)
