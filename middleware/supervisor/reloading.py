"""New settings in a Pointsman that runs: from RELOAD and SIGHUP, and one at a time from SET.

In: where the settings come from, and those in force. Out: all that changes while it runs is changed, at once or not at
all, and told; what needs a restart stays as it was, and is named. What cannot be used changes nothing: PointsmanError,
whose detail has a line for each mistake. From `_use` on nothing can fail; the answer comes when the workers go by it.
"""

import difflib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import anyio
import anyio.to_thread
import msgspec
import structlog

from healthcheck.guard import Guard, Happening
from healthcheck.handover import Handover
from healthcheck.monitor import Monitor
from healthcheck.promote import Hand
from middleware import sqlstate
from middleware.config import ConfigError, Settings
from middleware.config.contradictions import contradictions
from middleware.config.load import key_path, with_setting
from middleware.config.reloads import RESTART, when
from middleware.config.shown import Change, changes, kept, values
from middleware.control import Down, SetFreshness, SetSettings
from middleware.errors import PointsmanError
from middleware.logs import set_up_logs
from middleware.supervisor.auth_query import AuthQuery
from middleware.supervisor.cache_control import CacheControl
from middleware.supervisor.cache_watch import Watcher
from middleware.supervisor.catalogs import Catalogs
from middleware.supervisor.derivations import AHEAD_S, Derivations
from middleware.supervisor.guarding import rhythm_of, targets_of, use_settings
from middleware.supervisor.in_force import InForce, Reading
from middleware.supervisor.leading import Leading
from middleware.supervisor.pausing import Pausing
from middleware.supervisor.sampler import Sampler
from middleware.supervisor.settling import Settling

BUSY_S: Final = 3.0
"""For a failover's look at the nodes to end; a failover takes longer."""
ROLES: Final = ("failover", "failover_after", "max_failover_lag", "nodes", "topology")
"""What a failover, or a switchover, must not see change under its hands."""

