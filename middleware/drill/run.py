"""The order of things: load, break, watch until it is borne, heal, watch until all is well, stop, check.

In: a drill and a stage that is entered. Out: a Result, also of a drill that got stuck: what was known by then.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import anyio
import msgspec

from middleware.config.drilling import DrillSettings
from middleware.control import slot_of
from middleware.drill import ledger
from middleware.drill.acts import Act
from middleware.drill.books import Failure
from middleware.drill.checks import Findings, Rows, astray, check
from middleware.drill.clock import Clock
from middleware.drill.errors import DrillError
from middleware.drill.figures import Mark, buckets, figures_of, marks_back
from middleware.drill.ledger import Load, Size
from middleware.drill.result import Note, Result
from middleware.drill.scenarios import Drill, Step, Whom
from middleware.drill.stage import Stage
from middleware.drill.verdicts import judge
from middleware.drill.views import Event, View

WARM_S: Final = 1.5
"""Of load before the break, at least; a timeline shows what was usual."""
WARM_MAX_S: Final = 10.0
"""And at most, where reads do not come to reach standbys."""
BROKEN_S: Final = 2.0
"""How long what is broken stays so at least: a lag, or a standby's death, hurts nobody at first."""
BETWEEN_S: Final = 1.5
"""Between two steps: a node that was restarted may look well until it is asked again."""
AFTER_S: Final = 1.0
"""Of load when all is well again."""
LOOK_S: Final = 0.1
HEAL_S: Final = 120.0
"""For what is broken to be healed when a drill is interrupted."""
SETUP_TIMEOUT_S: Final = 30.0
LOG_LINES_MAX: Final = 300
FAILURES_MAX: Final = 30

_NOTICES: Final = ("node_down", "primary_lost")
"""Events that say that something was noticed of a node."""
_FENCES: Final = ("fenced", "failover_begun")


