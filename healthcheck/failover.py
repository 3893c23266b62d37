"""Whether a standby is to be promoted, which one, and what comes after what. Decides; promote.py acts.

In: the topology, what each node was last seen to be, the primary as it was when it was last well, the policy, and for
how long it has been down. Out: a Verdict. No I/O, no clock.

A primary is dead when its probes have failed beyond all retries, for `after_s` more without a sign of life, and no
standby has heard from it since: a node that only we cannot reach goes on taking others' writes. Of the standbys the one
with the most WAL received is promoted, and none that would lose more than `lag_max_bytes` of what the primary is known
to have written. Where commits wait for standbys, each acknowledged one is on `sync_needed` of them: with fewer of those
in reach nobody is promoted, since the missing one may have the last commits alone.

    FENCING --> PROMOTING --> REPOINTING --> TELLING --> DONE
    FENCING, PROMOTING --failed--> ABANDONED: nothing is promoted, and the verdict is asked for again
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from healthcheck.leader import Begun
from healthcheck.topology import Condition, Node, Observation, Role, Topology


class Policy(msgspec.Struct, frozen=True):
    """What the settings say."""

    promotes: bool = False
    """False: roles change by others' hands, and are only noticed."""
    after_s: float = 5.0
    """How long a primary must have been down."""
    lag_max_bytes: int = 0
    """How much of what the primary is known to have written may be lost; 0 for any amount."""


class Kind(Enum):
    """What is to be done about the primary."""

    WELL = "there is a primary"
    COUNTING = "it has not been down for long enough"
    HELD = "nobody may be promoted"
    PROMOTE = "promote"


class Verdict(msgspec.Struct, frozen=True):
    """What decide_failover() says."""

    kind: Kind
    why: str = ""
    """For people, as the rest of "no failover: .."; or what speaks for the node."""
    node: str = ""
    """Whom to promote."""
    failed: str = ""
    """The primary that was."""
    stopped: bool = False
    """That was seen to be stopped by us, whatever its last probe has shown."""


class Absence:
    """For how long the primary that was last well has been down, without a sign of life between."""

    def __init__(self) -> None:
        self._since: float | None = None

    def look(self, last: Observation, now: float) -> float | None:
        """In seconds; None if it is not down. `last`: as it was seen last."""
        if last.condition is not Condition.DOWN or last.denies:
            self._since = None
            return None
        if self._since is None:
            self._since = now
        return now - self._since

    def over(self) -> None:
        """There is a primary."""
        self._since = None


def decide_failover(
    topology: Topology,
    observations: Mapping[str, Observation],
    last: Observation | None,
    policy: Policy,
    down_s: float | None,
) -> Verdict:
    """What is to be done. `last`: the primary when it was last well. `down_s`: for how long it has been down, by its
    probes; None if it is not."""
    if topology.primary() is not None:
        return Verdict(Kind.WELL)
    if last is None:
        return Verdict(Kind.HELD, "no primary has been seen since the start, so nobody knows what it had written")
    failed = last.name
    if not policy.promotes:
        return Verdict(Kind.HELD, 'failover is not "promote"', failed=failed)
    claims = [one.name for one in observations.values() if one.up and one.role is Role.PRIMARY]
    if claims:
        return Verdict(Kind.HELD, f"there is a primary that is not used: {', '.join(claims)}", failed=failed)
    if observations[failed].denies:
        return Verdict(Kind.HELD, f"{failed} is alive, and answers: {observations[failed].why}", failed=failed)
    if down_s is None:
        return Verdict(Kind.COUNTING, f"{failed} is not known to be down", failed=failed)
    if down_s < policy.after_s:
        return Verdict(Kind.COUNTING, f"{failed} has been down for {down_s:.1f} s", failed=failed)
    standbys = [observations[node.name] for node in topology.standbys() if node.name != failed]
    in_touch = [one.name for one in standbys if _hears(one, last, down_s)]
    if in_touch:
        return Verdict(Kind.HELD, f"{failed} is still heard by {', '.join(in_touch)}", failed=failed)
    return _choose(standbys, last, policy)


