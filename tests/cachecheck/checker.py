"""Whether a history keeps what was promised. No I/O, no clock: a history in, Findings out.

At every level
    phantom     a version that nobody has asked for
    aborted     one whose write was rolled back, or reported as failed
    dirty       one whose commit was not even sent when the read had ended
    own         a transaction does not see what it has written itself
    torn        one answer shows two versions of a register, or a sum that was never there
    snapshot    two answers in one REPEATABLE READ transaction show two versions of a register
    lost        a version that went with a former primary is shown after the failover
At `session` and above, for each session
    unread      what it was told is committed is not there
    backwards   a version below one that it has read
At `global`
    unseen      what *anybody* was told is committed, through the same Pointsman and before the read began, is not there

What was written elsewhere (by another Pointsman, or on the primary itself) is promised to nobody but where a watcher
decodes the WAL: then `backwards` holds for it too.

A failover cuts the history. What began before the kill and ended after it, or began before all was settled, is only
held against the first three. Afterwards sessions begin anew, as what they had seen may be lost; what the new primary
had at its promotion is the least that `global` must show.
"""

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tests.cachecheck.history import DIRECT, History, Operation, Outcome, Read, Write

AROUND_MAX: Final = 14
"""Operations shown around a violation."""


class Promises(msgspec.Struct, frozen=True):
    """What is held against a history."""

    session: bool = True
    everybody: bool = False
    """The level "global"."""
    foreign: bool = False
    """Sessions never go back in what is written elsewhere, either."""


class Violation(msgspec.Struct, frozen=True):
    """A promise that was broken."""

    kind: str
    text: str
    read: Read
    around: tuple[Operation, ...]
    """What was done with the register meanwhile, in the order of time."""


class Findings(msgspec.Struct):
    """What is wrong, and how much was looked at."""

    violations: list[Violation] = msgspec.field(default_factory=list)
    reads: int = 0
    straddling: int = 0
    """Reads in the midst of a failover, of which little is asked."""
    seen: int = 0
    """Versions that were read, each held against all promises."""
    writes: Counter[str] = msgspec.field(default_factory=Counter)
    """By outcome."""
    foreign_backwards: int = 0
    """Not promised: reads that went back in what is written elsewhere."""
    lag_s: dict[str, list[float]] = msgspec.field(default_factory=lambda: {"same": [], "elsewhere": []})
    """Of answers that were not the newest acknowledged: for how long they had not been, by where it was written."""
    lost: int = 0
    """Acknowledged, and gone with a former primary."""

    def count(self) -> Counter[str]:
        """Violations by their kind."""
        return Counter(violation.kind for violation in self.violations)


class _Floor(msgspec.Struct):
    """The least that a session may see of a register, and why."""

    version: int
    why: str
    at: float


def check(history: History, promises: Promises) -> Findings:
    """Hold a history against what was promised."""
    return _Check(history, promises).run()


class _Acknowledged:
    """The acknowledged writes of one register between two failovers, to be asked about a moment or a version."""

    def __init__(self, writes: Iterable[Write]) -> None:
        by_end = sorted(writes, key=lambda write: write.end)
        self._ends: Final = [write.end for write in by_end]
        self._highest: Final[list[int]] = []
        for write in by_end:
            self._highest.append(max(write.version, self._highest[-1] if self._highest else 0))
        by_version = sorted(by_end, key=lambda write: write.version)
        self._versions: Final = [write.version for write in by_version]
        self._earliest: Final[list[float]] = []
        for write in reversed(by_version):
            self._earliest.append(min(write.end, self._earliest[-1] if self._earliest else write.end))
        self._earliest.reverse()

    def before(self, moment: float) -> int:
        """The highest version that was acknowledged before it; 0 if none was."""
        at = bisect.bisect_left(self._ends, moment)
        return self._highest[at - 1] if at else 0

    def superseded(self, version: int) -> float | None:
        """When a later version was first acknowledged."""
        at = bisect.bisect_right(self._versions, version)
        return self._earliest[at] if at < len(self._versions) else None


