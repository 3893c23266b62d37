"""A Pointsman from start to end, its supervisor and what it serves over HTTP: for a program, as long as its block runs;
for the command, until a signal."""

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import structlog

from middleware.config import Settings
from middleware.errors import PointsmanError
from middleware.supervisor.descriptors import raise_limit
from middleware.supervisor.supervisor import Supervisor
from middleware.supervisor.workers import WORKER_COMMAND
from middleware.web import WebServer

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


async def serve(
    settings: Settings,
    load: Callable[[], Settings] | None = None,
    *,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends at once. SIGHUP has `load` read the settings anew.
    Raises StartError."""
    raise_limit(settings)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        supervisor = Supervisor(settings, load=load, worker_command=worker_command)
        supervisor.listen()

        async def obey() -> None:
            async for number in signals:
                if number == signal.SIGHUP:
                    # Whoever wants it to end is not to wait for that.
                    tasks.start_soon(_reload, supervisor)
                else:
                    log.info("received signal", signal=signal.Signals(number).name)
                    supervisor.stop()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(obey)
            await _run(supervisor)
            tasks.cancel_scope.cancel()
    if supervisor.failure is not None:
        raise supervisor.failure


async def _reload(supervisor: Supervisor) -> None:
    # What is wrong is in the log.
    with contextlib.suppress(PointsmanError):
        await supervisor.reload("SIGHUP")


async def _run(supervisor: Supervisor) -> None:
    """The supervisor to its end; and, while it runs, its door for HTTP."""
    web = WebServer(supervisor, supervisor.web_sockets) if supervisor.web_sockets else None
    try:
        if web is not None:
            await web.start()
        await supervisor.run()
    finally:
        if web is not None:
            with anyio.CancelScope(shield=True):
                await web.stop()
