"""Histories made by hand: what keeps the promises, and what breaks each of them."""

from typing import Any

import msgspec
import pytest

from tests.cachecheck.checker import Findings, Promises, check
from tests.cachecheck.history import DIRECT, Failover, History, Operation, Outcome, Read, Register, Write

A, B, OUT = "a/1", "b/1", "out/1"
REGISTERS = {name: Register(name, "one") for name in (A, B)} | {OUT: Register(OUT, DIRECT)}
SESSION, GLOBAL, FOREIGN = Promises(), Promises(everybody=True), Promises(foreign=True)


def write(version: int, at: float, *, register: str = A, session: str = "w", **fields: Any) -> Write:
    """Begun at a moment, its commit sent half a second later, acknowledged after one."""
    instance = REGISTERS[register].instance
    made = Write(session, instance, "UPDATE", register, version, at, at + 0.5, at + 1, Outcome.ACKNOWLEDGED)
    return msgspec.structs.replace(made, **fields)


def read(*versions: int, at: float, register: str = A, session: str = "r", **fields: Any) -> Read:
    """It takes a tenth of a second."""
    seen = tuple((register, version) for version in versions)
    return msgspec.structs.replace(Read(session, "one", "SELECT", at, at + 0.1, seen), **fields)


def found(*operations: Operation, promises: Promises = SESSION, failovers: tuple[Failover, ...] = ()) -> Findings:
    return check(History(REGISTERS, list(operations), list(failovers)), promises)


def failing(**fields: Any) -> Write:
    return write(1, 0, outcome=Outcome.FAILED, **fields)


def unknown(version: int, at: float) -> Write:
    return write(version, at, outcome=Outcome.UNKNOWN)


OVER = Failover(killed=10, settled=20, base={A: 3})
CUT = (OVER,)
WENT_BACK_ELSEWHERE: list[Operation] = [
    write(1, 0, register=OUT),
    read(1, at=9, register=OUT),
    read(0, at=9.5, register=OUT),
]

GOOD: dict[str, tuple[Promises, tuple[Failover, ...], list[Operation]]] = {
    "nothing": (GLOBAL, (), []),
    "what was there at the start": (GLOBAL, (), [read(0, at=0)]),
    "what was written": (GLOBAL, (), [write(1, 0), read(1, at=2)]),
    "while its commit is under way": (GLOBAL, (), [write(1, 0), read(1, at=0.6), read(1, at=0.8)]),
    "not yet, while its commit is under way": (GLOBAL, (), [write(1, 0), read(0, at=0.6)]),
    "after what is not yet acknowledged, the same": (GLOBAL, (), [write(1, 0), read(0, at=0.95)]),
    "rolled back": (GLOBAL, (), [failing(), read(0, at=2)]),
    "unknown, and there": (GLOBAL, (), [unknown(1, 0), read(1, at=2)]),
    "unknown, and not there": (GLOBAL, (), [unknown(1, 0), read(0, at=2)]),
    "another's, later": (SESSION, (), [write(1, 0), read(0, at=100)]),
    "own, in its transaction": (GLOBAL, (), [read(1, at=0.1, session="w", own=1), write(1, 0)]),
    "own, in a transaction that was rolled back": (GLOBAL, (), [read(1, at=0, own=1), failing(), read(0, at=2)]),
    "a snapshot that grows old": (
        GLOBAL,
        (),
        [read(0, at=0, snapshot=1), write(1, 0.2), read(0, at=5, snapshot=1, as_of=0.1), read(1, at=6)],
    ),
    "elsewhere, back": (SESSION, (), WENT_BACK_ELSEWHERE),
    "in the midst of a failover": (GLOBAL, CUT, [write(5, 0), read(5, at=2), read(4, at=12), write(4, 11)]),
    "lost in a failover": (GLOBAL, CUT, [write(3, 0), write(5, 4), read(5, at=6), read(3, at=30), read(3, at=31)]),
    "a session begins anew": (SESSION, CUT, [write(2, 0), write(3, 5), read(3, at=7), read(2, at=30)]),
    "unknown before the failover": (GLOBAL, CUT, [unknown(4, 9), read(4, at=30)]),
}

