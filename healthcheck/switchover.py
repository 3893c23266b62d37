"""Whether the primary's role may be handed to a standby, which one, and what comes after what. handover.py acts.

In: the topology, what each node was last seen to be, the policy, and whom an operator wants. Out: a Verdict, or Refused
with the reason. No I/O, no clock.

    PREPARING --> HOLDING --> STOPPING --> CATCHING_UP --> FENCING --> PROMOTING --> REPOINTING --> TELLING
              --> FOLLOWING --> DONE
    PREPARING --failed--> ABANDONED: nothing has been done
    HOLDING --failed--> RESUMED: the old primary takes what was held
    STOPPING --failed--> LOOKING: does the old primary still run as one? --> RESUMED, if it does
    LOOKING, CATCHING_UP, FENCING, PROMOTING --failed--> LEFT: it is stopped, and the failover decides as for one that
        has died; whatever was acknowledged is still on the disk of the old one

Nothing is given up before the old primary is told to stop, and nothing is taken back after it has stopped. From
PROMOTING on there is a new primary, whatever else fails.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from healthcheck.failover import Kind, Policy, Verdict, lsn_text, received
from healthcheck.topology import Condition, Observation, Topology

_CHECKPOINT: Final = re.compile(r"^Latest checkpoint location:\s*([0-9A-F]{1,8})/([0-9A-F]{1,8})\s*$", re.MULTILINE)


class Reason(Enum):
    """Why there is no switchover, for machines."""

    NOT_READY = "something must be otherwise first"
    UNKNOWN = "there is no such node"
    BUSY = "roles are being changed already"
    TIMED_OUT = "open transactions did not end in time"
    FAILED = "a step has failed"


class Refused(Exception):
    """There is no switchover, or no more. The text says why; `detail` and `hint` are sentences."""

    def __init__(self, reason: Reason, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.detail: Final = detail
        self.hint: Final = hint


class Step(Enum):
    """Where a switchover is."""

    PREPARING = "writing out what a shutdown would have to"
    HOLDING = "holding new work, and letting transactions end"
    STOPPING = "stopping the old primary"
    LOOKING = "looking whether the old primary still runs"
    CATCHING_UP = "waiting until the new one has everything"
    FENCING = "fencing the old primary"
    PROMOTING = "promoting"
    REPOINTING = "pointing the other standbys to the new primary"
    TELLING = "running failover_command"
    FOLLOWING = "making the old primary a standby"
    DONE = "done"
    ABANDONED = "abandoned"
    RESUMED = "taken back"
    LEFT = "left to the failover"


AFTER: Final[Mapping[tuple[Step, bool], Step]] = {
    (Step.PREPARING, True): Step.HOLDING,
    (Step.PREPARING, False): Step.ABANDONED,
    (Step.HOLDING, True): Step.STOPPING,
    (Step.HOLDING, False): Step.RESUMED,
    (Step.STOPPING, True): Step.CATCHING_UP,
    (Step.STOPPING, False): Step.LOOKING,
    (Step.LOOKING, True): Step.RESUMED,
    (Step.LOOKING, False): Step.LEFT,
    (Step.CATCHING_UP, True): Step.FENCING,
    (Step.CATCHING_UP, False): Step.LEFT,
    (Step.FENCING, True): Step.PROMOTING,
    (Step.FENCING, False): Step.LEFT,
    (Step.PROMOTING, True): Step.REPOINTING,
    (Step.PROMOTING, False): Step.LEFT,
    (Step.REPOINTING, True): Step.TELLING,
    (Step.REPOINTING, False): Step.TELLING,
    (Step.TELLING, True): Step.FOLLOWING,
    (Step.TELLING, False): Step.FOLLOWING,
    (Step.FOLLOWING, True): Step.DONE,
    (Step.FOLLOWING, False): Step.DONE,
}
"""What follows a step that has succeeded, or has not."""

LAST: Final = frozenset({Step.DONE, Step.ABANDONED, Step.RESUMED, Step.LEFT})
"""After which nothing follows."""

HELD: Final = frozenset({Step.HOLDING, Step.STOPPING, Step.LOOKING, Step.CATCHING_UP, Step.FENCING, Step.PROMOTING})
"""In which clients wait: the old primary is kept from them by order."""

BEYOND_RECALL: Final = frozenset(Step) - LAST - {Step.PREPARING, Step.HOLDING}
"""Steps that are carried through, whoever has lost interest: half-way through them nobody would be primary."""


def plan_switchover(
    topology: Topology, observations: Mapping[str, Observation], policy: Policy, wanted: str = ""
) -> Verdict:
    """Who is to be primary instead of whom. `wanted`: "" for whoever has the most. Raises Refused."""
    if not policy.promotes:
        raise Refused(
            Reason.NOT_READY,
            'failover is not "promote"',
            detail="Roles change by others' hands here, and are noticed.",
            hint="Have them do it: Patroni, a managed service, an operator.",
        )
    names = [node.name for node in topology.nodes]
    if wanted and wanted not in names:
        raise Refused(Reason.UNKNOWN, f'node "{wanted}" does not exist', hint=f"The nodes are {', '.join(names)}.")
    primary = topology.primary()
    if primary is None:
        why = "; ".join(f"{node.name}: {node.why or node.role.value}" for node in topology.nodes)
        raise Refused(Reason.NOT_READY, "there is no primary", detail=f"{why}.")
    old = observations[primary.name]
    if old.condition is not Condition.UP:
        why = f"{old.why}." if old.why else ""
        raise Refused(Reason.NOT_READY, f'primary "{old.name}" does not answer its probes', detail=why)
    if wanted == old.name:
        raise Refused(Reason.NOT_READY, f'node "{wanted}" is the primary already')
    reasons = {node.name: _unfit(node.why, node.up, observations[node.name], old, policy) for node in topology.nodes}
    reasons.pop(old.name)
    if wanted and reasons[wanted]:
        raise Refused(Reason.NOT_READY, f'node "{wanted}" cannot be primary now', detail=f"It {reasons[wanted]}.")
    fitting = [observations[name] for name, why in reasons.items() if not why]
    if not fitting:
        why = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
        detail = f"{why}." if why else "There is no other node."
        raise Refused(Reason.NOT_READY, "no standby can be primary now", detail=detail)
    # The first in the settings' order, where several have as much.
    best = observations[wanted] if wanted else max(fitting, key=_progress)
    return Verdict(Kind.PROMOTE, f"it has received up to {lsn_text(received(best))}", best.name, old.name, stopped=True)


def _progress(standby: Observation) -> tuple[int, int]:
    """Synchronous or not, all will be awaited: who has the most to begin with makes clients wait the least."""
    return received(standby), standby.replay_lsn or 0


def _unfit(why: str, used: bool, one: Observation, primary: Observation, policy: Policy) -> str:
    """Why a node cannot take over, as the rest of "It .."; "" if it can."""
    if not used:
        return f"is not used: {why or 'it is not known'}"
    if one.condition is not Condition.UP:
        return f"does not answer its probes: {one.why}"
    if one.timeline != primary.timeline:
        return f"is on timeline {one.timeline}, the primary on timeline {primary.timeline}"
    if one.heard_s_ago is None:
        return "does not stream"
    lacks = max(0, (primary.insert_lsn or 0) - (one.replay_lsn or 0))
    if policy.lag_max_bytes and lacks > policy.lag_max_bytes:
        return f"has yet to replay {lacks} bytes: more than max_failover_lag"
    return ""


def caught_up(replayed: int, before: int, checkpoint: int | None, others: Sequence[int]) -> bool:
    """Whether a standby that has replayed up to `replayed` has all that the old primary wrote. In bytes, all of them.

    `before`: where the old primary wrote just before it was stopped: the shutdown writes a record behind it, the last.
    `checkpoint`: where that record begins, if demote_command has said so. `others`: up to where other standbys have
    received.
    """
    return replayed > max(before, checkpoint or 0) and replayed >= max(others, default=0)


def final_checkpoint(output: str) -> int | None:
    """Where the last record of a stopped primary begins, if a command has printed what pg_controldata says of it."""
    return max((int(high, 16) << 32 | int(low, 16) for high, low in _CHECKPOINT.findall(output)), default=None)
