"""PgBouncer's PAUSE, RESUME, DISABLE, ENABLE, RECONNECT, KILL, SUSPEND and WAIT_CLOSE, over all workers.

In: an order, who gives it, and `tell` for what it waits for meanwhile. Out: it returns when what PgBouncer promises is
so. One that is cancelled while it waits takes back what it has begun itself.

A database is called what clients call it in their startup messages, whatever a rule's server_database makes of it.

    pause, kill, suspend --SetPauses--> every worker, a new one before it takes clients
                         <--PauseProgress-- what is left there, until nothing is
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal

import anyio
import msgspec

from healthcheck.guard import Happening
from middleware import sqlstate
from middleware.config import RoutePolicy
from middleware.control import (
    BEFORE,
    Down,
    Kill,
    KillClient,
    Left,
    Obeyed,
    PauseProgress,
    Reconnect,
    SetPauses,
    slot_of,
)
from middleware.errors import PointsmanError
from middleware.relay.policies import Policies

ANSWER_S: Final = 5.0
"""For workers to do what takes no waiting."""
TELL_S: Final = 1.0
"""How often is said what an order waits for, at most."""
CONSOLES: Final = ("pointsman", "pgbouncer")
"""The databases of the console: nobody is kept from it."""

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
    by: str = ""
    """Who has paused or suspended all."""

    def paused(self, database: str) -> bool:
        """Whether a database is paused, by itself or with all others."""
        return self.everything == "paused" or any(one.paused for one in self.databases if one.name == database)

    def disabled(self, database: str) -> bool:
        return any(one.disabled for one in self.databases if one.name == database)


class Pausing:
    """One Pointsman's. `database`: None for all. `who`: for the events and the log. All orders raise PointsmanError."""

    def __init__(
        self,
        policies: Sequence[RoutePolicy],
        send: Callable[[int, Down], None],
        running: Callable[[], Sequence[int]],
        happened: Callable[[Happening], None],
        changed: Callable[[bool], None],
        *,
        worker_of: Callable[[int], int] = slot_of,
    ) -> None:
        """`running`: the workers that have a process. `changed` is called when something else is paused; with True
        where all had been, and go on. `worker_of`: whose client has a process id."""
        self.use(policies)
        self._send: Final = send
        self._worker_of: Final = worker_of
        self._running: Final = running
        self._happened: Final = happened
        self._changed: Final = changed
        self._everything: Literal["active", "paused", "suspended"] = "active"
        self._by = ""
        """Who has paused or suspended all."""
        self._paused: set[str] = set()
        self._disabled: set[str] = set()
        self._closing: Counter[str | None] = Counter()
        """Of which somebody waits until all is closed that is to be."""
        self._ending = False
        self._told = SetPauses(0)
        self._progress: Final[dict[int, PauseProgress]] = {}
        self._orders: Final[dict[int, _Order]] = {}
        self._last_order = 0
        self._moved = anyio.Event()

    def use(self, policies: Sequence[RoutePolicy]) -> None:
        """These are the rules by which clients are led to databases."""
        self._policies = Policies(tuple(policies))
        self._mapped = frozenset(policy.server_database for policy in policies if policy.server_database)

    # The workers

    def greeting(self) -> SetPauses:
        """What a new process is told before it has clients."""
        return self._told

    def reported(self, worker: int, progress: PauseProgress) -> None:
        """A worker tells what is left there."""
        self._progress[worker] = progress
        self._move()

    def obeyed(self, worker: int, message: Obeyed) -> None:
        """A worker has carried out an order."""
        order = self._orders.get(message.serial)
        if order is not None and worker in order.silent:
            order.silent.discard(worker)
            order.count += message.count
            self._move()

    def ended(self, worker: int) -> None:
        """Its process is gone, with its clients and servers."""
        self._progress.pop(worker, None)
        for order in self._orders.values():
            order.silent.discard(worker)
        self._move()

    # What is so

    def state(self) -> PauseState:
        """What is paused, suspended and disabled now."""
        names = sorted(self._paused | self._disabled)
        return PauseState(
            self._everything,
            tuple(DatabaseState(name, name in self._paused, name in self._disabled) for name in names),
            self._by if self._everything != "active" else "",
        )

    def restore(self, state: PauseState) -> None:
        """Have it be as another Pointsman says that it was there."""
        self._everything, self._by = state.everything, state.by
        self._paused = {one.name for one in state.databases if one.paused}
        self._disabled = {one.name for one in state.databases if one.disabled}
        self._say()

    def heed(self, told: SetPauses, who: str) -> None:
        """Do as another Pointsman tells its own workers."""
        self._everything, self._by = told.everything, who
        self._paused, self._disabled = set(told.paused), set(told.disabled)
        self._closing = Counter(told.closing)
        self._say()

    def progress(self, serial: int) -> PauseProgress | None:
        """What all workers have told, as one would in answer to number `serial`; None where one has not."""
        told = self._told
        everything = (None,) if told.everything != "active" else ()
        found = [self._left(told.serial, one) for one in dict.fromkeys((*everything, *told.paused, *told.closing))]
        silent = [one for one in self._running() if one not in self._progress]
        silent += [one for one in self._running() if one not in silent and self._progress[one].serial < told.serial]
        if silent or any(late for late, _ in found):
            return None
        return PauseProgress(serial, tuple(left for _, left in found))

    def all_closed(self, worker: int) -> bool:
        """Whether a worker has told that it has no server left, of all that is paused."""
        progress = self._progress.get(worker)
        if progress is None or progress.serial < self._told.serial:
            return False
        return any(one.database is None and not one.servers and not one.replicating for one in progress.left)

    def stays(self) -> str:
        """Why no standby is to be promoted: whoever has all paused may have the primary restarted. "" for no reason."""
        return f"all databases are paused by {self._by}" if self._everything == "paused" else ""

    def lets_go(self, database: str) -> bool:
        """Whether nothing of ours is to be connected to a database, as nodes call it: no client is let to it."""
        if self._everything == "paused":
            return True
        return database in self._paused and database not in self._mapped and self._leads_to(database) == {database}

    def _leads_to(self, database: str) -> set[str]:
        """What nodes call the databases that clients may be led to who ask for this one."""
        return {policy.server_database or database for policy in self._policies.leading(database)}

    # Orders

    async def pause(self, database: str | None, who: str, tell: Tell = unheard) -> None:
        """Lend no server of it any more; returns when none is lent, and all are closed.

        55000 where all are paused or suspended already. Cancelled, what was not paused before goes on."""
        self._check(database)
        self._refuse_if_stopped()
        began = database is None or database not in self._paused
        if database is None:
            self._everything, self._by = "paused", who
        else:
            self._paused.add(database)
        self._say("paused", f"{whom(database)} paused by {who}" if began else "")
        try:
            await self._until_closed(database, tell)
        except BaseException:
            if began and self._is_paused(database):
                self._end_pause(database)
                self._say("resumed", f"{whom(database)} resumed: the PAUSE of {who} was called off")
            raise

    async def resume(self, database: str | None, who: str) -> tuple[str, ...]:
        """Go on after pause, kill or suspend.

        None ends what was said of all of them, not what was said of one by its name: those names are returned. 55000
        where it is not paused."""
        self._check(database)
        if self._ending:
            raise _refused("Pointsman is shutting down")
        if database is None and self._everything == "active":
            hint = f"Paused by their names: {', '.join(sorted(self._paused))}." if self._paused else ""
            raise _refused("Pointsman is not paused or suspended", hint=hint)
        if database is not None and database not in self._paused:
            hint = "All are: RESUME without a name." if self._everything == "paused" else ""
            raise _refused(f'database "{database}" is not paused', hint=hint)
        self._end_pause(database)
        self._say("resumed", f"{whom(database)} resumed by {who}")
        return tuple(sorted(self._paused)) if database is None else ()

    async def disable(self, database: str, who: str) -> None:
        """Let no new client in to it."""
        self._check(database)
        self._disabled.add(database)
        await self._have_all_know(self._say("disabled", f'database "{database}" was disabled by {who}'))

    async def enable(self, database: str, who: str) -> None:
        """Let new clients in again."""
        self._check(database)
        self._disabled.discard(database)
        await self._have_all_know(self._say("enabled", f'database "{database}" was enabled by {who}'))

    async def reconnect(self, database: str | None, who: str) -> None:
        """Close each server when it comes back, at once where it is idle."""
        self._check(database)
        self._tell("reconnect", f"RECONNECT of {whom(database)} by {who}")
        await self._order(lambda serial: Reconnect(serial, database))

    async def kill(self, database: str | None, who: str) -> None:
        """Close all clients and servers at once, and pause it. 55000 where all are suspended."""
        self._check(database)
        if self._everything == "suspended":
            raise _refused("Pointsman is suspended", hint="RESUME first.")
        if database is not None:
            self._paused.add(database)
        elif self._everything == "active":
            self._everything, self._by = "paused", who
        self._say("killed", f"{whom(database)} killed by {who}: paused until RESUME")
        await self._order(lambda serial: Kill(serial, database))

    async def kill_client(self, process_id: int, who: str) -> None:
        """Close a client's connection, by its process id in SHOW CLIENTS, and end what it has under way.

        42704 where there is none."""
        worker = self._worker_of(process_id)
        there = worker in self._running() and process_id > 0
        if not there or not await self._order(lambda serial: KillClient(serial, process_id), (worker,)):
            raise PointsmanError(f"client {process_id} not found", sqlstate=sqlstate.UNDEFINED_OBJECT)
        self._tell("client_killed", f"client {process_id} was killed by {who}")

    async def suspend(self, who: str, tell: Tell = unheard) -> None:
        """Read nothing more from clients and servers; returns when all that was read has been passed on.

        55000 where anything is paused or suspended already. Cancelled, all goes on."""
        self._refuse_if_stopped()
        if self._paused:
            raise _refused(
                "cannot suspend with paused databases", hint=f"Paused are: {', '.join(sorted(self._paused))}."
            )
        self._everything, self._by = "suspended", who
        serial = self._say("suspended", f"all databases were suspended by {who}")
        try:
            await self._until(serial, None, tell, lambda left: left.unsent, lambda: self._everything == "suspended")
        except BaseException:
            if self._everything == "suspended":
                self._end_pause(None)
                self._say("resumed", f"all databases were resumed: the SUSPEND of {who} was called off")
            raise

    async def wait_close(self, database: str | None, tell: Tell = unheard) -> None:
        """Returns when no server is left that was there when reconnect was said."""
        self._check(database)
        self._closing[database] += 1
        try:
            await self._until(self._say(), database, tell, lambda left: left.to_close, lambda: True)
        finally:
            self._closing[database] -= 1
            if not self._closing[database]:
                del self._closing[database]
                self._say()

    def end(self, who: str) -> None:
        """All is paused until this Pointsman ends: it ends once no server is left."""
        self._ending = True
        self._everything, self._by = "paused", who
        self._say("paused", f"{whom(None)} paused by {who}, who has Pointsman shut down")

    # Carrying them out

    def _check(self, database: str | None) -> None:
        if database in CONSOLES:
            raise PointsmanError(
                f'database "{database}" is the console\'s', sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE
            )
        if database is not None and not self._policies.leading(database):
            raise PointsmanError(f'database "{database}" does not exist', sqlstate=sqlstate.INVALID_CATALOG_NAME)

    def _refuse_if_stopped(self) -> None:
        if self._everything != "active":
            raise _refused("already suspended/paused", detail=f"All are {self._everything}, by {self._by}.")

    def _is_paused(self, database: str | None) -> bool:
        return self._everything == "paused" if database is None else database in self._paused

    def _end_pause(self, database: str | None) -> None:
        if database is None:
            self._everything = "active"
        else:
            self._paused.discard(database)

    def _say(self, what: str = "", text: str = "") -> int:
        """Tell all workers what is so now; returns the number by which they answer."""
        before = self._told
        self._told = SetPauses(
            before.serial + 1,
            self._everything,
            tuple(sorted(self._paused)),
            tuple(sorted(self._disabled)),
            tuple(self._closing),
        )
        for worker in self._running():
            self._send(worker, self._told)
        if text:
            self._tell(what, text)
        if (before.everything, before.paused) != (self._told.everything, self._told.paused):
            self._changed(before.everything == "paused" and self._everything == "active")
        self._move()
        return self._told.serial

    def _tell(self, what: str, text: str) -> None:
        self._happened(Happening(time.time(), what, text))

    def _move(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def _until_closed(self, database: str | None, tell: Tell) -> None:
        await self._until(
            self._told.serial,
            database,
            tell,
            lambda left: left.servers + left.replicating,
            lambda: self._is_paused(database),
        )

    async def _until(
        self, serial: int, database: str | None, tell: Tell, counts: Callable[[Left], int], holds: Callable[[], bool]
    ) -> None:
        """Until all workers go by what was said, and nothing is left that `counts`. Raises PointsmanError where that
        does not hold any more."""
        last, next_at = "", time.monotonic() + TELL_S
        while True:
            moved = self._moved
            if not holds():
                raise _refused("somebody else has resumed it meanwhile")
            silent, left = self._left(serial, database)
            if not silent and not counts(left):
                return
            text, now = waits_for(silent, left), time.monotonic()
            if now >= next_at and text != last:
                tell(text)
                last, next_at = text, now + TELL_S
            with anyio.move_on_after(max(0.0, next_at - now) if text != last else None):
                await moved.wait()

    def _left(self, serial: int, database: str | None) -> tuple[list[int], Left]:
        """Who has not answered, and what is left with those who have."""
        silent: list[int] = []
        total = [0] * 6
        for worker in self._running():
            progress = self._progress.get(worker)
            found = None
            if progress is not None and progress.serial >= serial:
                found = next((one for one in progress.left if one.database == database), None)
            if found is None:
                silent.append(worker)
            else:
                numbers = msgspec.structs.astuple(found)[1:]
                total = [sum(pair) for pair in zip(total, numbers, strict=True)]
        return silent, Left(database, *total)

    async def _have_all_know(self, serial: int) -> None:
        """Until all workers go by what was said. Raises PointsmanError."""

        def silent() -> list[int]:
            known = self._progress
            return [one for one in self._running() if one not in known or known[one].serial < serial]

        await self._in_time(silent)

    async def _order(self, make: Callable[[int], Down], workers: Sequence[int] | None = None) -> int:
        """Have all workers that run, or some, carry out an order; returns how many were concerned. Raises
        PointsmanError."""
        self._last_order += 1
        order = _Order(set(self._running() if workers is None else workers))
        serial = self._last_order
        self._orders[serial] = order
        try:
            for worker in list(order.silent):
                self._send(worker, make(serial))
            await self._in_time(lambda: sorted(order.silent))
        finally:
            del self._orders[serial]
        return order.count

    async def _in_time(self, silent: Callable[[], list[int]]) -> None:
        with anyio.move_on_after(ANSWER_S):
            while silent():
                await self._moved.wait()
        if late := silent():
            raise _refused(
                f"{_workers(late)} not answered within {ANSWER_S:g} s",
                detail="It is done there as soon as it goes on.",
            )


class _Order:
    def __init__(self, workers: set[int]) -> None:
        self.silent = workers
        self.count = 0


def whom(database: str | None) -> str:
    """The beginning of what was done to it, in words."""
    return "all databases were" if database is None else f'database "{database}" was'


def waits_for(silent: Sequence[int], left: Left) -> str:
    """What has not ended, in words."""
    lent = left.busy + left.resting
    parts = [
        f"{many(left.busy, 'server')} with transactions or statements under way" if left.busy else "",
        f"{many(left.resting, 'server')} that clients keep because their session is there" if left.resting else "",
        many(left.replicating, "replication connection") if left.replicating else "",
        f"{many(left.servers - lent, 'server')} to be closed" if left.servers > lent else "",
        f"{many(left.to_close, 'server')} to be renewed" if left.to_close and not left.servers else "",
        f"{many(left.unsent, 'connection')} to take what was read for them" if left.unsent else "",
        f"answers: {_workers(silent)} not answered" if silent else "",
    ]
    return f"waiting for {', '.join(part for part in parts if part)}"


def many(count: int, what: str) -> str:
    """So many, in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _workers(those: Sequence[int]) -> str:
    numbers = ["of the process before" if one == BEFORE else str(one) for one in those]
    return f"worker {numbers[0]} has" if len(numbers) == 1 else f"workers {', '.join(numbers)} have"


def _refused(message: str, *, detail: str = "", hint: str = "") -> PointsmanError:
    return PointsmanError(message, detail=detail, hint=hint, sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE)
