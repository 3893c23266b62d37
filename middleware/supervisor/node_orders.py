"""DETACH NODE, ATTACH NODE, DRAIN NODE: an operator takes a node out of use, and has it used again.

An order holds until ATTACH NODE, through changes of the topology, and not beyond the end of this Pointsman.
"""

from typing import Literal, Protocol

import msgspec

from middleware.supervisor.pausing import Tell, unheard


class NodeOrder(msgspec.Struct, frozen=True):
    """What was said of a node."""

    node: str
    order: Literal["draining", "detached"]
    who: str
    at: float
    """time.time()"""


class NodeOrders(Protocol):
    """All raise PointsmanError: 42704 for a node that there is not, 55000 where it may not be. Each returns what is to
    be noticed of it: that it was the primary, or the last standby."""

    def orders(self) -> tuple[NodeOrder, ...]:
        """Those in force."""

    async def detach(self, node: str, who: str) -> tuple[str, ...]:
        """Give it nothing new from now on; what it has may end."""

    async def attach(self, node: str, who: str) -> tuple[str, ...]:
        """Use it again as it deserves."""

    async def drain(self, node: str, who: str, tell: Tell = unheard) -> tuple[str, ...]:
        """Give it nothing new; returns when nothing is lent there and all connections are closed. It is detached then.
        Cancelled, it is used again."""
