"""What an operator is told of nodes that are not well, and that the topology says nothing of, or not the reason.

In: what each node was last seen to be, look by look. Out: what has changed since. No I/O, no clock.

A node that *denies* stays in use, so nothing else would tell of it; one that *flaps* is down, and is kept from use for
longer than its answers explain.
"""

from collections.abc import Mapping

import msgspec

from healthcheck.topology import Observation


class Alarm(msgspec.Struct, frozen=True):
    """Something to tell."""

    what: str
    """For machines."""
    text: str
    node: str
    bad: bool


def alarms(before: Mapping[str, Observation], now: Mapping[str, Observation]) -> list[Alarm]:
    """What is to be told, in the nodes' order. A node that `before` lacks was well."""
    found: list[Alarm] = []
    for name, one in now.items():
        was = before.get(name)
        denied = was is not None and was.denies
        if one.denies and (was is None or not denied or was.why != one.why):
            found.append(Alarm("node_denies", f"it is alive, and cannot be asked: {one.why}", name, True))
        if denied and not one.denies:
            over = f"it no longer answers: {one.why}" if one.why else "it can be asked again"
            found.append(Alarm("node_denies_no_more", over, name, bool(one.why)))
        if one.flaps and (was is None or was.flaps != one.flaps):
            found.append(Alarm("node_flaps", f"it {one.why} before it is used again", name, True))
    return found
