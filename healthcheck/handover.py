"""A switchover as it goes on: asks whether there may be one (switchover.py), and hands the primary's role over.

In: the guard, whose way of changing roles it uses and whose lock it holds meanwhile, and what clients have under way.
Out: Switched, or Refused with what it has come to; and happenings as it goes on.

Clients' new work is held by whoever publishes the topology, as long as the primary is DRAINING and as long as there is
none. Cancelled before the old primary is told to stop, it is taken back; from then on it is carried through.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import msgspec

from healthcheck.commands import CommandFailed
from healthcheck.failover import Policy, Verdict, lsn_text
from healthcheck.guard import Guard
from healthcheck.line import ProbeError
from healthcheck.monitor import Monitor
from healthcheck.promote import Hand
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
from healthcheck.topology import Condition, Node

BUSY_S: Final = 3.0
"""For the guard's look at the nodes to end; a failover takes longer."""
LOOK_S: Final = 0.01
"""Between two looks while clients wait."""
SHUTDOWN_S: Final = 5.0
"""For a node that was told to shut itself down to begin with it."""
BACK_S: Final = 30.0
"""For the old primary to be seen as a standby, once it was made one."""


class Traffic(Protocol):
    """What clients have under way at a node that is given no new work."""

    async def at_rest(self, version: int, node: str) -> int:
        """Until all know topology `version` and nothing is under way there; returns how many clients will lose their
        connection, since their session's state is there."""

    def under_way(self, version: int, node: str) -> str:
        """What is, in words."""


class Switched(msgspec.Struct, frozen=True):
    """What it has come to."""

    primary: str
    old: str
    held_s: float
    """For how long new work for a primary was held."""
    follows: bool | None
    """Whether the old primary follows; None where it is left to others."""


class _Run:
    """One switchover."""

    def __init__(self, verdict: Verdict, old: Node, new: Node) -> None:
        self.verdict: Final = verdict
        self.old: Final = old
        self.new: Final = new
        self.held_at = 0.0
        self.held_s = 0.0
        self.before_lsn = 0
        self.checkpoint_lsn: int | None = None
        self.follows: bool | None = None
        self.reason = Reason.FAILED
        self.why = ""


@asynccontextmanager
async def _taken(lock: anyio.Lock, why: str) -> AsyncIterator[None]:
    """Hold a lock of the guard's. Raises Refused where it is held for longer than a look takes."""
    try:
        with anyio.fail_after(BUSY_S):
            await lock.acquire()
    except TimeoutError:
        raise Refused(Reason.BUSY, why) from None
    try:
        yield
    finally:
        lock.release()


