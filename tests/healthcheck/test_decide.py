"""decide(): from what the monitors saw to who may do what, as a table."""

import msgspec
import pytest

from healthcheck.topology import Observation, Role, Topology, decide

CLUSTER, STRANGER = 7_000_000_000_000_000_001, 7_000_000_000_000_000_002


def primary(name: str, *, timeline: int | None = 1, cluster: int = CLUSTER, lsn: int = 1000) -> Observation:
    """A primary that is up."""
    return Observation(
        name, name, 5432, True, Role.PRIMARY, system_identifier=cluster, timeline=timeline, insert_lsn=lsn
    )


def standby(name: str, *, cluster: int = CLUSTER, replay: int | None = 1000) -> Observation:
    """A standby that is up."""
    return Observation(name, name, 5432, True, Role.STANDBY, system_identifier=cluster, timeline=1, replay_lsn=replay)


def down(name: str, role: Role = Role.UNKNOWN) -> Observation:
    """A node that does not answer."""
    return Observation(name, name, 5432, False, role, why="connection refused")


def used(topology: Topology) -> dict[str, str]:
    """Each node that is used, with its role."""
    return {node.name: node.role.value for node in topology.nodes if node.up}


BEFORE = Topology(system_identifier=CLUSTER, timeline=2)

CASES: list[tuple[str, list[Observation], Topology, dict[str, str], dict[str, str]]] = [
    (
        "a healthy cluster",
        [primary("a"), standby("b"), standby("c")],
        Topology(),
        {"a": "primary", "b": "standby", "c": "standby"},
        {},
    ),
    ("nobody answers", [down("a"), down("b")], Topology(), {}, {"a": "refused", "b": "refused"}),
    ("no primary", [standby("b"), standby("c")], Topology(), {"b": "standby", "c": "standby"}, {}),
    (
        "two primaries, the higher timeline wins",
        [primary("a", timeline=1), primary("b", timeline=2), standby("c")],
        Topology(),
        {"b": "primary", "c": "standby"},
        {"a": "primary on timeline 1, but timeline 2 has been seen"},
    ),
    (
        "two primaries on one timeline, none is believed",
        [primary("a"), primary("b"), standby("c")],
        Topology(),
        {"c": "standby"},
        {"a": "more than one primary on timeline 1: a, b", "b": "more than one primary on timeline 1: a, b"},
    ),
    (
        "two on the highest timeline and one below",
        [primary("a", timeline=3), primary("b", timeline=3), primary("c", timeline=2)],
        Topology(),
        {},
        {"a": "more than one primary on timeline 3: a, b", "c": "timeline 3 has been seen"},
    ),
    (
        "the old primary comes back alone: it missed a promotion",
        [primary("a", timeline=1), down("b")],
        BEFORE,
        {},
        {"a": "primary on timeline 1, but timeline 2 has been seen"},
    ),
    (
        "a primary that does not tell its timeline, beside one that was seen",
        [primary("a", timeline=None)],
        BEFORE,
        {},
        {"a": "timeline unknown, but timeline 2"},
    ),
    (
        "a node of another cluster",
        [primary("a"), standby("b", cluster=STRANGER)],
        Topology(),
        {"a": "primary"},
        {"b": f"belongs to another cluster: system identifier {STRANGER}, not {CLUSTER}"},
    ),
    (
        "a stranger in the majority, but the primary is ours",
        [primary("a"), standby("b", cluster=STRANGER), standby("c", cluster=STRANGER)],
        Topology(),
        {"a": "primary"},
        {"b": "another cluster", "c": "another cluster"},
    ),
    (
        "no primary to go by: the majority",
        [standby("a"), standby("b"), standby("c", cluster=STRANGER)],
        Topology(),
        {"a": "standby", "b": "standby"},
        {"c": "another cluster"},
    ),
    (
        "primaries of two clusters, one standby tips the scale",
        [primary("a"), primary("b", cluster=STRANGER), standby("c", cluster=STRANGER)],
        Topology(),
        {"b": "primary", "c": "standby"},
        {"a": "another cluster"},
    ),
    (
        "a tie between clusters: none",
        [standby("a"), standby("b", cluster=STRANGER)],
        Topology(),
        {},
        {"a": "different clusters", "b": "different clusters"},
    ),
    (
        "what was known outweighs what is seen",
        [primary("a", cluster=STRANGER, timeline=9), standby("b", cluster=STRANGER), standby("c")],
        BEFORE,
        {"c": "standby"},
        {"a": "another cluster", "b": "another cluster"},
    ),
]


@pytest.mark.parametrize(
    ("observations", "previous", "expected", "why"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_who_is_used_and_why_not(
    observations: list[Observation], previous: Topology, expected: dict[str, str], why: dict[str, str]
) -> None:
    topology = decide(observations, previous)
    assert used(topology) == expected
    reasons = {node.name: node.why for node in topology.nodes}
    for name, part in why.items():
        assert part in reasons[name]
    assert all(not node.why for node in topology.nodes if node.up)
    assert all(node.why for node in topology.nodes if not node.up)


@pytest.mark.parametrize("observations", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_never_two_primaries_and_never_order(observations: list[Observation]) -> None:
    topology = decide(observations, Topology())
    assert list(used(topology).values()).count("primary") <= 1
    assert used(decide(observations[::-1], Topology())) == used(topology)


def test_a_foreign_primary_does_not_raise_the_timeline() -> None:
    seen = decide([primary("a"), standby("b")], Topology())
    seen = decide([primary("a"), primary("b", cluster=STRANGER, timeline=8)], seen)
    assert seen.timeline == 1
    assert used(seen) == {"a": "primary"}


def test_lag_is_what_the_primary_wrote_and_the_standby_has_not_replayed() -> None:
    seen = decide(
        [primary("a", lsn=5000), standby("b", replay=4000), standby("c", replay=6000), standby("d", replay=None)],
        Topology(),
    )
    assert [node.replay_lag_bytes for node in seen.nodes] == [None, 1000, 0, None]
    assert decide([down("a"), standby("b")], seen).nodes[1].replay_lag_bytes is None


def test_lag_alone_is_no_new_version() -> None:
    first = decide([primary("a", lsn=1000), standby("b")], Topology())
    second = decide([primary("a", lsn=9000), standby("b")], first)
    assert (first.version, second.version) == (1, 1)
    assert second.nodes[1].replay_lag_bytes == 8000


@pytest.mark.parametrize(
    "then",
    [
        [primary("a"), down("b")],
        [down("a"), standby("b")],
        [primary("a"), primary("b", timeline=2)],
        [primary("a"), msgspec.structs.replace(standby("b"), host="elsewhere")],
        [primary("a", timeline=2), standby("b")],
    ],
    ids=["standby down", "primary down", "promoted", "moved", "timeline"],
)
def test_what_workers_must_act_on_is_a_new_version(then: list[Observation]) -> None:
    first = decide([primary("a"), standby("b")], Topology())
    second = decide(then, first)
    assert second.version == 2
    assert decide(then, second).version == 2


def test_a_node_that_is_down_keeps_the_role_it_had() -> None:
    first = decide([primary("a"), standby("b")], Topology())
    second = decide([down("a"), standby("b")], first)
    assert (second.nodes[0].role, second.nodes[0].up, second.primary()) == (Role.PRIMARY, False, None)