log: Final = structlog.get_logger("service")


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload, or a SET, has come to. No secret is in it."""

    changed: tuple[Change, ...] = ()
    """Settings that are in force from now on: key, old, new."""
    needs_restart: tuple[Change, ...] = ()
    """Settings that are another in the file, and stay as they were: key, as it is, as it is to be."""
    files: tuple[str, ...] = ()
    """The settings whose files have another content."""
    slow: tuple[int, ...] = ()
    """Workers that have not said yet that they go by them."""

    def words(self) -> list[str]:
        """A line for each."""
        said = [f"{key}: {old or 'none'} -> {new or 'none'}" for key, old, new in self.changed]
        said += [f"{key}: its content has changed" for key in self.files]
        said += [f"{key}: needs a restart to be {new or 'none'}" for key, _, new in self.needs_restart]
        said = said or ["nothing has changed"]
        return said + [f"worker {worker} has not answered yet" for worker in self.slow]


class Parts(NamedTuple):
    """Who goes by the settings, in the supervisor."""

    monitor: Monitor
    guard: Guard
    handover: Handover
    hand: Hand
    leading: Leading
    catalogs: Catalogs
    sampler: Sampler
    derivations: Derivations
    auth_query: AuthQuery
    cache: CacheControl
    watcher: Watcher
    pausing: Pausing


class Reloading:
    """One Pointsman's."""

    def __init__(
        self,
        in_force: InForce,
        load: Callable[[], Settings] | None,
        parts: Parts,
        tell: Callable[[Down], None],
        settling: Settling,
        used: Callable[[Settings], None],
        happened: Callable[[Happening], None],
    ) -> None:
        """`load` reads the settings anew, and raises ConfigError; without it the same ones are read again, and with
        them their files. `tell` sends to all workers. `used` is told of settings as they are put in force."""
        self._in_force: Final = in_force
        self._load: Final = load
        self._parts: Final = parts
        self._tell: Final = tell
        self._settling: Final = settling
        self._used: Final = used
        self._happened: Final = happened
        self._lock: Final = anyio.Lock()
        self.reloads = 0
        """How often the settings were read again, since the start."""
        self.failures = 0
        """How often they could not be used."""

    async def reload(self, who: str) -> Reloaded:
        """Read all anew, as `who` has said. Raises PointsmanError, with nothing changed."""
        async with self._lock:
            try:
                reloaded = await self._take(await self._wished())
            except PointsmanError as error:
                self._failed(who, error)
                raise
            self.reloads += 1
            self._say("reloaded", f"the settings were read again by {who}", reloaded)
            return reloaded

    async def _wished(self) -> Settings:
        if self._load is None:
            return self._in_force.settings
        try:
            return await anyio.to_thread.run_sync(self._load)
        except ConfigError as error:
            raise _unusable(list(error.lines)) from None

    async def set(self, key: str, text: str, who: str) -> Reloaded:
        """Have one setting be another until the next reload. Raises PointsmanError: 42704 for one that there is not,
        55000 for one that needs a restart, 22023 for a value that is not allowed."""
        async with self._lock:
            try:
                reloaded = await self._take(await self._with(key, text))
            except PointsmanError as error:
                # Nothing is wrong with the file.
                for line in _lines(error):
                    log.error("not set", key=key, why=line, by=who)
                raise
            self._say("set", f"{key} was set by {who}", reloaded)
            return reloaded

    async def _with(self, key: str, text: str) -> Settings:
        known = {one.key: one for one in values(self._in_force.settings)}
        # The console has words without quotes in lower case.
        one = known.get(key) or {name.lower(): one for name, one in known.items()}.get(key)
        if one is None:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f'Did you mean "{near[0]}"?' if near else "SHOW CONFIG has them all."
            raise PointsmanError(f'unknown setting "{key}"', hint=hint, sqlstate=sqlstate.UNDEFINED_OBJECT)
        if when(one.pattern) == RESTART:
            raise PointsmanError(
                f'setting "{key}" cannot be changed without a restart',
                sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
            )
        try:
            return await anyio.to_thread.run_sync(with_setting, self._in_force.settings, one.loc, text)
        except ConfigError as error:
            raise PointsmanError(
                f'invalid value for setting "{key}"',
                detail="\n".join(error.lines),
                sqlstate=sqlstate.INVALID_PARAMETER_VALUE,
            ) from None

    async def _take(self, wished: Settings) -> Reloaded:
        """Put it in force, as far as that can be. Raises PointsmanError."""
        before = self._in_force.settings
        different = changes(before, wished)
        settings = kept(before, wished)
        reading, wrong = await anyio.to_thread.run_sync(self._look_at, settings)
        if wrong and different.restart:
            # What stays as it was may be what they do not go together with.
            stay = ", ".join(change.key for change in different.restart)
            wrong.append(f"what needs a restart stays as it is: {stay}")
        if reading is None:
            raise _unusable(wrong)
        async with self._roles_at_rest(before, settings):
            self._check_nodes(before, settings)
            files = self._in_force.other_files(reading)
            self._use(reading)
        with anyio.move_on_after(2 * AHEAD_S):
            await self._parts.derivations.passed_on()
        return Reloaded(different.live, different.restart, files, await self._settling.settled())

    def _look_at(self, settings: Settings) -> tuple[Reading | None, list[str]]:
        """In a thread: files are read, and passwords may be many."""
        wrong = [f"{key_path(loc)}: {what}" for loc, what in contradictions(settings)]
        return (None, wrong) if wrong else self._in_force.read(settings)

    @asynccontextmanager
    async def _roles_at_rest(self, before: Settings, settings: Settings) -> AsyncIterator[None]:
        """While nodes change, or who is promoted when, nobody is. Raises PointsmanError."""
        if all(getattr(before, name) == getattr(settings, name) for name in ROLES):
            yield
            return
        busy = self._parts.guard.busy
        try:
            with anyio.fail_after(BUSY_S):
                await busy.acquire()
        except TimeoutError:
            raise _busy("a failover or a switchover is under way") from None
        try:
            if self._parts.handover.going_on:
                raise _busy("a switchover is under way")
            yield
        finally:
            busy.release()

    def _check_nodes(self, before: Settings, settings: Settings) -> None:
        """The primary must not be taken away. Raises PointsmanError."""
        writer = self._parts.monitor.topology.writer()
        name = writer.name if writer is not None else self._parts.guard.awaited()
        was = before.nodes.get(name)
        if was is None or name in settings.nodes:
            return
        if any((node.host, node.port) == (was.host, was.port) for node in settings.nodes.values()):
            # By another name.
            return
        raise _unusable(
            [f"nodes.{name}: is {'' if writer else 'or was '}the primary: it may go once another one is"],
        )

    def _use(self, reading: Reading) -> None:
        """Tell everybody. Workers hear of the settings before they hear of the nodes."""
        parts, settings, in_force = self._parts, reading.settings, self._in_force
        before = in_force.settings
        in_force.settings, in_force.tls, in_force.access = settings, reading.tls, reading.access
        self._used(settings)
        if settings.log_options() != before.log_options():
            set_up_logs(settings.log_options())
        self._tell(SetSettings(settings.worker_settings()))
        self._tell(reading.tls.told)
        parts.derivations.use(reading.access)
        checks, credentials = settings.health_check, in_force.credentials()
        parts.leading.use(settings)
        use_settings(settings, parts.guard, parts.handover)
        parts.hand.use(checks.timeout)
        parts.monitor.use(
            targets_of(settings), credentials, rhythm_of(settings), roles_change=settings.failover != "off"
        )
        # What is known of a node by name may have been another's.
        self._tell(SetFreshness(()))
        parts.catalogs.use(
            credentials,
            refresh_s=checks.catalog_refresh,
            timeout_s=checks.timeout,
            overrides=settings.overrides(),
        )
        parts.sampler.use(credentials, period_s=settings.freshness_period, timeout_s=checks.timeout)
        parts.auth_query.use(settings.auth_query, checks.timeout)
        parts.watcher.use_settings(
            credentials,
            mode=settings.cache_watch,
            interval_s=settings.cache_watch_interval,
            publication=settings.cache_watch_publication,
            timeout_s=checks.timeout,
        )
        parts.cache.use(settings.policies())
        parts.pausing.use(settings.policies())

    def _failed(self, who: str, error: PointsmanError) -> None:
        """What was read was not put in force."""
        self.failures += 1
        for line in _lines(error):
            log.error("not reloaded", why=line, by=who)
        text = f"the settings stay as they are, {who} would have read them again: {'; '.join(_lines(error))}"
        self._happened(Happening(time.time(), "not_reloaded", text, bad=True))

    def _say(self, what: str, text: str, reloaded: Reloaded) -> None:
        self._happened(Happening(time.time(), what, f"{text}: {'; '.join(reloaded.words())}"))


def _lines(error: PointsmanError) -> list[str]:
    return [line for line in error.detail.split("\n") if line] or [error.message]


def _unusable(lines: list[str]) -> PointsmanError:
    return PointsmanError(
        "the settings cannot be used, and nothing has changed",
        detail="\n".join(lines),
        sqlstate=sqlstate.CONFIG_FILE_ERROR,
    )


def _busy(why: str) -> PointsmanError:
    return PointsmanError(
        "the settings cannot be used now, and nothing has changed",
        detail=f"{why}, and nodes or the failover would be others.",
        hint="Try again when it has ended.",
        sqlstate=sqlstate.OBJECT_IN_USE,
    )
