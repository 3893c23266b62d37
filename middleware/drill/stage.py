"""What a drill is played on: a cluster with a Pointsman in front of it, and hands that can break it.

A stage knows how each act is done in its world. Which node is meant is the caller's; what must come of it, too.
"""

from typing import Protocol, Self

from middleware.drill.acts import Act
from middleware.drill.ledger import Login
from middleware.drill.pointsman import Pointsman


class Stage(Protocol):
    """An async context manager: inside, the cluster and Pointsman run."""

    @property
    def title(self) -> str:
        """For people."""

    @property
    def synchronous(self) -> bool:
        """Whether a commit is acknowledged only when a standby has it."""

    @property
    def disposable(self) -> bool:
        """Whether it is gone behind the drill: what is broken then needs no healing."""

    @property
    def login(self) -> Login:
        """The endpoint, and a user that may make a schema there."""

    @property
    def pointsman(self) -> Pointsman:
        """The Pointsman at that endpoint."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def act(self, act: Act, node: str) -> None:
        """Do it; returns when it is done. Raises DrillError where it cannot be."""

    async def heal(self, act: Act, node: str) -> None:
        """Undo it, as far as a hand is needed. Raises DrillError."""

    async def former_rows(self, node: str) -> dict[tuple[int, int], int] | None:
        """The ledger of a former primary, before it followed another; None where nobody could look."""

    def log(self) -> str:
        """What Pointsman has logged, as far as it is at hand."""