def _choose(standbys: Sequence[Observation], last: Observation, policy: Policy) -> Verdict:
    failed = last.name
    if not standbys:
        return Verdict(Kind.HELD, "no standby is up", failed=failed)
    synchronous = [one.name for one in standbys if one.standby_name in last.sync_standbys]
    if len(synchronous) < last.sync_needed:
        there = f"of the standbys that commits waited for ({', '.join(last.sync_standbys) or 'none was there'})"
        return Verdict(Kind.HELD, f"{there} {last.sync_needed} must be up, not {len(synchronous)}", failed=failed)
    fitting = [one for one in standbys if last.timeline is None or (one.timeline or 0) >= last.timeline]
    if not fitting:
        return Verdict(Kind.HELD, f"no standby has followed {failed} to timeline {last.timeline}", failed=failed)
    # The first in the settings' order, where several have as much.
    best = max(fitting, key=received)
    lacks = max(0, (last.insert_lsn or 0) - received(best))
    if policy.lag_max_bytes and lacks > policy.lag_max_bytes:
        why = f"{best.name} has the most, and lacks {lacks} bytes: more than max_failover_lag"
        return Verdict(Kind.HELD, why, failed=failed)
    return Verdict(Kind.PROMOTE, f"it has received up to {lsn_text(received(best))}", best.name, failed)


def permitted(
    verdict: Verdict, topology: Topology, last: Observation | None, hindered: str, begun: Begun | None
) -> Verdict:
    """What becomes of a verdict where another Pointsman leads (`hindered` says so), or where the promotion of another
    node has begun: that one alone may be promoted, since it may be about to be."""
    if verdict.kind is not Kind.PROMOTE:
        return verdict
    if hindered:
        return Verdict(Kind.HELD, hindered, failed=verdict.failed)
    if begun is None or last is None or begun.timeline != (last.timeline or 0) or begun.node == verdict.node:
        return verdict
    if any(node.name == begun.node for node in topology.standbys()):
        return Verdict(Kind.PROMOTE, "its promotion had begun", begun.node, verdict.failed)
    return Verdict(Kind.HELD, f"{begun.node} was told to be the primary, and may be it", failed=verdict.failed)


def over(begun: Begun, topology: Topology, observations: Mapping[str, Observation]) -> bool:
    """Whether nothing can come of a promotion any more: it is done, or another's is, or its node follows the primary
    that there is. (One that does not answer may have been promoted all the same.)"""
    primary = topology.primary()
    if primary is None:
        return False
    if primary.name == begun.node or (observations[primary.name].timeline or 0) > begun.timeline:
        return True
    told = observations.get(begun.node)
    if told is None:
        return True
    follows = told.upstream == f"{primary.host}:{primary.port}" and told.heard_s_ago is not None
    return told.up and told.role is Role.STANDBY and follows


def received(standby: Observation) -> int:
    """How much WAL a standby has, in bytes since the cluster's beginning: what it has replayed from an archive, too."""
    return max(standby.receive_lsn or 0, standby.replay_lsn or 0)


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _hears(standby: Observation, last: Observation, down_s: float) -> bool:
    """Whether a message has come from the primary since it was down for us."""
    follows = standby.upstream == f"{last.host}:{last.port}"
    return follows and standby.heard_s_ago is not None and standby.heard_s_ago < down_s


class Step(Enum):
    """Where a failover is."""

    FENCING = "fencing the old primary"
    PROMOTING = "promoting"
    REPOINTING = "pointing the other standbys to the new primary"
    TELLING = "running failover_command"
    DONE = "done"
    ABANDONED = "abandoned"


AFTER: Final[Mapping[tuple[Step, bool], Step]] = {
    (Step.FENCING, True): Step.PROMOTING,
    (Step.FENCING, False): Step.ABANDONED,
    (Step.PROMOTING, True): Step.REPOINTING,
    (Step.PROMOTING, False): Step.ABANDONED,
    # From here on there is a new primary, whatever else fails.
    (Step.REPOINTING, True): Step.TELLING,
    (Step.REPOINTING, False): Step.TELLING,
    (Step.TELLING, True): Step.DONE,
    (Step.TELLING, False): Step.DONE,
}
"""What follows a step that has succeeded, or has not."""


def strayed(topology: Topology, observations: Mapping[str, Observation]) -> list[Node]:
    """The standbys that follow a node which is not in use, while there is a primary: they are to follow that one.

    Who follows another standby that is in use, or somebody we do not know, does so by somebody's will.
    """
    primary = topology.primary()
    if primary is None:
        return []
    lost = {f"{node.host}:{node.port}" for node in topology.nodes if not node.up}
    return [node for node in topology.standbys() if observations[node.name].upstream in lost]


def returned(topology: Topology) -> list[Node]:
    """Former primaries that are back, and believe that they still are: each must be made a standby by a command."""
    if topology.primary() is None:
        return []
    return [node for node in topology.nodes if node.condition is Condition.DETACHED and node.role is Role.PRIMARY]
