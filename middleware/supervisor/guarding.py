"""The watch over the nodes and its guard, by the settings."""

from collections.abc import Callable

from healthcheck.commands import Place
from healthcheck.failover import Policy
from healthcheck.guard import Commands, Guard, Happening
from healthcheck.handover import Handover, Traffic
from healthcheck.leader import Leader
from healthcheck.line import Credentials
from healthcheck.monitor import Monitor, Target
from healthcheck.promote import Hand
from healthcheck.state import Rhythm
from healthcheck.topology import Topology
from middleware.config import Settings
from middleware.supervisor.leading import Leading


def monitor_of(
    settings: Settings,
    credentials: Credentials,
    publish: Callable[[Topology], None],
    well_again: Callable[[str], None],
    leading: Leading,
) -> Monitor:
    """Who asks the nodes; `publish` is told of each topology that a worker must act on, `well_again` of each node that
    answers again."""
    return Monitor(
        targets_of(settings),
        credentials,
        rhythm_of(settings),
        publish,
        authority=leading.authority,
        sources=(leading,),
        roles_change=settings.failover != "off",
        well_again=well_again,
    )


def targets_of(settings: Settings) -> list[Target]:
    """The nodes to watch."""
    return [Target(name, node.host, node.port) for name, node in settings.nodes.items()]


def rhythm_of(settings: Settings) -> Rhythm:
    """When they are asked."""
    checks = settings.health_check
    return Rhythm(checks.period, checks.timeout, checks.max_retries, checks.retry_delay)


def guard_of(
    settings: Settings,
    monitor: Monitor,
    hand: Hand,
    tell: Callable[[Happening], None],
    leader: Leader,
    stayed: Callable[[], str],
) -> Guard:
    """Who changes roles when the primary is dead, unless `stayed` says why not."""
    return Guard(
        monitor,
        _policy(settings),
        hand,
        _orders(settings),
        _places(settings),
        tell,
        leader=leader,
        stayed=stayed,
        promote_timeout_s=settings.promote_timeout,
    )


def use_settings(settings: Settings, guard: Guard, handover: Handover) -> None:
    """Have them go by these."""
    guard.use(_policy(settings), _orders(settings), _places(settings), promote_timeout_s=settings.promote_timeout)
    handover.use(
        _policy(settings),
        demote_command=settings.demote_command,
        follows=bool(settings.follow_primary_command),
        timeout_s=settings.switchover_timeout,
        catch_up_s=settings.promote_timeout,
    )


def _orders(settings: Settings) -> Commands:
    return Commands(
        settings.fence_command, settings.failover_command, settings.follow_primary_command, settings.command_timeout
    )


def _places(settings: Settings) -> dict[str, Place]:
    return {
        name: Place(name, number, node.host, node.port, node.data_directory)
        for number, (name, node) in enumerate(settings.nodes.items())
    }


def handover_of(settings: Settings, monitor: Monitor, hand: Hand, guard: Guard, traffic: Traffic) -> Handover:
    """Who changes them when an operator says so."""
    return Handover(
        guard,
        monitor,
        _policy(settings),
        hand,
        traffic,
        demote_command=settings.demote_command,
        follows=bool(settings.follow_primary_command),
        timeout_s=settings.switchover_timeout,
        catch_up_s=settings.promote_timeout,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(settings.failover == "promote", settings.failover_after, settings.max_failover_lag)