class Handover:
    """One Pointsman's."""

    def __init__(
        self,
        guard: Guard,
        monitor: Monitor,
        policy: Policy,
        hand: Hand,
        traffic: Traffic,
        *,
        demote_command: str,
        follows: bool,
        timeout_s: float,
        catch_up_s: float,
    ) -> None:
        """`follows`: there is a follow_primary_command. `timeout_s`: for open transactions to end. `catch_up_s`: for
        the new primary to have everything."""
        self._guard: Final = guard
        self._monitor: Final = monitor
        self._policy = policy
        self._hand: Final = hand
        self._traffic: Final = traffic
        self._demote_command = demote_command
        self._follows = follows
        self._timeout_s = timeout_s
        self._catch_up_s = catch_up_s
        self._going_on = False

    def use(self, policy: Policy, *, demote_command: str, follows: bool, timeout_s: float, catch_up_s: float) -> None:
        """Go by these in the next switchover. One that is under way sees new values where it comes to them."""
        self._policy, self._demote_command, self._follows = policy, demote_command, follows
        self._timeout_s, self._catch_up_s = timeout_s, catch_up_s

    @property
    def going_on(self) -> bool:
        """A switchover is."""
        return self._going_on

    async def switch(self, wanted: str = "") -> Switched:
        """Make `wanted`, or the standby that has the most, the primary. Raises Refused."""
        if self._going_on:
            raise Refused(Reason.BUSY, "a switchover is going on")
        self._going_on = True
        guard = self._guard
        try:
            async with _taken(guard.tending, "a node is being made to follow the primary"):
                async with _taken(guard.busy, "a failover is going on"):
                    run = await self._begin(wanted)
                    step = await self._go(run, Step.PREPARING, Step.FOLLOWING)
                # A new primary that dies meanwhile is the guard's again, and so is an old one that was left.
                step = await self._go(run, step, Step.DONE)
            if step is Step.LEFT:
                await self._let_go(run.old.name)
        finally:
            self._going_on = False
        self._end(run, step)
        return Switched(run.new.name, run.old.name, round(run.held_s, 3), run.follows)

    async def _begin(self, wanted: str) -> _Run:
        monitor = self._monitor
        topology = monitor.topology
        verdict = plan_switchover(topology, monitor.observations(), self._policy, wanted)
        if hindered := self._guard.hindered():
            raise Refused(Reason.NOT_READY, "this Pointsman may not change roles", detail=f"{hindered}.")
        nodes = {node.name: node for node in topology.nodes}
        await self._can_stop(nodes[verdict.failed])
        self._guard.say(
            "switchover_begun", f"{verdict.node} is to be primary instead of {verdict.failed}", verdict.node
        )
        return _Run(verdict, nodes[verdict.failed], nodes[verdict.node])

    async def _can_stop(self, old: Node) -> None:
        """Raises Refused where the old primary could not be stopped."""
        if self._demote_command:
            return
        try:
            may = await self._hand.may_shut_down(old)
        except ProbeError as error:
            raise Refused(Reason.NOT_READY, f'primary "{old.name}" cannot be asked', detail=f"{error}.") from None
        if not may:
            raise Refused(
                Reason.NOT_READY,
                f'primary "{old.name}" cannot be stopped: there is no demote_command',
                detail="Nor may failover_user run programs on the server.",
                hint="Set demote_command to what stops a node, such as pg_ctl stop on its host.",
            )

    async def _go(self, run: _Run, step: Step, until: Step) -> Step:
        """From step to step, up to `until` or to where nothing follows."""
        acts: dict[Step, Callable[[_Run], Awaitable[None]]] = {
            Step.PREPARING: self._prepare,
            Step.HOLDING: self._hold,
            Step.STOPPING: self._stop,
            Step.LOOKING: self._look,
            Step.CATCHING_UP: self._catch_up,
            Step.FENCING: self._fence,
            Step.PROMOTING: self._promote,
            Step.REPOINTING: self._repoint,
            Step.TELLING: self._tell,
            Step.FOLLOWING: self._follow,
        }
        try:
            while step not in LAST and step is not until:
                with anyio.CancelScope(shield=step in BEYOND_RECALL):
                    step = AFTER[step, await self._tried(run, step, acts[step])]
        finally:
            if step in HELD or step is Step.RESUMED:
                # Also where it was cancelled, or a bug has ended it.
                self._monitor.unfence(run.old.name)
                self._monitor.attach(run.old.name)
            if step is Step.HOLDING:
                self._guard.say("switchover_resumed", "it was called off", run.old.name, bad=True)
        return step

    async def _tried(self, run: _Run, step: Step, act: Callable[[_Run], Awaitable[None]]) -> bool:
        try:
            await act(run)
        except (ProbeError, CommandFailed) as error:
            # What LOOKING finds is no reason of its own.
            run.why = run.why if step is Step.LOOKING else f"{step.value}: {error}"
            self._guard.say("switchover_trouble", f"{step.value}: {error}", run.old.name, bad=True)
            return False
        return True

    async def _let_go(self, name: str) -> None:
        """Keep clients from a node that was told to stop until its probes have seen what has become of it."""
        self._monitor.unfence(name)
        try:
            with anyio.move_on_after(BACK_S, shield=True):
                while not await self._settled(name):
                    self._monitor.probe_now(name)
                    await anyio.sleep(LOOK_S)
        finally:
            self._monitor.attach(name)

    async def _settled(self, name: str) -> bool:
        """Whether it is known to be down, or answers after all."""
        if self._monitor.observations()[name].condition is Condition.DOWN:
            return True
        node = next(node for node in self._monitor.topology.nodes if node.name == name)
        try:
            return not await self._hand.stopped(node)
        except ProbeError:
            return True

    def _end(self, run: _Run, step: Step) -> None:
        """Say what it has come to. Raises Refused where that is not what was wanted."""
        say, old, new = self._guard.say, run.old.name, run.new.name
        if step is Step.DONE:
            say("switchover_done", f"{new} is the primary; new work was held for {run.held_s:.2f} s", new)
            return
        if step is Step.ABANDONED:
            say("switchover_abandoned", "nothing has been done", old, bad=True)
            raise Refused(run.reason, f"no switchover: {run.why}", detail="Nothing has been done.")
        if step is Step.RESUMED:
            say("switchover_resumed", f"{old} stays the primary", old, bad=True)
            detail = f"{old} stays the primary, and gets what was held."
            raise Refused(run.reason, f"the switchover was taken back: {run.why}", detail=detail)
        say("switchover_left", f"{old} is stopped, and {new} is not the primary", old, bad=True)
        raise Refused(
            run.reason,
            f"the switchover has failed half-way: {run.why}",
            detail=f"{old} was told to stop. The failover decides who is to be primary, as if {old} had died.",
            hint="See what `pointsman events` says of it.",
        )

    # The steps

    async def _prepare(self, run: _Run) -> None:
        await self._hand.checkpoint(run.old)

    async def _hold(self, run: _Run) -> None:
        run.held_at = time.monotonic()
        self._monitor.drain(run.old.name)
        self._guard.say("switchover_holds", "new work for a primary waits", run.old.name)
        version = self._monitor.topology.version
        try:
            with anyio.fail_after(self._timeout_s):
                pinned = await self._traffic.at_rest(version, run.old.name)
        except TimeoutError:
            run.reason = Reason.TIMED_OUT
            raise ProbeError(f"{self._traffic.under_way(version, run.old.name)} after {self._timeout_s:g} s") from None
        if pinned:
            text = f"clients whose session's state is there, and who will lose their connection: {pinned}"
            self._guard.say("switchover_pinned", text, run.old.name, bad=True)
        run.before_lsn = await self._hand.position(run.old)
        if hindered := self._guard.hindered():
            raise ProbeError(hindered)

    async def _stop(self, run: _Run) -> None:
        """What it says that it has done is not enough: that it takes no connections any more is seen."""
        verdict, told, grace_s = run.verdict, "", 0.0
        if self._demote_command:
            output = await self._guard.run_command(
                "demote_command", self._demote_command, verdict.failed, verdict.node, verdict.failed
            )
            run.checkpoint_lsn = final_checkpoint(output)
        else:
            told, grace_s = await self._hand.shut_down(run.old), SHUTDOWN_S
        began = time.monotonic()
        try:
            with anyio.fail_after(self._catch_up_s):
                while not await self._has_stopped(run.old, told, began + grace_s):  # noqa: ASYNC110 - it is elsewhere
                    await anyio.sleep(LOOK_S)
        except TimeoutError:
            raise ProbeError(f"it is still shutting down after {self._catch_up_s:g} s") from None
        self._guard.say("switchover_stopped", "it is stopped", run.old.name)

    async def _has_stopped(self, node: Node, told: str, until: float) -> bool:
        """Whether it has. Raises ProbeError where it goes on after `until` as if nothing had been said."""
        try:
            return await self._hand.stopped(node)
        except ProbeError as error:
            if time.monotonic() < until:
                return False
            raise ProbeError(f"{error}: {told}" if told else str(error)) from None

    async def _look(self, run: _Run) -> None:
        await self._hand.position(run.old)

    async def _catch_up(self, run: _Run) -> None:
        others = [node for node in self._monitor.topology.standbys() if node.name != run.new.name]
        replayed = 0
        try:
            with anyio.fail_after(self._catch_up_s):
                received = await self._received(others)
                while True:
                    progress = await self._hand.progress(run.new)
                    replayed = progress.replayed
                    # While it still streams from there, more may be on its way.
                    streams = progress.upstream == f"{run.old.host}:{run.old.port}"
                    if not streams and caught_up(replayed, run.before_lsn, run.checkpoint_lsn, received):
                        break
                    await anyio.sleep(LOOK_S)
        except TimeoutError:
            last = max(run.before_lsn, run.checkpoint_lsn or 0)
            raise ProbeError(
                f"{run.new.name} has replayed up to {lsn_text(replayed)}, and not all that was written: the shutdown "
                f"of {run.old.name} has left a record behind {lsn_text(last)}"
            ) from None
        self._guard.say("switchover_caught_up", f"it has everything, up to {lsn_text(replayed)}", run.new.name)

    async def _received(self, others: list[Node]) -> list[int]:
        """Up to where the other standbys have received WAL, those that answer."""
        found: list[int] = []

        async def ask(node: Node) -> None:
            try:
                found.append((await self._hand.progress(node)).received)
            except ProbeError as error:
                text = f"it does not say how far it has come: {error}"
                self._guard.say("switchover_trouble", text, node.name, bad=True)

        async with anyio.create_task_group() as tasks:
            for node in others:
                tasks.start_soon(ask, node)
        return found

    async def _fence(self, run: _Run) -> None:
        # No fence_command: the node is stopped, and is to come back.
        self._monitor.fence(run.old.name)

    async def _promote(self, run: _Run) -> None:
        if not await self._hand.stopped(run.old):
            raise ProbeError(f"{run.old.name} was started again")
        await self._guard.promote(run.verdict)
        run.held_s = time.monotonic() - run.held_at

    async def _repoint(self, run: _Run) -> None:
        """At once, and by what they are set to now: once the old primary follows, who follows it still is in order."""
        failed = ""
        for node in self._monitor.topology.standbys():
            if node.name == run.new.name:
                continue
            try:
                if await self._hand.follows(node, run.old):
                    await self._guard.repoint(node.name)
            except ProbeError as error:
                failed = f"{node.name}: {error}"
        if failed:
            raise ProbeError(failed)

    async def _tell(self, run: _Run) -> None:
        await self._guard.tell_of_failover(run.verdict)

    async def _follow(self, run: _Run) -> None:
        if not self._follows:
            return
        run.follows = False
        name = run.old.name
        if not await self._guard.follow(name):
            return
        with anyio.move_on_after(BACK_S):
            while not run.follows:
                self._monitor.probe_now(name)
                await anyio.sleep(LOOK_S)
                run.follows = any(node.name == name for node in self._monitor.topology.standbys())
        if not run.follows:
            raise ProbeError(f"it is not seen to be a standby after {BACK_S:g} s")
