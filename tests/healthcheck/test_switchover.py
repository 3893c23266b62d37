"""Who may take over from the primary, and what comes after what: as tables, and over all of them."""

import itertools

import pytest

from healthcheck.failover import Kind, Policy, Verdict
from healthcheck.switchover import (
    AFTER,
    BEYOND_RECALL,
    HELD,
    LAST,
    Reason,
    Refused,
    Step,
    caught_up,
    final_checkpoint,
    plan_switchover,
)
from healthcheck.topology import Condition, Observation, Role, Topology, decide

CLUSTER = 7
POLICY = Policy(promotes=True, lag_max_bytes=1000)


def node(name: str, role: Role = Role.STANDBY, **more: object) -> Observation:
    known = {"timeline": 3, "system_identifier": CLUSTER, "condition": Condition.UP, **more}
    return Observation(name, name, 5432, True, role, **known)  # type: ignore[arg-type]


def standby(name: str, lsn: int = 10_000, **more: object) -> Observation:
    return node(
        name, Role.STANDBY, **{"receive_lsn": lsn, "replay_lsn": lsn, "upstream": "a:5432", "heard_s_ago": 0.1, **more}
    )


def primary(**more: object) -> Observation:
    return node("a", Role.PRIMARY, insert_lsn=10_000, **more)


def gone(name: str, role: Role = Role.STANDBY) -> Observation:
    return Observation(name, name, 5432, False, role, why="connection refused", condition=Condition.DOWN)


def plan(*seen: Observation, wanted: str = "", policy: Policy = POLICY) -> Verdict:
    topology = decide(seen, Topology())
    return plan_switchover(topology, {one.name: one for one in seen}, policy, wanted)


@pytest.mark.parametrize(
    ("seen", "wanted", "chosen"),
    [
        ([primary(), standby("b"), standby("c")], "", "b"),
        ([primary(), standby("b", 9_500), standby("c", 9_600)], "", "c"),
        ([primary(), standby("b", 9_500), standby("c", 9_600)], "b", "b"),
        # As much received, less of it replayed.
        ([primary(), standby("b", replay_lsn=9_500), standby("c", replay_lsn=9_600)], "", "c"),
        # The one with the most cannot.
        ([primary(), standby("b", 9_500), standby("c", heard_s_ago=None)], "", "b"),
        ([primary(), standby("b", 9_500), gone("c")], "", "b"),
        ([primary(), standby("b", 9_000), standby("c", 8_999)], "", "b"),
        # It follows another standby, and gets all the same.
        ([primary(), standby("b"), standby("c", upstream="b:5432")], "c", "c"),
    ],
)
def test_who_takes_over(seen: list[Observation], wanted: str, chosen: str) -> None:
    verdict = plan(*seen, wanted=wanted)
    assert (verdict.kind, verdict.node, verdict.failed, verdict.stopped) == (Kind.PROMOTE, chosen, "a", True)


@pytest.mark.parametrize(
    ("seen", "wanted", "reason", "told"),
    [
        ([primary(), standby("b")], "x", Reason.UNKNOWN, 'node "x" does not exist The nodes are a, b.'),
        ([primary(), standby("b")], "a", Reason.NOT_READY, 'node "a" is the primary already'),
        ([primary()], "", Reason.NOT_READY, "no standby can be primary now There is no other node."),
        ([gone("a", Role.PRIMARY), standby("b")], "b", Reason.NOT_READY, "there is no primary a: connection refused"),
        (
            [primary(condition=Condition.SUSPECT, why="no answer within 5 s"), standby("b")],
            "b",
            Reason.NOT_READY,
            'primary "a" does not answer its probes no answer within 5 s.',
        ),
        ([primary(), gone("b")], "b", Reason.NOT_READY, 'node "b" cannot be primary now It is not used: connection'),
        ([primary(), gone("b")], "", Reason.NOT_READY, "no standby can be primary now b is not used: connection"),
        (
            [primary(), standby("b", condition=Condition.SUSPECT, why="reset")],
            "b",
            Reason.NOT_READY,
            "It does not answer its probes: reset.",
        ),
        ([primary(), standby("b", timeline=2)], "b", Reason.NOT_READY, "is on timeline 2, the primary on timeline 3"),
        ([primary(), standby("b", heard_s_ago=None)], "b", Reason.NOT_READY, "It does not stream."),
        ([primary(), standby("b", 8_999)], "b", Reason.NOT_READY, "has yet to replay 1001 bytes: more than"),
        ([primary(), standby("b", replay_lsn=8_999)], "", Reason.NOT_READY, "b has yet to replay 1001 bytes"),
        ([primary(), standby("b", system_identifier=8)], "b", Reason.NOT_READY, "It is not used: belongs to another"),
        # Two primaries are none.
        ([primary(), node("b", Role.PRIMARY), standby("c")], "c", Reason.NOT_READY, "there is no primary"),
    ],
)
def test_when_nobody_does(seen: list[Observation], wanted: str, reason: Reason, told: str) -> None:
    with pytest.raises(Refused) as refused:
        plan(*seen, wanted=wanted)
    assert refused.value.reason is reason
    assert told in " ".join(filter(None, [str(refused.value), refused.value.detail, refused.value.hint]))