class _Check:
    def __init__(self, history: History, promises: Promises) -> None:
        self._history: Final = history
        self._promises: Final = promises
        self._findings: Final = Findings()
        self._asked: Final[dict[tuple[str, int], Write]] = {}
        self._touching: Final[dict[str, list[Operation]]] = defaultdict(list)
        """All operations of a register, by time."""
        self._acknowledged: Final[dict[tuple[str, str, int], _Acknowledged]] = {}
        """By register, instance ("" for all of them) and part of the history."""
        self._snapshots: Final[dict[tuple[int, str], tuple[int, Read]]] = {}

    def run(self) -> Findings:
        self._index()
        sessions: dict[str, list[Operation]] = defaultdict(list)
        for operation in self._history.operations:
            sessions[operation.session].append(operation)
        for operations in sessions.values():
            self._session(operations)
        self._findings.violations.sort(key=lambda violation: violation.read.begin)
        return self._findings

    def _index(self) -> None:
        acknowledged: dict[tuple[str, str, int], list[Write]] = defaultdict(list)
        for operation in self._history.operations:
            if isinstance(operation, Write):
                self._index_write(operation, acknowledged)
                self._touching[operation.register].append(operation)
            else:
                for register in {register for register, _ in operation.seen}:
                    self._touching[register].append(operation)
        for operations in self._touching.values():
            operations.sort(key=lambda operation: operation.begin)
        for key, writes in acknowledged.items():
            self._acknowledged[key] = _Acknowledged(writes)

    def _index_write(self, write: Write, acknowledged: dict[tuple[str, str, int], list[Write]]) -> None:
        key = (write.register, write.version)
        assert key not in self._asked, f"version {write.version} of {write.register} was asked for twice"
        self._asked[key] = write
        self._findings.writes[write.outcome.value] += 1
        part = self._part(write.begin, write.end)
        if write.outcome is Outcome.ACKNOWLEDGED and part is not None:
            acknowledged[write.register, write.instance, part].append(write)
            acknowledged[write.register, "", part].append(write)
            self._findings.lost += any(self._lost(write, failover) for failover in range(len(self._history.failovers)))

    def _part(self, begin: float, end: float) -> int | None:
        """Between which failovers it lies, counted from 0; None in the midst of one."""
        for number, failover in enumerate(self._history.failovers):
            if end <= failover.killed:
                return number
            if begin < failover.settled:
                return None
        return len(self._history.failovers)

    def _lost(self, write: Write, number: int) -> bool:
        """Whether an acknowledged write went with the primary of that failover."""
        failover = self._history.failovers[number]
        part = self._part(write.begin, write.end)
        return part is not None and part <= number and write.version > failover.base.get(write.register, 0)

    # A session, operation by operation

    def _session(self, operations: Sequence[Operation]) -> None:
        floors: dict[str, _Floor] = {}
        part_before: int | None = 0
        for operation in operations:
            part = self._part(operation.begin, operation.end)
            if part is None or part != part_before:
                floors.clear()
            part_before = part
            if isinstance(operation, Write):
                if part is not None and operation.outcome is Outcome.ACKNOWLEDGED:
                    _raise(floors, operation.register, operation.version, f"wrote, {operation.way}", operation.end)
            else:
                self._read(operation, part, floors)

    def _read(self, read: Read, part: int | None, floors: dict[str, _Floor]) -> None:
        self._findings.reads += 1
        self._findings.straddling += part is None
        if read.wrong:
            self._violated("torn", read.wrong, read, read.seen[0][0] if read.seen else "")
        for register, versions in _by_register(read).items():
            if len(set(versions)) > 1:
                self._violated("torn", f"{register} is {' and '.join(map(str, sorted(versions)))}", read, register)
            for version in versions:
                self._findings.seen += 1
                self._seen(read, register, version, part, floors)
        # What one answer shows of a register is compared with what was seen before it, not with itself.
        for register, versions in _by_register(read).items():
            if part is not None and not read.own:
                _raise(floors, register, max(versions), "read", read.end)

    def _seen(self, read: Read, register: str, version: int, part: int | None, floors: dict[str, _Floor]) -> None:
        if read.own:
            if version != read.own:
                text = f"{register} is {version} in the transaction that has written {read.own}"
                self._violated("own", text, read, register)
            return
        if not self._existed(read, register, version):
            return
        self._snapshot(read, register, version)
        if part is None:
            return
        self._not_lost(read, register, version, part)
        self._session_kept(read, register, version, floors)
        self._everybodys(read, register, version, part)
        self._lagged(read, register, version, part)

    def _existed(self, read: Read, register: str, version: int) -> bool:
        """Whether it may have been seen at all."""
        if version == 0:
            return True
        write = self._asked.get((register, version))
        if write is None:
            self._violated("phantom", f"{register} is {version}, which nobody has written", read, register)
        elif write.outcome is Outcome.FAILED:
            self._violated("aborted", f"{register} is {version}, which was rolled back ({write.way})", read, register)
        elif write.commit > read.end:
            text = f"{register} is {version} {write.commit - read.end:.6f} s before that was committed ({write.way})"
            self._violated("dirty", text, read, register)
        else:
            return True
        return False

    def _snapshot(self, read: Read, register: str, version: int) -> None:
        if not read.snapshot:
            return
        first, where = self._snapshots.setdefault((read.snapshot, register), (version, read))
        if version != first and where is not read:
            text = f"{register} is {version} ({read.way}), and was {first} ({where.way}) in the same snapshot"
            self._violated("snapshot", text, read, register)

    def _not_lost(self, read: Read, register: str, version: int, part: int) -> None:
        write = self._asked.get((register, version))
        if write is None or write.outcome is not Outcome.ACKNOWLEDGED:
            return
        for number in range(part):
            if self._lost(write, number):
                base = self._history.failovers[number].base.get(register, 0)
                text = f"{register} is {version}, which was lost in failover {number + 1}: the new primary had {base}"
                self._violated("lost", text, read, register)
                return

    def _session_kept(self, read: Read, register: str, version: int, floors: dict[str, _Floor]) -> None:
        floor = floors.get(register)
        if floor is None or version >= floor.version:
            return
        if self._foreign(read, register) and not (self._promises.foreign and self._watchable(register)):
            self._findings.foreign_backwards += 1
        elif self._promises.session:
            kind = "backwards" if floor.why == "read" else "unread"
            text = (
                f"{register} is {version} {read.begin - floor.at:.6f} s after the session {floor.why} {floor.version}"
            )
            self._violated(kind, text, read, register)

    def _everybodys(self, read: Read, register: str, version: int, part: int) -> None:
        if not self._promises.everybody:
            return
        known = self._acknowledged.get((register, read.instance, part))
        least = known.before(read.since) if known else 0
        if part and not self._foreign(read, register):
            least = max(least, self._history.failovers[part - 1].base.get(register, 0))
        if version < least:
            self._violated("unseen", f"{register} is {version}, and {least} was acknowledged", read, register)

    def _lagged(self, read: Read, register: str, version: int, part: int) -> None:
        known = self._acknowledged.get((register, "", part))
        superseded = known.superseded(version) if known else None
        if superseded is not None and superseded < read.since:
            where = "elsewhere" if self._foreign(read, register) else "same"
            self._findings.lag_s[where].append(read.since - superseded)

    def _foreign(self, read: Read, register: str) -> bool:
        """Whether it is written elsewhere than through the Pointsman that was asked."""
        return read.instance not in (DIRECT, self._history.registers[register].instance)

    def _watchable(self, register: str) -> bool:
        return self._history.registers[register].watchable

    def _violated(self, kind: str, text: str, read: Read, register: str) -> None:
        self._findings.violations.append(Violation(kind, text, read, self._around(read, register)))

    def _around(self, read: Read, register: str) -> tuple[Operation, ...]:
        """The last operations of the register that began before the read ended, its own session's and all writes."""
        operations = self._touching.get(register, [])
        until = bisect.bisect_right(operations, read.end, key=lambda operation: operation.begin)
        chosen: list[Operation] = []
        for operation in reversed(operations[:until]):
            if isinstance(operation, Write) or operation.session == read.session:
                chosen.append(operation)
            if len(chosen) >= AROUND_MAX:
                break
        return tuple(reversed(chosen))


def _by_register(read: Read) -> dict[str, list[int]]:
    versions: dict[str, list[int]] = defaultdict(list)
    for register, version in read.seen:
        versions[register].append(version)
    return versions


def _raise(floors: dict[str, _Floor], register: str, version: int, why: str, at: float) -> None:
    floor = floors.get(register)
    if floor is None or version > floor.version:
        floors[register] = _Floor(version, why, at)
