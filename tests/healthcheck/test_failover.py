"""Who is promoted, and when nobody is: as tables, and over all combinations."""

import itertools

import pytest

from healthcheck.failover import (
    AFTER,
    Absence,
    Kind,
    Policy,
    Step,
    Verdict,
    decide_failover,
    over,
    permitted,
    received,
    returned,
    strayed,
)
from healthcheck.leader import Begun
from healthcheck.topology import Condition, Observation, Role, Topology, decide

CLUSTER = 7
POLICY = Policy(promotes=True, after_s=5.0, lag_max_bytes=1000)


def node(name: str, role: Role = Role.STANDBY, **more: object) -> Observation:
    """One that is up and well."""
    known = {"timeline": 3, "system_identifier": CLUSTER, "condition": Condition.UP, **more}
    return Observation(name, name, 5432, True, role, **known)  # type: ignore[arg-type]


def standby(name: str, lsn: int = 10_000, **more: object) -> Observation:
    known = {"receive_lsn": lsn, "replay_lsn": lsn - 500, "upstream": "a:5432", "standby_name": name, **more}
    return node(name, Role.STANDBY, **known)


def dead(name: str = "a") -> Observation:
    return Observation(name, name, 5432, False, Role.PRIMARY, why="connection refused", condition=Condition.DOWN)


def denying(name: str) -> Observation:
    """One that was down and is alive, and cannot be asked what it is."""
    why = "sorry, too many clients already"
    return Observation(name, name, 5432, False, Role.PRIMARY, why=why, condition=Condition.DOWN, denies=True)


def primary(**more: object) -> Observation:
    return node("a", Role.PRIMARY, insert_lsn=10_000, **more)


def verdict(
    *observations: Observation,
    last: Observation | None = None,
    policy: Policy = POLICY,
    down_s: float | None = 6.0,
) -> tuple[Kind, str, str]:
    seen = decide(observations, decide([last or primary()], Topology()))
    found = decide_failover(seen, {one.name: one for one in observations}, last or primary(), policy, down_s)
    return found.kind, found.node, found.why


@pytest.mark.parametrize(
    ("observations", "chosen"),
    [
        ([dead(), standby("b", 9_500), standby("c", 9_600)], "c"),
        ([dead(), standby("b", 9_600), standby("c", 9_500)], "b"),
        ([dead(), standby("b", 9_600), standby("c", 9_600)], "b"),
        # What was replayed from an archive was never received.
        ([dead(), standby("b", 9_600), standby("c", receive_lsn=None, replay_lsn=9_700)], "c"),
        ([dead(), standby("b", 9_600), dead("c")], "b"),
        # One that is behind by a timeline has not got what was written since.
        ([dead(), standby("b", 9_500), standby("c", 9_999, timeline=2)], "b"),
        # It has heard nothing since the primary is down.
        ([dead(), standby("b", 9_600, heard_s_ago=6.5)], "b"),
        # It hears another.
        ([dead(), standby("b", 9_600), standby("c", 9_500, upstream="b:5432", heard_s_ago=0.1)], "b"),
    ],
)
def test_the_one_with_the_most_is_promoted(observations: list[Observation], chosen: str) -> None:
    kind, name, why = verdict(*observations)
    assert (kind, name) == (Kind.PROMOTE, chosen)
    assert "received up to 0/" in why


@pytest.mark.parametrize(
    ("observations", "more", "kind", "why"),
    [
        ([primary(), standby("b")], {}, Kind.WELL, ""),
        ([dead(), standby("b")], {"policy": Policy(promotes=False)}, Kind.HELD, 'failover is not "promote"'),
        ([dead(), standby("b")], {"down_s": 4.9}, Kind.COUNTING, "a has been down for 4.9 s"),
        ([dead(), standby("b")], {"down_s": None}, Kind.COUNTING, "a is not known to be down"),
        ([dead()], {}, Kind.HELD, "no standby is up"),
        ([dead(), dead("b")], {}, Kind.HELD, "no standby is up"),
        ([dead(), standby("b", 8_999)], {}, Kind.HELD, "b has the most, and lacks 1001 bytes"),
        ([dead(), standby("b", 10_500)], {}, Kind.PROMOTE, ""),
        ([dead(), standby("b", heard_s_ago=0.2)], {}, Kind.HELD, "a is still heard by b"),
        ([dead(), standby("b", timeline=2)], {}, Kind.HELD, "no standby has followed a to timeline 3"),
        # Somebody has been promoted by another's hand, or two have.
        ([dead(), node("b", Role.PRIMARY, timeline=4), standby("c")], {}, Kind.WELL, ""),
        (
            [dead(), node("b", Role.PRIMARY, timeline=4), node("c", Role.PRIMARY, timeline=4)],
            {},
            Kind.HELD,
            "there is a primary that is not used: b, c",
        ),
        # It is alive: its slots are taken, say.
        ([denying("a"), standby("b")], {}, Kind.HELD, "a is alive, and answers: sorry, too many clients already"),
        # It belongs to another cluster.
        ([dead(), standby("b", system_identifier=8)], {}, Kind.HELD, "no standby is up"),
    ],
)
def test_when_nobody_is(observations: list[Observation], more: dict[str, object], kind: Kind, why: str) -> None:
    found = verdict(*observations, **more)  # type: ignore[arg-type]
    assert found[0] is kind
    assert why in found[2]