def test_any_lag_where_none_is_too_much() -> None:
    assert plan(primary(), standby("b", 1), policy=Policy(promotes=True, lag_max_bytes=0)).node == "b"


def test_nobody_where_roles_change_by_others_hands() -> None:
    with pytest.raises(Refused, match='failover is not "promote"'):
        plan(primary(), standby("b"), policy=Policy(promotes=False))


def test_the_table_is_whole_and_every_way_through_it_ends() -> None:
    assert set(AFTER) == set(itertools.product(set(Step) - LAST, (True, False)))
    assert not any(step in LAST for step, _ in AFTER)
    ends: dict[Step, set[Step]] = {}
    for outcomes in itertools.product((True, False), repeat=len(Step)):
        step, path = Step.PREPARING, [Step.PREPARING]
        for outcome in outcomes:
            if step in LAST:
                break
            step = AFTER[step, outcome]
            assert step not in path
            path.append(step)
        assert step in LAST
        for passed in path:
            ends.setdefault(passed, set()).add(step)
        # What is told to stop is never the primary of clients again, but where it has not stopped.
        if Step.CATCHING_UP in path:
            assert step in {Step.DONE, Step.LEFT}
        if step is Step.RESUMED and Step.STOPPING in path:
            assert path[-2] is Step.LOOKING
        # Nobody is promoted who lacks anything, or beside one that is not fenced.
        if Step.PROMOTING in path:
            at = path.index(Step.PROMOTING)
            assert path[at - 3 : at] == [Step.STOPPING, Step.CATCHING_UP, Step.FENCING]
        # Where there is a new primary, that is what it has come to.
        if Step.REPOINTING in path:
            assert step is Step.DONE
    assert ends[Step.PREPARING] == LAST
    assert ends[Step.LOOKING] == {Step.RESUMED, Step.LEFT}


def test_what_can_be_called_off_and_what_holds_clients() -> None:
    assert set(Step) - LAST - BEYOND_RECALL == {Step.PREPARING, Step.HOLDING}
    assert not BEYOND_RECALL & LAST
    # From the promotion on they have a primary.
    assert BEYOND_RECALL | {Step.HOLDING} > HELD
    assert not HELD & {Step.PREPARING, Step.REPOINTING, Step.TELLING, Step.FOLLOWING}


@pytest.mark.parametrize(
    ("replayed", "before", "checkpoint", "others", "has_all"),
    [
        (101, 100, None, [], True),
        # The record of the shutdown is behind it.
        (100, 100, None, [], False),
        (200, 100, 150, [], True),
        (150, 100, 150, [], False),
        # The command has said less than was seen.
        (100, 100, 50, [], False),
        (101, 100, None, [102, 90], False),
        (102, 100, None, [102, 90], True),
    ],
)
def test_who_has_everything(
    replayed: int, before: int, checkpoint: int | None, others: list[int], has_all: bool
) -> None:
    assert caught_up(replayed, before, checkpoint, others) is has_all


@pytest.mark.parametrize(
    ("output", "lsn"),
    [
        ("", None),
        ("stopped", None),
        ("Latest checkpoint location:           0/5029F40", 0x5029F40),
        ("a\nLatest checkpoint location: 2/A\nLatest checkpoint's REDO location: 2/9\n", 0x2_0000_000A),
        ("Latest checkpoint's REDO location: 2/9", None),
        ("Latest checkpoint location: 0/A\nLatest checkpoint location: 0/9", 0xA),
        ("Latest checkpoint location: 2/123456789", None),
        ("the Latest checkpoint location: 0/1", None),
    ],
)
def test_what_pg_controldata_says_is_read(output: str, lsn: int | None) -> None:
    assert final_checkpoint(output) == lsn