class Run:
    """One drill, played once."""

    def __init__(
        self,
        drill: Drill,
        stage: Stage,
        targets: DrillSettings,
        size: Size,
        seed: int,
        tell: Callable[[Note | Event], None],
    ) -> None:
        self.clock: Final = Clock()
        self._drill: Final = drill
        self._stage: Final = stage
        self._targets: Final = targets
        self._seed: Final = seed
        # For what is replayed, not for secrets.
        self._rng: Final = random.Random(seed)  # noqa: S311
        self._tell: Final = tell
        self.load: Final = Load(stage.login, size, self.clock, self._rng)
        self._marks: Final[dict[Mark, float]] = {}
        self._notes: Final[list[Note]] = []
        self._events: Final[list[Event]] = []
        self._broken: Final[list[tuple[Act, str]]] = []
        """What is still to be healed."""
        self._first = ""
        """Who was the primary at the beginning."""
        self._touched: Final[set[str]] = set()
        self._stopped_at = 0.0

    async def play(self) -> Result:
        """To its end. Raises DrillError only where there was nothing to be seen: the ledger could not be made."""
        await self._set_up()
        began = self.clock.now()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stage.pointsman.follow, self._heard)
                async with self._loaded():
                    trouble = await self._told()
                tasks.cancel_scope.cancel()
            return await self._result(began, trouble)
        finally:
            if not self._stage.disposable:
                with anyio.move_on_after(SETUP_TIMEOUT_S, shield=True):
                    await self._clear()

    # The story

    async def _told(self) -> str:
        """Tell the story; returns what it got stuck at. What is broken is healed in any case."""
        trouble: list[str] = []
        try:
            await self._story()
        except DrillError as error:
            trouble.append(str(error))
            self._note(f"stuck: {error}")
        finally:
            if self._broken and not (self._stage.disposable and not trouble):
                with anyio.move_on_after(HEAL_S, shield=True):
                    try:
                        await self._heal_all()
                    except DrillError as error:
                        trouble.append(str(error))
        return "; ".join(trouble)

    async def _story(self) -> None:
        """What is done, and what is waited for. Raises DrillError."""
        view = await self._until_well("before the drill")
        self._first = view.primary or ""
        await self._warm(view)
        for step in self._drill.steps:
            for node in self._nodes(step, await self._stage.pointsman.view()):
                if self._touched:
                    await anyio.sleep(BETWEEN_S)
                    await self._until_well(f"before {step.act.value}")
                await self._break(step, node)
                await self._watch(step)
                if step.heals:
                    await self._heal_all()
                await self._until_well(f"after {step.act.value}")
        self._mark(Mark.ALL_WELL)
        self._note("all is well")
        await anyio.sleep(AFTER_S)

    def _nodes(self, step: Step, view: View) -> Iterator[str]:
        """Whom a step is done to, in turn."""
        standbys = [node.name for node in view.standbys()]
        if step.whom is Whom.WORKER and (workers := sorted({slot_of(one) for one in self.load.process_ids})):
            yield str(self._rng.choice(workers))
        elif step.whom is Whom.PRIMARY and view.primary:
            yield view.primary
        elif step.whom is Whom.FORMER and self._first:
            yield self._first
        elif step.whom is Whom.EACH_STANDBY and standbys:
            yield from standbys
        elif step.whom is Whom.STANDBY and standbys:
            yield self._rng.choice(standbys)
        else:
            raise DrillError(f"{step.act.value} needs {step.whom.value}, and there is none")

    async def _warm(self, view: View) -> None:
        """Let the load run until it is as usual: reads at standbys."""
        until, late = self.clock.now() + WARM_S, self.clock.now() + WARM_MAX_S
        while (now := self.clock.now()) < late:
            spread = len(self.load.books.by_node) > 1 or not view.standbys()
            if now >= until and spread and self.load.books.attempts:
                break
            await anyio.sleep(LOOK_S)
        if not self.load.books.acknowledged():
            failures = _grouped(self.load.books.failures)
            raise DrillError(f"no write was acknowledged: {failures[0] if failures else 'none has ended'}")

    async def _break(self, step: Step, node: str) -> None:
        self._touched.add(node)
        if step.heals:
            self._broken.append((step.act, node))
        if Mark.BROKEN not in self._marks:
            self._mark(Mark.BROKEN)
        self._note(step.act.value, node)
        await self._stage.act(step.act, node)

    async def _watch(self, step: Step) -> None:
        """Until clients bear what was broken, or recovery_timeout has passed: the figures tell."""
        began = self.clock.now()
        least = began + (BROKEN_S if step.heals else 0.0)
        while (now := self.clock.now()) < began + self._targets.recovery_timeout:
            noticed = Mark.DETECTED in self._marks or not step.noticeable
            if now >= least and noticed and self._borne(began):
                return
            await anyio.sleep(LOOK_S)
        self._note(f"not over after {self._targets.recovery_timeout:g} s")

    def _borne(self, began: float) -> bool:
        """Whether writes and reads that begun since then have succeeded; in a failover, since the promotion."""
        since = began
        if self._drill.fails_over:
            if Mark.PROMOTED not in self._marks:
                return False
            since = max(began, self._marks[Mark.PROMOTED])
        written = any(one.begun_at > since for one in self.load.books.acknowledged()[-50:])
        return written and any(one.at - one.took_s > since for one in self.load.books.reads[-50:])

    async def _heal_all(self) -> None:
        while self._broken:
            act, node = self._broken.pop()
            try:
                await self._stage.heal(act, node)
            finally:
                self._note(f"healed: {act.value}", node)
                self._mark(Mark.HEALED)

    async def _until_well(self, when: str) -> View:
        """Until Pointsman uses all nodes. Raises DrillError behind recovery_timeout."""
        until = self.clock.now() + self._targets.recovery_timeout
        while True:
            view = await self._stage.pointsman.view()
            if view.well():
                return view
            if self.clock.now() > until:
                ill = [node for node in view.nodes if not node.used or node.condition != "up"]
                why = "; ".join(f"{node.name} is {node.condition}: {node.why}".rstrip(": ") for node in ill)
                why = why or ("no primary" if view.primary is None else "a worker is missing")
                raise DrillError(f"not all is well {when}, after {self._targets.recovery_timeout:g} s: {why}")
            await anyio.sleep(LOOK_S)

    # What is heard and told

    def _heard(self, event: Event) -> None:
        self._events.append(event)
        self._tell(event)
        broken = self._marks.get(Mark.BROKEN)
        if broken is None or event.at < broken:
            return
        if event.what in _NOTICES and event.node in self._touched:
            self._marks.setdefault(Mark.DETECTED, event.at)
        if event.what == "promoted":
            self._marks.setdefault(Mark.PROMOTED, event.at)

    def _note(self, text: str, node: str = "") -> None:
        note = Note(self.clock.now(), text, node)
        self._notes.append(note)
        self._tell(note)

    def _mark(self, mark: Mark) -> None:
        self._marks[mark] = self.clock.now()

    # Around it

    async def _set_up(self) -> None:
        await self._endpoint("could not make the ledger", ledger.MAKE)

    async def _clear(self) -> None:
        with contextlib.suppress(DrillError):
            await self._endpoint("could not remove the ledger", (ledger.DROP,))

    async def _endpoint(self, what: str, statements: tuple[str, ...]) -> None:
        try:
            async with ledger.connected(self._stage.login, SETUP_TIMEOUT_S) as connection:
                for statement in statements:
                    await connection.execute(statement, timeout=SETUP_TIMEOUT_S)
        except ledger.FAILURES as error:
            raise DrillError(f"{what} through the endpoint: {error or type(error).__name__}") from None

    @contextlib.asynccontextmanager
    async def _loaded(self) -> AsyncIterator[None]:
        """The load runs meanwhile."""
        running = asyncio.create_task(self.load.run())
        try:
            yield
            self._stopped_at = self.clock.now()
            self.load.stop()
            await running
        finally:
            if not running.done():
                # Interrupted: what a client waits for may not come for long.
                running.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([running])

    async def _rows(self) -> Rows:
        """The table as the primary has it: a transaction is where writes are."""
        try:
            async with ledger.connected(self._stage.login, SETUP_TIMEOUT_S) as connection, connection.transaction():
                rows = await connection.fetch(ledger.ROWS, timeout=SETUP_TIMEOUT_S)
        except ledger.FAILURES as error:
            raise DrillError(f"could not read the ledger: {error or type(error).__name__}") from None
        return {(row[0], row[1]): row[2] for row in rows}

    async def _findings(self) -> Findings:
        books = self.load.books
        found = check(books.attempts, books.suspects, await self._rows())
        fenced = min((event.at for event in self._events if event.what in _FENCES), default=None)
        former = await self._stage.former_rows(self._first) if self._first else None
        if fenced is None or former is None:
            return found
        return msgspec.structs.replace(found, astray=astray(books.attempts, fenced, former))

    async def _result(self, began: float, trouble: str) -> Result:
        books, drill, ended = self.load.books, self._drill, self._stopped_at
        findings = None
        try:
            findings = await self._findings()
        except DrillError as error:
            trouble = "; ".join(filter(None, (trouble, str(error))))
        self._marks.setdefault(Mark.BROKEN, ended)
        figures = figures_of(books, self._marks, ended)
        self._marks.update(marks_back(figures))
        synchronous = self._stage.synchronous
        noticed = Mark.DETECTED in self._marks
        verdicts = judge(
            drill, figures, findings or Findings(), self._targets, synchronous=synchronous, noticed=noticed
        )
        passed = not trouble and all(verdict.passed for verdict in verdicts)
        return Result(
            drill=drill.name,
            about=drill.about,
            stage=self._stage.title,
            seed=self._seed,
            began_at=began,
            ended_at=ended,
            trouble=trouble,
            marks={mark.value: self._marks[mark] for mark in Mark if mark in self._marks},
            notes=tuple(self._notes),
            events=tuple(self._events),
            buckets=buckets(books, began, ended),
            figures=figures,
            findings=findings,
            verdicts=verdicts,
            served=dict(sorted(books.by_node.items())),
            failures=_grouped(books.failures),
            log="" if passed else "\n".join(self._stage.log().splitlines()[-LOG_LINES_MAX:]),
        )


def _grouped(failures: list[Failure]) -> tuple[str, ...]:
    """Each kind of failure once, the most frequent first."""
    counted: Counter[str] = Counter()
    for one in failures:
        known = ", outcome unknown" if one.unknown else ""
        lost = ", connection lost" if one.disconnected else ""
        counted[f"{one.doing}: {one.sqlstate or 'no SQLSTATE'} {one.message}{known}{lost}"] += 1
    return tuple(f"{count} x {text}" for text, count in counted.most_common(FAILURES_MAX))
