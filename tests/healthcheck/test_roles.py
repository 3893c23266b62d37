"""Who is primary by Patroni's word and the nodes' own: tables, all combinations, and what its JSON says."""

import itertools
from collections.abc import Sequence

import msgspec
import pytest

from healthcheck.patroni import read
from healthcheck.roles import Member, Word, by_word, highest, strangers
from healthcheck.topology import Condition, Observation, Role, Topology, decide

CLUSTER = 7


def node(name: str, role: Role, timeline: int = 3, *, up: bool = True, **more: object) -> Observation:
    known = {"system_identifier": CLUSTER, "timeline": timeline, "condition": Condition.UP, **more}
    return Observation(name, f"host-{name}", 5432, up, role, **known)  # type: ignore[arg-type]


def primary(name: str, timeline: int = 3, **more: object) -> Observation:
    return node(name, Role.PRIMARY, timeline, **more)  # type: ignore[arg-type]


def standby(name: str, timeline: int = 3, **more: object) -> Observation:
    return node(name, Role.STANDBY, timeline, **more)  # type: ignore[arg-type]


def member(name: str, role: str = "replica", state: str = "streaming", **more: object) -> Member:
    """Patroni calls it otherwise than our settings."""
    return Member(f"patroni-{name}", role, state, f"host-{name}", 5432, **more)  # type: ignore[arg-type]


def leads(name: str) -> Word:
    return Word(tuple(member(one, "leader" if one == name else "replica") for one in "abc"))


def found(observations: Sequence[Observation], word: Word | None, floor: int = 0) -> tuple[str, dict[str, str]]:
    """The primary, and why the others that claim to be one are not used."""
    topology = decide(by_word(observations, word, floor), Topology())
    chosen = topology.primary()
    return (chosen.name if chosen else ""), {one.name: one.why for one in topology.nodes if not one.up}


NOT = "claims to be the primary, but "


@pytest.mark.parametrize(
    ("observations", "word", "floor", "name", "why"),
    [
        ([primary("a"), standby("b")], leads("a"), 0, "a", {}),
        # Both must say so.
        ([primary("a"), standby("b")], leads("b"), 0, "", {"a": NOT + "Patroni says that b leads"}),
        ([standby("a"), standby("b")], leads("a"), 0, "", {}),
        ([primary("a"), standby("b")], leads(""), 0, "", {"a": NOT + "Patroni says that nobody leads"}),
        ([primary("a"), standby("b")], None, 0, "", {"a": NOT + "Patroni has not said yet who leads"}),
        (
            [primary("a"), standby("b")],
            Word((member("a"), member("x", "leader"))),
            0,
            "",
            {"a": NOT + "Patroni says that patroni-x leads, which no [nodes.NAME] is"},
        ),
        # Of two that claim it the leader is one, whichever is on the higher timeline: the other is not Patroni's.
        ([primary("a", 3), primary("b", 4)], leads("a"), 0, "a", {"b": NOT + "Patroni says that a leads"}),
        ([primary("a", 3), primary("b", 4)], leads("b"), 0, "b", {"a": NOT + "Patroni says that b leads"}),
        ([primary("a", 3), primary("b", 3)], leads("b"), 0, "b", {"a": NOT + "Patroni says that b leads"}),
        # Its word is not of now: it stands, until a primary on a higher timeline was seen.
        ([primary("a", 3), standby("b")], leads("a"), 3, "a", {}),
        (
            [primary("a", 3), primary("b", 4)],
            leads("a"),
            4,
            "",
            {
                "a": NOT + "a primary on timeline 4 has been seen, and Patroni has not said since who leads",
                "b": NOT + "Patroni says that a leads",
            },
        ),
        # A standby cluster has no primary.
        ([standby("a"), standby("b")], Word((member("a", "standby_leader"), member("b"))), 0, "", {}),
        # Two leaders are none.
        (
            [primary("a"), primary("b")],
            Word((member("a", "leader"), member("b", "leader"))),
            0,
            "",
            dict.fromkeys("ab", NOT + "Patroni says that nobody leads"),
        ),
        # Of the others.
        (
            [primary("a"), standby("b"), standby("c")],
            Word((member("a", "leader"), member("b", no_reads=True), member("c", state="stopping"))),
            0,
            "a",
            {"b": "is tagged noloadbalance", "c": "is stopping, by Patroni's word"},
        ),
        (
            [primary("a"), standby("b")],
            Word((member("a", "leader"), member("b", state="in archive recovery"))),
            0,
            "a",
            {},
        ),
        ([primary("a"), standby("b", up=False, why="no answer")], leads("a"), 0, "a", {"b": "no answer"}),
        # Whom it does not know may be read from, and no more.
        ([primary("a"), standby("d")], leads("a"), 0, "a", {}),
        ([primary("a"), primary("d")], leads("a"), 0, "a", {"d": NOT + "Patroni says that a leads"}),
        # One that Patroni calls otherwise is told by its address; one at another address by its name.
        (
            [msgspec.structs.replace(primary("a"), host="alias")],
            Word((Member("a", "leader", "running", "10.0.0.1", 5432),)),
            0,
            "a",
            {},
        ),
    ],
)
def test_the_primary(
    observations: list[Observation], word: Word | None, floor: int, name: str, why: dict[str, str]
) -> None:
    assert found(observations, word, floor) == (name, why)


