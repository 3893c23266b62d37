"""Who is primary by Patroni's word, laid over what the nodes say of themselves.

In: observations, and the word: what Patroni said last, and whether it still says so. Out: observations again, for
topology.decide(). Nothing here does I/O or reads a clock.

A node is believed to be the primary if Patroni says that it leads, *and* the node says that it is not in recovery. So
there is one or none, whatever nodes claim. While Patroni does not answer, or has not been asked since a role changed,
its last word stands as far as the nodes agree to it: it ends once a primary on a higher timeline was seen, for then
there was a failover that we have not been told of.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from healthcheck.topology import Condition, Observation, Role

LEADS: Final = ("leader", "master")
"""What the one is called that may be written to. (A standby_leader is in recovery.)"""
SERVES: Final = ("running", "streaming", "in archive recovery", "starting")
"""The states of a member that may be used; whether it answers by now its probes say sooner than Patroni."""


class Member(msgspec.Struct, frozen=True):
    """One of Patroni's cluster."""

    name: str
    role: str
    state: str
    host: str = ""
    port: int = 0
    timeline: int | None = None
    lag_bytes: int | None = None
    """None for the leader, and where Patroni does not know."""
    no_reads: bool = False
    """It is tagged noloadbalance."""

    def leads(self) -> bool:
        return self.role in LEADS


class Word(msgspec.Struct, frozen=True):
    """What Patroni said."""

    members: tuple[Member, ...] = ()
    paused: bool = False

    def leader(self) -> Member | None:
        """Who leads, if anybody does."""
        leaders = [member for member in self.members if member.leads()]
        return leaders[0] if len(leaders) == 1 else None


def members_of(observations: Sequence[Observation], word: Word) -> dict[str, Member]:
    """The members that are our nodes: by name, or else by host and port."""
    by_name = {member.name: member for member in word.members}
    by_place = {(member.host, member.port): member for member in word.members}
    found: dict[str, Member] = {}
    for one in observations:
        member = by_place.get((one.host, one.port)) or by_name.get(one.name)
        if member is not None:
            found[one.name] = member
    return found


def strangers(observations: Sequence[Observation], word: Word) -> tuple[list[str], list[str]]:
    """The nodes that Patroni does not know, and its members that are none of our nodes."""
    known = members_of(observations, word)
    ours = {member.name for member in known.values()}
    return (
        [one.name for one in observations if one.name not in known],
        [member.name for member in word.members if member.name not in ours],
    )


def by_word(observations: Sequence[Observation], word: Word | None, floor: int = 0) -> list[Observation]:
    """The observations as they count. `word`: None before there was any. `floor`: the highest timeline that a primary
    was seen on, while Patroni's word is not of now; 0 while it is."""
    if word is None:
        return [_not_primary(one, "Patroni has not said yet who leads") for one in observations]
    known = members_of(observations, word)
    leaders = [one for one in observations if one.name in known and known[one.name].leads()]
    leader = leaders[0] if len(leaders) == 1 else None
    if leader is not None:
        against = f"Patroni says that {leader.name} leads"
    elif (elsewhere := word.leader()) is not None:
        against = f"Patroni says that {elsewhere.name} leads, which no [nodes.NAME] is"
    else:
        against = "Patroni says that nobody leads"
    counted = []
    for one in observations:
        if one.name != (leader.name if leader else ""):
            counted.append(_beside(_not_primary(one, against), known.get(one.name)))
        elif (one.timeline or 0) < floor:
            why = f"a primary on timeline {floor} has been seen, and Patroni has not said since who leads"
            counted.append(_not_primary(one, why))
        else:
            counted.append(one)
    return counted


def highest(observations: Sequence[Observation], word: Word | None) -> int:
    """The highest timeline of those that claim to be primaries now, of the leader's cluster."""
    known = {} if word is None else members_of(observations, word)
    clusters = {one.system_identifier for one in observations if one.name in known and known[one.name].leads()}
    return max(
        (
            one.timeline or 0
            for one in observations
            if one.up and one.role is Role.PRIMARY and (not clusters or one.system_identifier in clusters)
        ),
        default=0,
    )


def _beside(one: Observation, member: Member | None) -> Observation:
    """One that does not lead."""
    if member is None:
        return one
    if one.up and member.no_reads:
        return _unused(one, "is tagged noloadbalance")
    if one.up and member.state not in SERVES:
        return _unused(one, f"is {member.state}, by Patroni's word")
    return msgspec.structs.replace(one, told_lag_bytes=member.lag_bytes, timeline=one.timeline or member.timeline)


def _not_primary(one: Observation, why: str) -> Observation:
    return _unused(one, f"claims to be the primary, but {why}") if one.role is Role.PRIMARY and one.up else one


def _unused(one: Observation, why: str) -> Observation:
    return msgspec.structs.replace(one, up=False, why=why, condition=Condition.DETACHED)