@pytest.mark.parametrize(
    ("sync_standbys", "needed", "up", "kind"),
    [
        # FIRST 1 (b): commits are on b.
        (("b",), 1, "bc", Kind.PROMOTE),
        (("b",), 1, "c", Kind.HELD),
        # ANY 1 (b, c): each commit is on one of them, nobody knows on which.
        (("b", "c"), 2, "bc", Kind.PROMOTE),
        (("b", "c"), 2, "b", Kind.HELD),
        # ANY 2 (b, c, d): it is on two, so two of three have it.
        (("b", "c", "d"), 2, "bd", Kind.PROMOTE),
        (("b", "c", "d"), 2, "d", Kind.HELD),
        # Commits waited for somebody who was not there: none has been acknowledged since.
        ((), 1, "b", Kind.HELD),
        ((), 0, "b", Kind.PROMOTE),
    ],
)
def test_no_acknowledged_commit_is_lost_with_synchronous_standbys(
    sync_standbys: tuple[str, ...], needed: int, up: str, kind: Kind
) -> None:
    last = primary(sync_standbys=sync_standbys, sync_needed=needed)
    assert verdict(dead(), *(standby(name) for name in up), last=last)[0] is kind


def test_without_a_primary_seen_nobody_is_promoted() -> None:
    observations = [dead(), standby("b")]
    seen = decide(observations, Topology())
    found = decide_failover(seen, {one.name: one for one in observations}, None, POLICY, 100.0)
    assert (found.kind, found.failed) == (Kind.HELD, "")


def test_over_all_combinations() -> None:
    """Whatever two standbys are: none is promoted beside a primary, too early, with less WAL, or without enough."""
    variants: list[Observation | None] = [
        None,
        *(
            standby("x", lsn, timeline=timeline, heard_s_ago=heard)
            for lsn in (8_000, 9_400, 9_900)
            for timeline in (2, 3)
            for heard in (None, 0.5, 50.0)
        ),
    ]
    promoted = 0
    olds = (dead(), denying("a"))
    downs, lags = (None, 1.0, 9.0), (0, 500, 1000)
    for old, first, second, down_s, lag_max in itertools.product(olds, variants, variants, downs, lags):
        there = [
            Observation(
                **{**{field: getattr(one, field) for field in one.__struct_fields__}, "name": name, "host": name}
            )
            for name, one in (("b", first), ("c", second))
            if one is not None
        ]
        kind, name, _ = verdict(old, *there, policy=Policy(True, 5.0, lag_max), down_s=down_s)
        if kind is not Kind.PROMOTE:
            assert name == ""
            continue
        promoted += 1
        (chosen,) = [one for one in there if one.name == name]
        assert down_s == 9.0
        assert not old.denies
        assert chosen.timeline == 3
        assert not any(one.heard_s_ago == 0.5 for one in there)
        assert all(received(one) <= received(chosen) for one in there if one.timeline == 3)
        assert not lag_max or 10_000 - received(chosen) <= lag_max
    assert promoted > 50


def test_each_sign_of_life_begins_the_count_anew() -> None:
    absence = Absence()
    suspect = Observation("a", "a", 5432, True, Role.PRIMARY, condition=Condition.SUSPECT)
    looks: list[tuple[float, Observation | None, float | None]] = [
        (0.0, suspect, None),
        (1.0, dead(), 0.0),
        (5.5, dead(), 4.5),
        (6.0, denying("a"), None),
        (6.1, dead(), 0.0),
        (9.1, dead(), 3.0),
        # There was a primary: the same, or another.
        (9.2, None, None),
        (9.3, dead(), 0.0),
        (20.3, dead(), 11.0),
    ]
    for now, seen, down_s in looks:
        if seen is None:
            absence.over()
        else:
            assert absence.look(seen, now) == pytest.approx(down_s), now


