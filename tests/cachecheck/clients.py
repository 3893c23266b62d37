"""The clients of a load: those that read, and those that write some registers and read them and others'.

Each goes on until the load stops, with a new session when it has lost one.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from tests.cachecheck.connections import FAILURES, cancel, leave, outcome, sever, sqlstate_of
from tests.cachecheck.history import DIRECT, Outcome, Write
from tests.cachecheck.registers import FAIL_AT_COMMIT, Look, Way
from tests.cachecheck.session import TURN_TIMEOUT_S, Lost, Session
from tests.cachecheck.world import Spot, World
from tests.consistency.drivers import Connect

AGAIN_S: Final = 0.05
"""Behind a connection that could not be had."""
PAUSE_MAX_S: Final = 0.02
BURST_MAX: Final = 5
TRANSACTION_SHARE: Final = 0.12
HOT_SHARE: Final = 0.6
OTHER_LOOK_SHARE: Final = 0.3
READS_IN_TRANSACTION_MAX: Final = 6
WRITE_SHARE: Final = 0.6
PAUSE_BETWEEN_WRITES_MAX_S: Final = 0.03
VIOLENCE_SHARE: Final = 0.03
VIOLENCE_MAX_S: Final = 0.006
SEVER_SHARE: Final = 0.5

BEGINS: Final[Mapping[str, tuple[int, bool]]] = {
    "BEGIN": (1, False),
    "BEGIN READ ONLY": (2, False),
    "BEGIN ISOLATION LEVEL REPEATABLE READ": (2, True),
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY": (3, True),
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE": (1, True),
}
"""How a transaction that reads begins: how often, and whether all of it sees one snapshot."""


class Reader:
    """Reads registers: what is hot, the same again, and several in a transaction."""

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._world: Final = session.world
        self._rng: Final = session.rng

    async def turn(self) -> None:
        """A few reads."""
        rng = self._rng
        try:
            if rng.random() < TRANSACTION_SHARE:
                await self._transaction()
            else:
                await self._burst(*self._choose())
        except FAILURES as error:
            await self._session.recover(error)
        await asyncio.sleep(rng.uniform(0, PAUSE_MAX_S))

    def _choose(self) -> tuple[Spot, Look]:
        if self._rng.random() < HOT_SHARE:
            return self._world.hot(time.monotonic())
        return self._world.choose(self._rng)

    async def _burst(self, spot: Spot, look: Look) -> None:
        """The same read several times, with another look at the same register in between at times."""
        for _ in range(self._rng.randint(1, BURST_MAX)):
            other = self._rng.random() < OTHER_LOOK_SHARE
            await self._session.look(spot, self._rng.choice(spot.kind.looks) if other else look)

    async def _transaction(self) -> None:
        """Reads of few registers, in whatever way: in one with a snapshot all must agree."""
        begins = self._rng.choices(list(BEGINS), [weight for weight, _ in BEGINS.values()])[0]
        snapshot = self._world.snapshot() if BEGINS[begins][1] else 0
        chosen = [self._choose()[0] for _ in range(2)]
        begin = time.monotonic()
        await self._session.script(begins)
        as_of = 0.0
        if snapshot:
            # The standby that it has gone to was fresh as of its BEGIN.
            as_of = begin if begins.endswith("READ ONLY") else time.monotonic()
        for _ in range(self._rng.randint(2, READS_IN_TRANSACTION_MAX)):
            spot = self._rng.choice(chosen)
            if spot.kind.mvcc or not snapshot:
                look = self._rng.choice(spot.kind.looks)
                await self._session.look(spot, look, snapshot=snapshot, as_of=as_of)
            await asyncio.sleep(self._rng.uniform(0, PAUSE_MAX_S))
        await self._session.script(self._rng.choice(("COMMIT", "ROLLBACK")))


FORMS: Final[Mapping[str, int]] = {
    "autocommit": 8,
    "pipeline": 4,
    "commit": 8,
    "commit after ROLLBACK TO another": 1,
    "rollback": 3,
    "ROLLBACK TO, commit": 2,
    "failed commit": 2,
    "commit after an error": 2,
    "two phases": 2,
    "two phases, rolled back": 1,
}
"""What becomes of a write, and how often in relation to each other."""


class Writer(Reader):
    """Writes the registers that are its own, and reads all."""

    def __init__(self, session: Session, own: Sequence[Spot], gids: Iterator[int]) -> None:
        super().__init__(session)
        self._own: Final = own
        self._gids: Final = gids

    async def turn(self) -> None:
        """A write with a look at it, or a few reads."""
        if self._rng.random() > WRITE_SHARE:
            await super().turn()
            return
        spot = self._rng.choices(self._own, [spot.kind.weight for spot in self._own])[0]
        ways = [way for way in spot.kind.ways if way.directly or self._may_define()]
        if not ways:
            await super().turn()
            return
        way = self._rng.choices(ways, [way.weight for way in ways])[0]
        attempt = Attempt(self._session, spot, way, self._form(way), next(self._gids))
        try:
            await attempt.run()
            if self._rng.random() < 0.7:
                await self._burst(spot, self._rng.choice(spot.kind.looks))
        except FAILURES as error:
            await self._session.recover(error)
        await asyncio.sleep(self._rng.uniform(0, PAUSE_BETWEEN_WRITES_MAX_S))

    def _may_define(self) -> bool:
        return self._session.instance != DIRECT and self._session.world.may_define(time.monotonic())

    def _form(self, way: Way) -> str:
        forms = [form for form in FORMS if self._can(way, form)]
        return self._rng.choices(forms, [FORMS[form] for form in forms])[0]

    def _can(self, way: Way, form: str) -> bool:
        if way.commits:
            return form == "autocommit"
        if form == "autocommit":
            return way.alone
        if form == "pipeline":
            plain = way.alone and len(way.statements) == 1 and not way.literal and not way.copy
            return plain and self._session.client.pipelines
        # DDL that waits for its second phase would hold up everybody's catalog.
        return way.certain or not form.startswith("two phases")


class Attempt:
    """One write, from its first statement to what is known of it."""

    def __init__(self, session: Session, spot: Spot, way: Way, form: str, gid: int) -> None:
        self._session: Final = session
        self._world: Final = session.world
        self._rng: Final = session.rng
        self._spot: Final = spot
        self._way: Final = way
        self._form: Final = form
        self._gid: Final = f"cachecheck_{gid}"
        self._version: Final = self._world.next_version(spot)
        self._commit = 0.0
        """When what may commit was sent; 0 as long as nothing was."""
        self._applied = False
        """A statement has succeeded that commits by itself."""
        self._read_behind: Callable[[], None] | None = None
        """Writes down the read that was sent behind the write."""

    async def run(self) -> None:
        """Do it, and write it down. Raises what drivers raise, and Lost behind violence."""
        begin = time.monotonic()
        known = Outcome.UNKNOWN
        if not self._way.directly:
            self._world.defined_at = begin
        try:
            known = await self._violently() if self._violent() else await self._do()
        except Lost:
            # What was not told to commit is rolled back with its client.
            known = Outcome.UNKNOWN if self._commit else Outcome.FAILED
            raise
        except FAILURES as error:
            known = self._outcome_after(error)
            raise
        finally:
            self._record(begin, time.monotonic(), known)

    def _record(self, begin: float, end: float, known: Outcome) -> None:
        session, spot = self._session, self._spot
        what = f"{self._way.name}, {self._form}"
        self._world.ways[f"{spot.kind.name}: {self._way.name}"] += 1
        self._world.forms[self._form] += 1
        commit = self._commit or end
        write = Write(session.name, session.instance, what, spot.register, self._version, begin, commit, end, known)
        self._world.record(write)
        if self._read_behind is not None:
            self._read_behind()

    def _outcome_after(self, error: BaseException) -> Outcome:
        if self._form == "two phases, rolled back":
            return Outcome.FAILED
        if self._applied or (self._commit and (self._way.commits or self._form in ("pipeline", "two phases"))):
            return Outcome.UNKNOWN
        return outcome(error, self._session.instance, bool(self._commit))

    # Violence

    def _violent(self) -> bool:
        possible = self._way.certain and self._form in ("autocommit", "commit") and self._session.instance != DIRECT
        return possible and self._rng.random() < VIOLENCE_SHARE

    async def _violently(self) -> Outcome:
        """Cancel it, or cut its client off, at some moment."""
        doing = asyncio.create_task(self._do())
        await asyncio.sleep(self._rng.uniform(0, VIOLENCE_MAX_S))
        if self._rng.random() > SEVER_SHARE:
            await cancel(self._session.client)
            return await doing
        sever(self._session.client)
        self._world.failures["severed"] += 1
        try:
            return await doing
        except FAILURES:
            raise Lost from None

    # The forms

    async def _do(self) -> Outcome:
        match self._form:
            case "autocommit":
                return await self._autocommit()
            case "pipeline":
                return await self._pipeline()
            case "two phases" | "two phases, rolled back":
                return await self._two_phases()
            case _:
                return await self._transaction()

    async def _autocommit(self) -> Outcome:
        self._commit = time.monotonic()
        for statement in self._way.statements:
            await self._put(statement)
            self._applied = len(self._way.statements) > 1
        return Outcome.ACKNOWLEDGED

    async def _pipeline(self) -> Outcome:
        look = self._rng.choice(self._spot.kind.looks)
        begin = self._commit = time.monotonic()
        async with asyncio.timeout(TURN_TIMEOUT_S):
            rows = await self._session.client.rows_after(
                self._way.statements[0],
                look.sql,
                first_arguments=(self._spot.key, self._version),
                arguments=(self._spot.key,),
            )
        self._read_behind = lambda: self._session.seen(self._spot, look, rows, begin)
        return Outcome.ACKNOWLEDGED

    async def _transaction(self) -> Outcome:
        session, form = self._session, self._form
        await session.script("BEGIN")
        if form == "ROLLBACK TO, commit":
            await session.script("SAVEPOINT before")
        if form == "commit after ROLLBACK TO another":
            await self._undone()
        await self._put_all()
        await self._look_within()
        if form == "failed commit":
            await session.script(FAIL_AT_COMMIT)
        if form == "ROLLBACK TO, commit":
            await session.script("ROLLBACK TO before")
        if form == "commit after an error":
            await self._err()
        return await self._end()

    async def _end(self) -> Outcome:
        session, form = self._session, self._form
        if form == "rollback":
            await session.script("ROLLBACK")
            return Outcome.FAILED
        # The COMMIT of what cannot be committed shows nobody anything.
        commits = form in ("commit", "commit after ROLLBACK TO another")
        if commits:
            self._commit = time.monotonic()
        try:
            await session.script("COMMIT")
        except FAILURES as error:
            if form == "failed commit" and sqlstate_of(error) == "23503":
                return Outcome.FAILED
            raise
        return Outcome.ACKNOWLEDGED if commits else Outcome.FAILED

    async def _two_phases(self) -> Outcome:
        """PREPARE TRANSACTION, and then its end by whatever server that takes."""
        session = self._session
        try:
            await session.script("BEGIN")
            await self._put_all()
            await session.script(f"PREPARE TRANSACTION '{self._gid}'")
            await self._burst_between()
            if self._form == "two phases, rolled back":
                await session.script(f"ROLLBACK PREPARED '{self._gid}'")
                return Outcome.FAILED
            self._commit = time.monotonic()
            await session.script(f"COMMIT PREPARED '{self._gid}'")
        except FAILURES:
            await self._world.resolve(self._gid)
            raise
        return Outcome.ACKNOWLEDGED

    async def _burst_between(self) -> None:
        """A look at what is prepared: nobody sees it, its own session included."""
        kind = self._spot.kind
        if kind.mvcc:
            await self._session.look(self._spot, self._rng.choice(kind.looks))

    async def _undone(self) -> None:
        """Something else of the transaction that is rolled back, before what is not."""
        await self._session.script(f"SAVEPOINT before; {FAIL_AT_COMMIT}; ROLLBACK TO before")

    async def _err(self) -> None:
        """What follows in the transaction fails, and COMMIT is answered with ROLLBACK."""
        try:
            await self._session.script("SELECT 1 / 0")
        except FAILURES as error:
            if sqlstate_of(error) != "22012":
                raise

    async def _put_all(self) -> None:
        for statement in self._way.statements:
            await self._put(statement)

    async def _put(self, statement: str) -> None:
        way = self._way
        await self._session.put(self._spot, statement, self._version, as_literal=way.literal, copy=way.copy)

    async def _look_within(self) -> None:
        """The transaction sees what it has written."""
        if self._rng.random() < 0.5:
            look = self._rng.choice(self._spot.kind.looks)
            await self._session.look(self._spot, look, own=self._version)


async def client(
    world: World,
    connects: Sequence[Connect],
    instance: str,
    rng: random.Random,
    at_work: Callable[[Session], Reader],
) -> None:
    """Sessions, one after another, of a client that is a reader or a writer."""
    for number in itertools.count():
        if world.stop.is_set():
            return
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                connected = await connects[number % len(connects)](world.endpoint(instance))
        except FAILURES as error:
            world.failures[sqlstate_of(error) or type(error).__name__] += 1
            await asyncio.sleep(AGAIN_S)
            continue
        session = Session(world, connected, instance, rng)
        try:
            if world.telling and instance != DIRECT:
                await session.tell()
            await _turns(world, at_work(session).turn)
        except FAILURES as error:
            world.failures[sqlstate_of(error) or type(error).__name__] += 1
        finally:
            await leave(connected)


async def _turns(world: World, turn: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(Lost):
        while not world.stop.is_set():
            await turn()
