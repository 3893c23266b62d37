"""Failover as it goes on: looks at the topology, decides (failover.py), acts (promote.py, commands.py), and tells.

In: the monitor, the policy, who acts and who runs commands. Out: happenings, to `tell`; and a topology that has a
primary again. With several Pointsmans only one may act: the Leader is asked before anything is done to a node, and
again before the promotion itself.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

import anyio
import msgspec

from healthcheck import commands
from healthcheck.alarms import alarms
from healthcheck.commands import CommandFailed, Place
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
    returned,
    strayed,
)
from healthcheck.leader import Alone, Begun, Leader
from healthcheck.line import ProbeError
from healthcheck.monitor import Monitor
from healthcheck.promote import Hand, NotAsked
from healthcheck.topology import Condition, Observation, Role

LOOK_S: Final = 0.1
"""Between two looks while there is no primary."""
TEND_S: Final = 1.0
"""Between two looks at who follows whom."""
AGAIN_S: Final = 5.0
"""Before what has failed is tried again."""
SEEN_S: Final = 10.0
"""How long a promoted node has until it is seen to be the primary."""


class Happening(msgspec.Struct, frozen=True):
    """Something that an operator wants to know of."""

    at: float
    """time.time()"""
    what: str
    """For machines, such as "promoted"."""
    text: str
    node: str = ""
    bad: bool = False


class Commands(msgspec.Struct, frozen=True):
    """The operator's, "" for none."""

    fence: str = ""
    failover: str = ""
    follow_primary: str = ""
    timeout_s: float = 60.0


