"""A Pointsman from start to end, its supervisor and what it serves over HTTP: for a program, as long as its block runs;
for the command, until a signal."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import structlog

from middleware.config import Settings
from middleware.errors import PointsmanError
from middleware.supervisor.activation import activated
from middleware.supervisor.descriptors import raise_limit
from middleware.supervisor.notify import notifier_of
from middleware.supervisor.supervisor import Supervisor
from middleware.supervisor.take_over import take_over
from middleware.supervisor.workers import WORKER_COMMAND
from middleware.web import WebServer

TOLD_S: Final = 1.0
"""How often whoever has started us is told how it goes, where that has changed."""

log = structlog.get_logger("service")


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    *,
    load: Callable[[], Settings] | None = None,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> AsyncIterator[Supervisor]:
    """A Supervisor that serves while the block runs, and has drained after it. Raises StartError. `load` reads the
    settings anew for a reload.

    The block begins when every worker accepts clients. An exception of the block comes out as it is.
    """
    supervisor = Supervisor(settings, load=load, worker_command=worker_command)
    supervisor.listen()
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, supervisor)
        await supervisor.ready.wait()
        # Raised below, where the task group cannot wrap it.
        failure = supervisor.failure
        if failure is None:
            try:
                yield supervisor
            except Exception as error:
                failure = error
        supervisor.stop()
    if failure is not None:
        raise failure


class Start(NamedTuple):
    """How the command was given."""

    take_over: Path | None = None
    """The control socket of the Pointsman that is to hand over, if one runs."""
    command: tuple[str, ...] = ()
    """What starts the next one."""
    report: int | None = None
    """A descriptor that is closed when all is well: whoever has started us reads there why not."""


async def serve(
    settings: Settings,
    start: Start,
    load: Callable[[], Settings] | None = None,
    *,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends at once. SIGHUP has `load` read the settings anew.
    Raises StartError.

    Returns the exit status: where another process has taken over that this one has started, that one's, when it has
    ended. Whoever has started this one waits for it as for the service; unless it is told who follows, as systemd is.
    """
    raise_limit(settings)
    notifier = notifier_of(os.environ, os.getpid())
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        estate = await take_over(start.take_over) if start.take_over is not None else None
        if start.take_over is not None and estate is None:
            log.info("there is no Pointsman to take over from", path=str(start.take_over))
        supervisor = Supervisor(
            settings,
            load=load,
            worker_command=worker_command,
            estate=estate,
            activated=activated(os.environ, os.getpid()),
            serve_command=start.command,
            notifier=notifier,
        )
        supervisor.listen()

        async def obey() -> None:
            async for number in signals:
                if number == signal.SIGHUP:
                    # Whoever wants it to end is not to wait for that.
                    tasks.start_soon(_reload, supervisor)
                else:
                    log.info("received signal", signal=signal.Signals(number).name)
                    notifier.stopping()
                    supervisor.stop()
                supervisor.generation.restarting.pass_on(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(obey)
            tasks.start_soon(_keep_told, supervisor, start.report)
            await _run(supervisor)
            status = 0
            if not notifier.address:
                status = await supervisor.generation.restarting.until_successor_ends()
            tasks.cancel_scope.cancel()
    if supervisor.failure is not None:
        raise supervisor.failure
    return status


async def _keep_told(supervisor: Supervisor, report: int | None) -> None:
    """Let whoever has started us know that we serve, and go on."""
    notifier = supervisor.generation.notifier
    await supervisor.generation.serving.wait()
    if supervisor.failure is not None:
        return
    if report is not None:
        os.close(report)
    notifier.ready(status_line(supervisor))
    # Late by a whole turn, it is still in time.
    turn_s = min(TOLD_S, notifier.watchdog_s / 3) if notifier.watchdog_s else TOLD_S
    while True:
        await anyio.sleep(turn_s)
        notifier.alive(status_line(supervisor))


def status_line(supervisor: Supervisor) -> str:
    """What `systemctl status` shows."""
    known = supervisor.status()
    before = f", {known.clients_before} of the process before" if known.clients_before else ""
    return f"primary {known.primary or 'none'}; {known.clients} clients{before}, {known.waiting} waiting"


async def _reload(supervisor: Supervisor) -> None:
    notifier = supervisor.generation.notifier
    notifier.reloading()
    # What is wrong is in the log.
    with contextlib.suppress(PointsmanError):
        await supervisor.reload("SIGHUP")
    notifier.ready(status_line(supervisor))


async def _run(supervisor: Supervisor) -> None:
    """The supervisor to its end; and, while new clients are its own, its door for HTTP."""
    web = WebServer(supervisor, supervisor.web_sockets) if supervisor.web_sockets else None
    try:
        async with anyio.create_task_group() as tasks:
            if web is not None:
                tasks.start_soon(_serve_http, supervisor, web)
            await supervisor.run()
            tasks.cancel_scope.cancel()
    finally:
        if web is not None:
            with anyio.CancelScope(shield=True):
                await web.stop()


async def _serve_http(supervisor: Supervisor, web: WebServer) -> None:
    if not supervisor.generation.first:
        # Before, the Pointsman that this one takes over from answers: this one would have to say that it is not ready.
        await supervisor.generation.serving.wait()
    await web.start()
    await supervisor.generation.handed_over.wait()
    await web.stop()
