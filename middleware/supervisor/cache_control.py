"""The query cache as a whole: on or off over all workers, cleared, and what an operator has said of it.

A worker that gives cached answers relies on every other to tell what its commits change. So a change has two steps:

    off      nobody tracks, nobody serves; it costs nothing
    holding  all are told to track and not to serve; it lasts until each has answered, or has died
    on       all track and serve

From off to on, holding comes before anybody serves; from on to off, before anybody ceases to track. A worker that is
dead has no clients; the one that follows it is told what holds now before it has any. A worker that died without
tracking may have left commits on their way that nobody tells of: until they must have ended, nothing is given.

What an operator has said is forgotten with this process: the settings hold then.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import msgspec

from healthcheck.guard import Happening
from healthcheck.topology import Topology
from middleware import sqlstate
from middleware.cache.toggle import NEVER, OFF, mode_of, wanted
from middleware.cache.versions import DOUBT_S, EVERYTHING, Versions
from middleware.config import RoutePolicy
from middleware.control import ClearCache, Down, SetCache
from middleware.errors import PointsmanError

TOGGLE_S: Final = 5.0
"""For all workers to answer."""
DEFAULT: Final = "default"
"""What an operator says for "as the settings have it"."""


class CacheRoute(msgspec.Struct, frozen=True):
    """What holds for the clients of a rule."""

    name: str
    """"" for whom no rule is for."""
    mode: str
    """"on", "hint" or "off"."""
    by: str
    """Who says so: the "settings", or an "operator", whose "off" neither sessions nor statements can change."""


class CacheState(msgspec.Struct, frozen=True):
    """Whether answers are cached, and whose."""

    serving: bool
    tracking: bool
    """What commits change is told, although nobody is served: the cache is being turned on or off."""
    routes: tuple[CacheRoute, ...]


class CacheControl:
    """One Pointsman's."""

    def __init__(
        self,
        policies: Sequence[RoutePolicy],
        versions: Versions,
        workers: int,
        tell: Callable[[Down], None],
        happened: Callable[[Happening], None],
        *,
        held: bool = False,
    ) -> None:
        """`tell` sends to all workers that have a process."""
        self._policies = tuple(policies)
        self._versions: Final = versions
        self._tell: Final = tell
        self._happened: Final = happened
        self._modes: dict[str, str] = {}
        self._forced = ""
        self._held = held
        """There are clients of other generations, whose writes are not noted here."""
        # Every worker hears of it before it has clients: nobody need be waited for.
        on = self._wanted()
        self._told = SetCache(1, on, on)
        self._may_serve = on
        """Somebody has been told to, and not everybody has answered that he does not any more. Until then all track."""
        self._answered: Final[list[int | None]] = [None] * workers
        """The serial each has answered last; None while it has no process."""
        self._tracks: Final = [False] * workers
        self._moved = anyio.Event()
        self._changing: Final = anyio.Lock()
        self._primary: tuple[str, int | None] | None = None

    def use(self, policies: Sequence[RoutePolicy]) -> None:
        """These are the rules from now on. What an operator has said of one that is gone is forgotten."""
        was_on = wanted(self._policies, self._modes, self._forced)
        self._policies = tuple(policies)
        names = {policy.name for policy in policies}
        modes = {name: mode for name, mode in self._modes.items() if name in names}
        if modes != self._modes or wanted(policies, modes, self._forced) != was_on:
            self._modes = modes
            self._go()

    # The workers

    def greeting(self, worker: int) -> SetCache:
        """What a new process is told before it has clients: it need not be waited for."""
        self._answered[worker] = self._told.serial
        self._tracks[worker] = self._told.tracking
        return self._told

    def answered(self, worker: int, serial: int) -> None:
        """It does as it was told."""
        if self._answered[worker] is not None:
            self._answered[worker] = serial
            if serial == self._told.serial:
                self._tracks[worker] = self._told.tracking
        self._advance()

    def ended(self, worker: int) -> None:
        """Its process is gone."""
        if self._answered[worker] is not None and not self._tracks[worker]:
            self._versions.doubt((EVERYTHING,), time.monotonic() + DOUBT_S)
        self._answered[worker] = None
        self._advance()

    # The nodes

    def topology_changed(self, topology: Topology) -> None:
        """Called before the workers hear of it: what was read from another primary, or timeline, is not given again."""
        writer = topology.writer()
        primary = "" if writer is None else writer.name, topology.timeline
        if self._primary is not None and primary != self._primary:
            self._drop_all("failover")
        self._primary = primary

    # Operators

    def state(self) -> CacheState:
        """What holds now."""
        return CacheState(self._told.serving, self._told.tracking, tuple(self._route(one) for one in self._policies))

    def clear(self, who: str) -> None:
        """Have no answer given that is kept now."""
        self._drop_all("clear")
        self._happened(Happening(time.time(), "cache_cleared", f"the query cache was cleared by {who}"))

    async def switch(self, mode: str, route: str | None, who: str) -> CacheState:
        """Have all rules, or one, be "on", "hint", "off" or DEFAULT. Raises PointsmanError.

        Where the cache was off as a whole and a worker does not answer in time, all is as before.
        """
        self._check(route)
        async with self._changing:
            before = self._modes, self._forced
            was_on = wanted(self._policies, *before)
            self._modes, self._forced = _said(*before, mode, route)
            done = False
            try:
                self._go()
                with anyio.move_on_after(TOGGLE_S):
                    await self._until_settled()
                    done = True
            finally:
                slow = self._slow()
                if not done and not was_on:
                    self._modes, self._forced = before
                    self._go()
            whom = f'rule "{route}"' if route else "whom no rule is for" if route == "" else "all"
            text = f'the query cache is "{mode}" for {whom}, by {who}'
            if not done:
                raise self._failed(text, slow, was_on)
            self._happened(Happening(time.time(), "cache_switched", text))
            return self.state()

    def _check(self, route: str | None) -> None:
        names = [policy.name for policy in self._policies]
        if route is not None and route not in names:
            known = ", ".join(f'"{name}"' for name in names)
            raise PointsmanError(
                f'there is no rule "{route}"',
                hint=f"There are {known}; the last is for whom no rule is for.",
                sqlstate=sqlstate.UNDEFINED_OBJECT,
            )

    def _failed(self, text: str, slow: list[int], was_on: bool) -> PointsmanError:
        """That some do not answer, and what that means."""
        who = f"worker {slow[0]} does" if len(slow) == 1 else f"workers {', '.join(map(str, slow))} do"
        if not was_on:
            then = "The query cache stays off, as it was."
        elif self._told.serving:
            then = "The others do as was said; so will they that do not answer, when they do."
        else:
            then = "The others give no cached answers any more; their commits are tracked until all have answered."
        self._happened(Happening(time.time(), "cache_not_switched", f"{text}: {who} not answer", bad=True))
        return PointsmanError(
            f"{who} not answer within {TOGGLE_S:g} s", detail=then, sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE
        )

    def _route(self, policy: RoutePolicy) -> CacheRoute:
        mode = mode_of(policy, self._modes, self._forced)
        by = "operator" if self._modes.get(policy.name, self._forced) else "settings"
        return CacheRoute(policy.name, OFF if mode == NEVER else mode, by)

    # Other generations

    def said(self) -> tuple[dict[str, str], str]:
        """What an operator has said, of rules and of all others."""
        return dict(self._modes), self._forced

    def know(self, modes: dict[str, str], forced: str) -> None:
        """An operator has said this to the Pointsman before this one. Rules that there are no more are passed over."""
        names = {policy.name for policy in self._policies}
        modes = {name: mode for name, mode in modes.items() if name in names}
        if (modes, forced) != (self._modes, self._forced):
            self._modes, self._forced = modes, forced
            self._go()

    async def hold(self) -> None:
        """Give no cached answers, because others serve clients whose writes are not noted here. Returns when no worker
        does, or one does not answer in time: such a one has died, or is stopped."""
        async with self._changing:
            if not self._held:
                self._held = True
                self._tell_of_holding()
                self._go()
            with anyio.move_on_after(TOGGLE_S):
                await self._until_settled()

    def release(self) -> None:
        """There are no others any more. What they had sent last may still be on its way."""
        if self._held:
            self._held = False
            self._versions.doubt((EVERYTHING,), time.monotonic() + DOUBT_S)
            self._tell_of_holding()
            self._go()

    def _tell_of_holding(self) -> None:
        if wanted(self._policies, self._modes, self._forced):
            if self._held:
                what, text = "cache_held", "no cached answers are given while two Pointsmans have clients"
            else:
                what, text = "cache_released", f"cached answers are given again, {DOUBT_S:g} s from now"
            self._happened(Happening(time.time(), what, text))

    def _wanted(self) -> bool:
        return not self._held and wanted(self._policies, self._modes, self._forced)

    # The steps

    def _go(self) -> None:
        """Begin to have what is wanted."""
        if self._wanted():
            # As long as somebody may serve, all track.
            self._say(tracking=True, serving=self._may_serve)
        else:
            self._say(tracking=self._may_serve, serving=False)
        self._advance()

    def _advance(self) -> None:
        """Go on from holding, once nobody is left who does not track, or who serves."""
        if self._told.tracking and not self._told.serving and not self._slow():
            self._may_serve = False
            on = self._wanted()
            if on:
                # Of what was written while nobody tracked nothing is known.
                self._versions.change((EVERYTHING,), time.monotonic())
            self._say(tracking=on, serving=on)
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    def _say(self, *, tracking: bool, serving: bool) -> None:
        self._told = SetCache(self._told.serial + 1, tracking, serving, dict(self._modes), self._forced)
        self._may_serve = self._may_serve or serving
        if not tracking:
            self._tracks[:] = [False] * len(self._tracks)
        self._tell(self._told)

    def _slow(self) -> list[int]:
        """Those who have not answered what was told last."""
        last = self._told.serial
        return [index for index, serial in enumerate(self._answered) if serial is not None and serial < last]

    async def _until_settled(self) -> None:
        while self._slow() or (self._told.tracking and not self._told.serving):
            await self._moved.wait()

    def _drop_all(self, cause: str) -> None:
        self._versions.change((EVERYTHING,), time.monotonic())
        self._tell(ClearCache(cause))


def _said(modes: dict[str, str], forced: str, mode: str, route: str | None) -> tuple[dict[str, str], str]:
    """What an operator has said, with one thing more: of all rules, it is all that counts."""
    said = "" if mode == DEFAULT else mode
    if route is None:
        return {}, said
    others = {name: one for name, one in modes.items() if name != route}
    return ({**others, route: said} if said else others), forced