def test_every_step_has_a_successor_and_the_fence_comes_first() -> None:
    open_steps = set(Step) - {Step.DONE, Step.ABANDONED}
    assert set(AFTER) == set(itertools.product(open_steps, (True, False)))
    step, way = Step.FENCING, [Step.FENCING]
    while step in open_steps:
        step = AFTER[step, True]
        way.append(step)
    assert way == [Step.FENCING, Step.PROMOTING, Step.REPOINTING, Step.TELLING, Step.DONE]
    # Nothing is given up once there is a new primary.
    assert {step for step in open_steps if AFTER[step, False] is Step.ABANDONED} == {Step.FENCING, Step.PROMOTING}


def test_who_follows_a_node_that_is_gone_is_to_follow_the_primary() -> None:
    observations = [
        dead(),
        node("b", Role.PRIMARY, timeline=4),
        standby("c"),
        standby("d", upstream="b:5432"),
        standby("e", upstream="c:5432"),
        standby("f", upstream="backup.example:5432"),
        standby("g", upstream=""),
    ]
    seen = decide(observations, Topology())
    known = {one.name: one for one in observations}
    assert [one.name for one in strayed(seen, known)] == ["c"]
    without = decide(observations[:1] + observations[2:], Topology())
    assert strayed(without, known) == []


def test_a_former_primary_that_is_back_is_told_apart() -> None:
    seen = decide([primary(), node("b", Role.PRIMARY, timeline=4), standby("c")], Topology())
    assert [one.name for one in returned(seen)] == ["a"]
    assert returned(decide([primary(), standby("c")], Topology())) == []


@pytest.mark.parametrize(
    ("observations", "is_over"),
    [
        # There is no primary yet.
        ([dead(), standby("b"), standby("c")], False),
        # It is done, or another was promoted by somebody's hand.
        ([dead(), node("b", Role.PRIMARY, timeline=4), standby("c")], True),
        ([dead(), standby("b"), node("c", Role.PRIMARY, timeline=4)], True),
        ([dead(), dead("b"), node("c", Role.PRIMARY, timeline=4)], True),
        # The old one is back: and b streams from it, or was told to be primary and does not, or does not answer.
        ([primary(), standby("b", heard_s_ago=0.1)], True),
        ([primary(), standby("b")], False),
        ([primary(), standby("b", upstream="c:5432", heard_s_ago=0.1)], False),
        ([primary(), dead("b")], False),
        # It is no node of ours any more.
        ([primary(), standby("c")], True),
    ],
)
def test_when_nothing_can_come_of_a_promotion_any_more(observations: list[Observation], is_over: bool) -> None:
    topology = decide(observations, decide([primary()], Topology()))
    assert over(Begun("a", 3, "b"), topology, {one.name: one for one in observations}) is is_over


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("hindered", ["", "b leads"])
@pytest.mark.parametrize(
    "begun", [None, Begun("a", 3, "b"), Begun("a", 3, "c"), Begun("a", 3, "d"), Begun("a", 2, "d")]
)
@pytest.mark.parametrize("known", [True, False])
def test_who_may_promote_and_whom_once_it_has_begun(
    kind: Kind, hindered: str, begun: Begun | None, known: bool
) -> None:
    seen = [dead(), standby("b"), standby("c"), dead("d")]
    topology = decide(seen, decide([primary()], Topology()))
    given = Verdict(kind, "why", "b", "a")
    found = permitted(given, topology, primary() if known else None, hindered, begun)
    if kind is not Kind.PROMOTE:
        # Who may not act has the same to say of what it sees.
        assert found == given
    elif hindered:
        assert (found.kind, found.why, found.failed, found.node) == (Kind.HELD, hindered, "a", "")
    elif begun is None or not known or begun.timeline != 3 or begun.node == "b":
        # Nothing has begun, or something that is over by now, or the same.
        assert found == given
    elif begun.node == "c":
        assert (found.kind, found.node, found.failed) == (Kind.PROMOTE, "c", "a")
    else:
        assert (found.kind, found.why) == (Kind.HELD, "d was told to be the primary, and may be it")