class Guard:
    """One Pointsman's."""

    def __init__(
        self,
        monitor: Monitor,
        policy: Policy,
        hand: Hand,
        orders: Commands,
        places: Mapping[str, Place],
        tell: Callable[[Happening], None],
        *,
        promote_timeout_s: float = 60.0,
        leader: Leader | None = None,
        stayed: Callable[[], str] = lambda: "",
    ) -> None:
        """`stayed`: why nobody is to be promoted at the moment, by an operator's word; "" for no reason."""
        self._stayed: Final = stayed
        self._monitor: Final = monitor
        self._policy = policy
        self._hand: Final = hand
        self._commands = orders
        self._places = places
        self._tell: Final = tell
        self._promote_timeout_s = promote_timeout_s
        self._leader: Final = leader or Alone()
        self._told_of: Begun | None = None
        """The failover after which failover_command was run."""
        self._last: Observation | None = None
        """The primary when it was last well."""
        self._absence: Final = Absence()
        self._seen: Mapping[str, Observation] = {}
        """What each node was at the last look."""
        self._verdict = Verdict(Kind.WELL)
        self._again_at = 0.0
        """After a failover that was abandoned: not before then."""
        self._tended: dict[tuple[str, str], float] = {}
        """When what was last tried for a node: (act, name)."""
        self.busy = anyio.Lock()
        """Held by who changes roles."""
        self.tending = anyio.Lock()
        """Held by who makes nodes follow the primary."""

    async def run(self) -> None:
        """Guard until cancelled."""
        async with anyio.create_task_group() as tasks:
            # A new copy of a node takes its time, and the primary may die meanwhile.
            tasks.start_soon(self._keep_tending)
            while True:
                async with self.busy:
                    # Not before all nodes were asked once.
                    if self._monitor.topology.version:
                        await self._look()
                        if self._well() and not self._leader.hindered():
                            await self._wind_up()
                await anyio.sleep(LOOK_S)

    async def _keep_tending(self) -> None:
        while True:
            await anyio.sleep(TEND_S)
            # In a switchover, that sees to it.
            if self._well() and not self._leader.hindered() and not self.tending.locked():
                async with self.tending:
                    await self._tend()

    def use(self, policy: Policy, orders: Commands, places: Mapping[str, Place], *, promote_timeout_s: float) -> None:
        """Go by these from now on. Called together with the monitor's use(), by who holds `busy`."""
        self._policy, self._commands, self._promote_timeout_s = policy, orders, promote_timeout_s
        before, self._places = self._places, places
        last = self._last
        if last is not None and last.name not in places:
            was = before[last.name]
            now = [place.name for place in places.values() if (place.host, place.port) == (was.host, was.port)]
            # What one that is not there any more had written is nobody's to judge by.
            self._last = msgspec.structs.replace(last, name=now[0]) if now else None
            self._absence.over()

    @property
    def last(self) -> Observation | None:
        """The primary when it was last well; None before one was seen."""
        return self._last

    def know(self, last: Observation) -> None:
        """The primary when somebody else saw it well last: to judge by until one is seen. Nothing where the settings do
        not name it."""
        names = [place.name for place in self._places.values() if (place.host, place.port) == (last.host, last.port)]
        if self._last is None and names:
            self._last = msgspec.structs.replace(last, name=names[0])

    def awaited(self) -> str:
        """The primary that was, while it is not known who is to be it in its place; "" for none."""
        waits = self._last is not None and self._monitor.topology.writer() is None
        return self._last.name if waits and self._last is not None else ""

    def _well(self) -> bool:
        return self._policy.promotes and self._verdict.kind is Kind.WELL

    @property
    def verdict(self) -> Verdict:
        """What was decided last."""
        return self._verdict

    def hindered(self) -> str:
        """Why this one may not change roles, for people; "" if it may."""
        return self._leader.hindered()

    def failing_over(self) -> bool:
        """Whether the primary was lost, and another is to be promoted as soon as that is certain."""
        return self._verdict.kind in (Kind.COUNTING, Kind.PROMOTE)

    # The primary

    async def _look(self) -> None:
        monitor, now = self._monitor, time.monotonic()
        topology, observations = monitor.topology, monitor.observations()
        for alarm in alarms(self._seen, observations):
            self.say(alarm.what, alarm.text, alarm.node, bad=alarm.bad)
        self._seen = observations
        primary = topology.primary()
        down_s: float | None = None
        if primary is not None:
            seen = observations[primary.name]
            if seen.condition is Condition.UP:
                self._last = seen
            self._absence.over()
        elif self._last is not None:
            down_s = self._absence.look(observations[self._last.name], now)
        verdict = decide_failover(topology, observations, self._last, self._policy, down_s)
        verdict = permitted(verdict, topology, self._last, self._leader.hindered(), self._leader.begun())
        if verdict.kind in (Kind.COUNTING, Kind.PROMOTE) and (stayed := self._stayed()):
            # When that is over, the time that a primary must have been down is counted anew.
            self._absence.over()
            verdict = Verdict(Kind.HELD, stayed, failed=verdict.failed)
        before, self._verdict = self._verdict, verdict
        if verdict.kind is Kind.HELD and (before.kind, before.why) != (verdict.kind, verdict.why):
            # What an operator has done on purpose is no alarm.
            bad = verdict.why != self._stayed()
            self.say("failover_held", f"no failover: {verdict.why}", verdict.failed, bad=bad)
        if verdict.kind is Kind.COUNTING and before.kind is Kind.WELL:
            self.say("primary_lost", f"no primary: {verdict.why}", verdict.failed, bad=True)
        if verdict.kind is Kind.PROMOTE and now >= self._again_at:
            await self._fail_over(verdict)

    async def _fail_over(self, verdict: Verdict) -> None:
        self.say(
            "failover_begun", f"{verdict.failed} is dead; {verdict.node} is to be primary: {verdict.why}", verdict.node
        )
        acts = {
            Step.FENCING: self.fence,
            Step.PROMOTING: self.promote,
            Step.REPOINTING: self.repoint_all,
            Step.TELLING: self.tell_of_failover,
        }
        step = Step.FENCING
        while step in acts:
            try:
                await acts[step](verdict)
                succeeded = True
            except (ProbeError, CommandFailed) as error:
                succeeded = False
                self.say("failover_trouble", f"{step.value}: {error}", verdict.node, bad=True)
            step = AFTER[step, succeeded]
        if step is Step.ABANDONED:
            self._monitor.unfence(verdict.failed)
            self._again_at = time.monotonic() + AGAIN_S
            self.say("failover_abandoned", f"tried again in {AGAIN_S:g} s", verdict.node, bad=True)
        else:
            self.say("failover_done", f"{verdict.node} is the primary", verdict.node)

    async def fence(self, verdict: Verdict) -> None:
        self._monitor.fence(verdict.failed)
        if self._commands.fence:
            await self.run_command("fence_command", self._commands.fence, verdict.failed, verdict.node, verdict.failed)
        self.say("fenced", "it is given nothing any more", verdict.failed)

    async def promote(self, verdict: Verdict) -> None:
        monitor = self._monitor
        # The fence took its time.
        observations = monitor.observations()
        stopped = verdict.failed if verdict.stopped else ""
        claims = [one.name for one in observations.values() if one.up and one.role is Role.PRIMARY]
        claims = [name for name in claims if name != stopped]
        if claims:
            raise ProbeError(f"there is a primary again: {', '.join(claims)}")
        if hindered := self._leader.hindered():
            raise ProbeError(hindered)
        node = next(node for node in monitor.topology.nodes if node.name == verdict.node)
        timeline = self._last.timeline if self._last else None
        before, begun = self._leader.begun(), Begun(verdict.failed, timeline or 0, verdict.node)
        await self._leader.begin(begun)
        try:
            await self._hand.promote(node, self._promote_timeout_s, self._leader.left_s)
        except NotAsked:
            # Unless an order before this one may have come to it. Where it cannot be put down, the same node is next.
            if before != begun:
                with contextlib.suppress(ProbeError):
                    await self._leader.finish()
            raise
        self.say("promoted", "it has accepted", verdict.node)
        with anyio.move_on_after(SEEN_S):
            while (primary := monitor.topology.primary()) is None or primary.name != verdict.node:
                monitor.probe_now(verdict.node)
                await anyio.sleep(LOOK_S / 10)

    async def repoint_all(self, _verdict: Verdict) -> None:
        for node in strayed(self._monitor.topology, self._monitor.observations()):
            if self._due("repoint", node.name):
                await self.repoint(node.name)

    async def tell_of_failover(self, verdict: Verdict) -> None:
        # Who does not lead any more leaves it to whoever does, who finds what has begun.
        begun = self._leader.begun()
        if begun is None or self._leader.hindered():
            return
        if self._commands.failover and begun != self._told_of:
            self._told_of = begun
            command = self._commands.failover
            await self.run_command("failover_command", command, verdict.failed, verdict.node, verdict.failed)
        await self._leader.finish()

    async def _wind_up(self) -> None:
        """Do what was left undone by somebody who began a failover, and was gone before its end."""
        begun, primary = self._leader.begun(), self._monitor.topology.primary()
        if begun is None or primary is None or not self._due("finish", begun.node):
            return
        try:
            if primary.name == begun.node and begun != self._told_of:
                self.say("failover_taken_over", f"{begun.node} is the primary instead of {begun.failed}", begun.node)
                await self.tell_of_failover(Verdict(Kind.WELL, node=begun.node, failed=begun.failed))
            elif over(begun, self._monitor.topology, self._monitor.observations()):
                await self._leader.finish()
        except (ProbeError, CommandFailed) as error:
            self.say("failover_trouble", str(error), begun.node, bad=True)

    # The others

    async def _tend(self) -> None:
        """See that standbys follow the primary, and that former primaries become standbys."""
        monitor = self._monitor
        for node in strayed(monitor.topology, monitor.observations()):
            if not self._leader.hindered() and self._due("repoint", node.name):
                try:
                    await self.repoint(node.name)
                except ProbeError as error:
                    self.say("repoint_failed", str(error), node.name, bad=True)
        if self._commands.follow_primary:
            for node in returned(monitor.topology):
                if not self._leader.hindered() and self._due("follow", node.name):
                    await self.follow(node.name)

    async def follow(self, name: str) -> bool:
        """Have follow_primary_command make a standby of a node; whether it succeeded."""
        primary = self._monitor.topology.primary()
        if primary is None:
            return False
        try:
            await self.run_command("follow_primary_command", self._commands.follow_primary, name, primary.name, name)
        except CommandFailed as error:
            self.say("follow_failed", str(error), name, bad=True)
            return False
        self.say("follows", f"follow_primary_command has made it follow {primary.name}", name)
        self._monitor.probe_now(name)
        return True

    def _due(self, act: str, name: str) -> bool:
        """Whether it may be tried (again) now."""
        now = time.monotonic()
        if now - self._tended.get((act, name), -AGAIN_S) < AGAIN_S:
            return False
        self._tended[act, name] = now
        return True

    async def repoint(self, name: str) -> None:
        topology = self._monitor.topology
        primary = topology.primary()
        standby = next((node for node in topology.nodes if node.name == name), None)
        # It may have been taken out of the settings meanwhile.
        if primary is not None and standby is not None:
            await self._hand.repoint(standby, primary)
            self.say("repointed", f"it follows {primary.name}", name)

    async def run_command(self, key: str, command: str, node: str, new: str, old: str) -> str:
        """One of the operator's commands; returns what it has written. Raises CommandFailed."""
        if not {node, new, old} <= self._places.keys():
            raise CommandFailed(f"{key} is not run: its node is not in the settings any more")
        values = commands.placeholders(self._places[node], self._places[new], self._places[old])
        self.say("command", f"{key} begins", node)
        try:
            output = await commands.run(command, values, self._commands.timeout_s)
        except CommandFailed as error:
            raise CommandFailed(f"{key} {error}") from None
        self.say("command", f"{key} has ended{': ' + output if output else ''}", node)
        return output

    def say(self, what: str, text: str, node: str = "", *, bad: bool = False) -> None:
        self._tell(Happening(time.time(), what, text, node, bad))