BAD: dict[str, tuple[str, Promises, tuple[Failover, ...], list[Operation]]] = {
    "nobody's": ("phantom", SESSION, (), [write(1, 0), read(2, at=2)]),
    "rolled back": ("aborted", SESSION, (), [failing(), read(1, at=2)]),
    "seen before the rollback": ("aborted", SESSION, (), [failing(), read(1, at=0.2)]),
    "rolled back to a savepoint": ("aborted", SESSION, (), [read(1, at=0.3, session="w"), failing()]),
    "before its commit": ("dirty", SESSION, (), [write(1, 0), read(1, at=0.3)]),
    "before its commit, by who writes": ("dirty", SESSION, (), [read(1, at=0.3, session="w"), write(1, 0)]),
    "its transaction misses it": ("own", SESSION, (), [read(0, at=0.1, session="w", own=1), write(1, 0)]),
    "two versions in one answer": ("torn", SESSION, (), [write(1, 0), read(1, 0, at=2)]),
    "a sum": ("torn", SESSION, (), [read(0, at=2, wrong="the sum is 9, not 10")]),
    "two versions in a snapshot": (
        "snapshot",
        SESSION,
        (),
        [read(0, at=0, snapshot=1), write(1, 0.2), read(1, at=5, snapshot=1)],
    ),
    "own write": ("unread", SESSION, (), [write(1, 0), read(0, at=2, session="w")]),
    "own write, in a snapshot": ("unread", SESSION, (), [write(1, 0), read(0, at=2, session="w", snapshot=1)]),
    "own write, in a pipeline": ("unread", SESSION, (), [write(1, 0), read(0, at=0.1, session="w")]),
    "backwards": ("backwards", SESSION, (), [write(1, 0), read(1, at=2), read(0, at=3)]),
    "backwards, own table": ("backwards", SESSION, (), [write(1, 0), write(2, 1), read(2, at=3), read(1, at=4)]),
    "another's": ("unseen", GLOBAL, (), [write(1, 0), read(0, at=2)]),
    "another's, at a snapshot": (
        "unseen",
        GLOBAL,
        (),
        [write(1, 0), read(0, at=5, snapshot=1, as_of=2.0)],
    ),
    "elsewhere, back": ("backwards", FOREIGN, (), WENT_BACK_ELSEWHERE),
    "lost, and shown": ("lost", SESSION, CUT, [write(3, 0), write(5, 4), read(5, at=30)]),
    "older than what the new primary had": ("unseen", GLOBAL, CUT, [write(2, 0), write(3, 5), read(2, at=30)]),
    "aborted, in the midst of a failover": ("aborted", SESSION, CUT, [failing(), read(1, at=15)]),
    "backwards after the failover": ("backwards", SESSION, CUT, [write(3, 0), read(3, at=30), read(0, at=31)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_kept(name: str) -> None:
    promises, failovers, operations = GOOD[name]
    findings = found(*operations, promises=promises, failovers=failovers)
    assert [violation.text for violation in findings.violations] == []
    assert findings.reads == sum(isinstance(operation, Read) for operation in operations)


@pytest.mark.parametrize("name", BAD)
def test_broken(name: str) -> None:
    kind, promises, failovers, operations = BAD[name]
    findings = found(*operations, promises=promises, failovers=failovers)
    assert [violation.kind for violation in findings.violations] == [kind]
    assert findings.violations[0].read in operations
    if kind != "torn":
        assert findings.violations[0].read in findings.violations[0].around


@pytest.mark.parametrize("kind", ["unread", "backwards"])
def test_levels_below_session_promise_no_order(kind: str) -> None:
    broken = [operations for what, promises, _, operations in BAD.values() if what == kind and promises is SESSION]
    for operations in broken:
        assert not found(*operations, promises=Promises(session=False)).violations


def test_what_another_instance_does_is_not_watched_where_it_is_ddl() -> None:
    registers = {OUT: Register(OUT, "two", watchable=False)}
    operations: list[Operation] = [
        write(1, 0, register=OUT),
        read(1, at=5, register=OUT),
        read(0, at=6, register=OUT),
    ]
    findings = check(History(registers, operations), FOREIGN)
    assert not findings.violations
    assert findings.foreign_backwards == 1


def test_what_is_shown_around_a_violation() -> None:
    others: list[Operation] = [read(1, at=2.5, session="other"), write(2, 30), write(1, 0, register=B)]
    findings = found(write(1, 0), read(1, at=2), *others, read(0, at=3))
    (violation,) = findings.violations
    assert violation.around == (write(1, 0), read(1, at=2), read(0, at=3))
    assert violation.text == "a/1 is 0 0.900000 s after the session read 1"


def test_how_old_answers_were() -> None:
    findings = found(
        write(1, 0), write(2, 1), write(3, 6), read(0, at=4), read(1, at=5), read(2, at=6.5), read(3, at=9)
    )
    assert findings.lag_s == {"same": [3, 3], "elsewhere": []}


def test_how_old_answers_from_elsewhere_were() -> None:
    findings = found(write(1, 0, register=OUT), read(0, at=4, register=OUT))
    assert findings.lag_s == {"same": [], "elsewhere": [3]}


def test_what_is_counted() -> None:
    findings = found(write(3, 0), write(5, 4), failing(), unknown(6, 9), read(3, at=15), failovers=CUT)
    assert findings.writes == {"acknowledged": 2, "failed": 1, "unknown": 1}
    assert (findings.lost, findings.straddling, findings.seen) == (1, 1, 1)


def test_a_version_is_asked_for_once() -> None:
    with pytest.raises(AssertionError, match="twice"):
        found(write(1, 0), write(1, 5))