def test_in_all_combinations_there_is_one_primary_or_none_and_both_have_said_so() -> None:
    kinds = [
        (role, up, timeline) for role in (Role.PRIMARY, Role.STANDBY) for up in (True, False) for timeline in (3, 4)
    ]
    for seen in itertools.product(kinds, repeat=3):
        observations = [
            node(name, role, timeline, up=up) for name, (role, up, timeline) in zip("abc", seen, strict=True)
        ]
        for word in (None, *(leads(name) for name in ("a", "b", "c", ""))):
            for floor in (0, 3, 4):
                topology = decide(by_word(observations, word, floor), Topology())
                primaries = [one for one in topology.nodes if one.up and one.role is Role.PRIMARY]
                assert len(primaries) <= 1
                for one in primaries:
                    (claim,) = [own for own in observations if own.name == one.name]
                    assert claim.up
                    assert claim.role is Role.PRIMARY
                    assert word == leads(one.name)
                    assert (claim.timeline or 0) >= floor


def test_the_highest_timeline_is_that_of_primaries_of_this_cluster() -> None:
    seen = [primary("a", 3), primary("b", 5), standby("c", 6), primary("d", 9, system_identifier=8)]
    assert highest(seen, leads("a")) == 5
    assert highest([primary("a", 3), primary("b", 5, up=False)], leads("a")) == 3
    assert highest([standby("a")], None) == 0


def test_lag_by_its_word_is_for_when_there_is_nothing_to_measure_by() -> None:
    word = Word((member("a"), member("b", lag_bytes=400)))
    seen = decide(by_word([standby("a", replay_lsn=10), standby("b", replay_lsn=5)], word), Topology())
    assert [one.replay_lag_bytes for one in seen.nodes] == [None, 400]
    word = Word((member("a", "leader"), member("b", lag_bytes=400)))
    seen = decide(by_word([primary("a", insert_lsn=10), standby("b", replay_lsn=5)], word), Topology())
    assert [one.replay_lag_bytes for one in seen.nodes] == [None, 5]


def test_who_is_known_to_one_side_alone() -> None:
    assert strangers([primary("a"), standby("d")], leads("a")) == (["d"], ["patroni-b", "patroni-c"])


PATRONI_4 = {
    "members": [
        {
            "name": "pg1",
            "role": "leader",
            "state": "running",
            "api_url": "http://10.0.0.1:8008/patroni",
            "host": "10.0.0.1",
            "port": 5432,
            "timeline": 3,
        },
        {
            "name": "pg2",
            "role": "sync_standby",
            "state": "streaming",
            "api_url": "https://[fd00::2]:8008/patroni",
            "host": "fd00::2",
            "port": "5433",
            "timeline": "unknown",
            "lag": "unknown",
            "tags": {"noloadbalance": True, "clonefrom": True},
        },
        {"name": "pg3", "role": "replica", "state": "creating replica", "lag": 17, "something": "new"},
    ],
    "scope": "main",
    "pause": True,
}


def test_the_json_of_cluster() -> None:
    word, urls = read(PATRONI_4)
    assert word == Word(
        (
            Member("pg1", "leader", "running", "10.0.0.1", 5432, 3),
            Member("pg2", "sync_standby", "streaming", "fd00::2", 5433, None, None, no_reads=True),
            Member("pg3", "replica", "creating replica", lag_bytes=17),
        ),
        paused=True,
    )
    assert urls == ["http://10.0.0.1:8008", "https://[fd00::2]:8008"]
    leader = word.leader()
    assert leader is not None
    assert leader.name == "pg1"
    assert read({"members": []}) == (Word(), [])


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"members": None}, {"members": [{"role": "leader"}]}, {"members": [1]}]
)
def test_json_of_something_else(answer: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(answer)
