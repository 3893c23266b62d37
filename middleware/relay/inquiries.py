"""Logins that wait for what auth_query says of their users: one question for all of a user's, asked again if its answer
is lost.

The control plane answers each question, late where the nodes are slow, but drops answers for a worker that does not
read. A question that is asked twice does no harm.
"""

from collections.abc import Callable
from typing import Final, Protocol

ASK_AGAIN_S: Final = 5.0


class Asking(Protocol):
    """A login that waits."""

    def waits(self) -> bool:
        """False when it is over, whatever came of it."""

    def secret_arrived(self, failed: bool) -> None:
        """The authority knows of its user; or nobody could be asked."""


class Inquiries:
    """Those of one worker."""

    __slots__ = ("_ask", "_open")

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask: Final = ask
        self._open: Final[dict[str, tuple[float, list[Asking]]]] = {}
        """By user: when it was last asked for, and who waits for the answer."""

    def begin(self, user: str, login: Asking, now: float) -> None:
        """`login` is told, and not before this returns, when it is known who `user` is."""
        if user in self._open:
            self._open[user][1].append(login)
        else:
            self._open[user] = now, [login]
            self._ask(user)

    def end(self, user: str, failed: bool) -> None:
        """The answer is there, and the authority has it; or there is none to be had."""
        if user in self._open:
            for login in self._open.pop(user)[1]:
                login.secret_arrived(failed)

    def tick(self, now: float) -> None:
        """Ask again where an answer is long in coming, and somebody waits for it still."""
        for user, (asked_at, logins) in list(self._open.items()):
            if now - asked_at >= ASK_AGAIN_S:
                waiting = [login for login in logins if login.waits()]
                if waiting:
                    self._open[user] = now, waiting
                    self._ask(user)
                else:
                    del self._open[user]
