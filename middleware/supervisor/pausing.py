"""PgBouncer's PAUSE, RESUME, DISABLE, ENABLE, RECONNECT, KILL, SUSPEND and WAIT_CLOSE, over all workers.

In: an order, who gives it, and `tell` for what it waits for meanwhile. Out: it returns when what PgBouncer promises is
so. One that is cancelled while it waits takes back what it has begun itself.

A database is called what clients call it in their startup messages, whatever a rule's server_database makes of it.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

Tell = Callable[[str], None]
"""Told what an order waits for, in words, when that has changed: a notice to whoever has given it."""


def unheard(_text: str) -> None:
    """For who does not listen."""


class DatabaseState(msgspec.Struct, frozen=True):
    """What was said of one database."""

    name: str
    paused: bool = False
    disabled: bool = False


class PauseState(msgspec.Struct, frozen=True):
    """What was said of all databases, and of some. Those that are not named here are neither paused nor disabled by
    themselves."""

    everything: Literal["active", "paused", "suspended"] = "active"
    """Of all of them: SHOW STATE."""
    databases: tuple[DatabaseState, ...] = ()
    """By name."""

    def paused(self, database: str) -> bool:
        """Whether a database is paused, by itself or with all others."""
        return self.everything == "paused" or any(one.paused for one in self.databases if one.name == database)

    def disabled(self, database: str) -> bool:
        return any(one.disabled for one in self.databases if one.name == database)


class Pausing(Protocol):
    """`database`: None for all. `who`: for the events and the log. All raise PointsmanError."""

    def state(self) -> PauseState:
        """What is paused, suspended and disabled now."""

    async def pause(self, database: str | None, who: str, tell: Tell = unheard) -> None:
        """Lend no server of it any more; returns when none is lent, and all are closed. 55000 where all are paused or
        suspended already."""

    async def resume(self, database: str | None, who: str) -> tuple[str, ...]:
        """Go on after pause, kill or suspend. None ends what was said of all of them, not what was said of one by its
        name: the names of those are returned. 55000 where it is not paused."""

    async def disable(self, database: str, who: str) -> None:
        """Let no new client in to it."""

    async def enable(self, database: str, who: str) -> None:
        """Let new clients in again."""

    async def reconnect(self, database: str | None, who: str) -> None:
        """Close each server when it comes back, at once where it is idle."""

    async def kill(self, database: str | None, who: str) -> None:
        """Close all clients and servers at once, and pause it. 55000 where all are paused or suspended already."""

    async def kill_client(self, process_id: int, who: str) -> None:
        """Close a client's connection, by its process id in SHOW CLIENTS, and end what it has under way. 42704 where
        there is none."""

    async def suspend(self, who: str, tell: Tell = unheard) -> None:
        """Read nothing more from clients and servers; returns when all that was read has been passed on. 55000 where
        anything is paused or suspended already."""

    async def wait_close(self, database: str | None, tell: Tell = unheard) -> None:
        """Returns when no server is left that was there when reconnect was said."""


ShutdownMode = Literal["now", "wait_for_servers", "wait_for_clients"]


class Stopping(Protocol):
    """How this Pointsman ends."""

    def shutdown(self, mode: ShutdownMode, who: str) -> None:
        """Returns at once; one that is more urgent takes the place of another. 55000 for one that is less.

        "now": open transactions may end within shutdown_timeout, as at SIGTERM. "wait_for_servers": no new clients, all
        is paused, who waits for a server is sent away; it ends when no server is lent. "wait_for_clients": no new
        clients; it ends when the last has gone."""
