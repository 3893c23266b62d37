"""The demo: the endpoint, and what each node does, shown until Ctrl-C or SIGTERM."""

import signal
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final

import anyio
import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from middleware.config import Settings
from middleware.control import NodeCounters
from middleware.demo.load import run_load
from middleware.demo.stage import endpoint_of, psql_command
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor

REFRESH_S: Final = 0.5
PLAIN_REFRESH_S: Final = 2.0
EVENTS_SHOWN: Final = 5

ROLE_STYLES: Final = {"primary": "bold cyan", "standby": "green"}


async def show(sandbox: Sandbox, settings: Settings, console: Console, load: float) -> None:
    """Run the proxy and show it, until a signal. Raises ListenError."""
    events = _Events()
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with running(settings) as supervisor:
            endpoint = endpoint_of(sandbox, supervisor)
            console.print(f"[bold]endpoint[/bold]  {endpoint.url}", soft_wrap=True)
            console.print(f"[bold]psql[/bold]      {psql_command(sandbox, endpoint)}", soft_wrap=True)
            if settings.http_port:
                console.print(
                    f"[bold]dashboard[/bold] http://{settings.http_listen_addr}:{settings.http_port}/", soft_wrap=True
                )
                console.print(f"[bold]log in[/bold]    {settings.dashboard_password.get_secret_value()}", markup=True)
            async with anyio.create_task_group() as tasks:
                view = _View(sandbox, supervisor, events)
                tasks.start_soon(_refresh, view, console)
                if load:
                    tasks.start_soon(run_load, endpoint, load)
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    break
    console.print("stopped, nothing is left")


async def _refresh(view: "_View", console: Console) -> None:
    if console.is_terminal:
        with Live(view.picture(), console=console, auto_refresh=False, transient=True) as live:
            while True:
                await anyio.sleep(REFRESH_S)
                live.update(view.picture(), refresh=True)
    shown = ""
    while True:
        line = view.line()
        if line != shown:
            console.print(line, soft_wrap=True, highlight=False)
            shown = line
        await anyio.sleep(PLAIN_REFRESH_S)


class _Events:
    """The latest log events, shown under the table instead of through it."""

    def __init__(self) -> None:
        self.latest: deque[str] = deque(maxlen=EVENTS_SHOWN)
        structlog.configure(processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger(20))

    def _keep(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        words = [str(event.pop("event"))]
        words += [f"{key}={value}" for key, value in event.items() if value is not None]
        self.latest.append(f"{time.strftime('%H:%M:%S')}  {' '.join(words)}")
        raise structlog.DropEvent


class _View:
    """What there is to see now."""

    def __init__(self, sandbox: Sandbox, supervisor: Supervisor, events: _Events) -> None:
        self._sandbox = sandbox
        self._supervisor = supervisor
        self._events = events
        self._started = time.monotonic()
        self._before: dict[str, NodeCounters] = {}
        self._before_at = self._started

    def picture(self) -> Group:
        """The table, for a terminal."""
        counters = self._supervisor.counters()
        now = time.monotonic()
        elapsed_s = max(now - self._before_at, REFRESH_S)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("node", "role", "port", "pid"):
            table.add_column(column)
        for column in ("lag", "reads", "reads/s", "writes", "writes/s", "servers"):
            table.add_column(column, justify="right")
        for node in self._supervisor.topology.nodes:
            have = counters.nodes.get(node.name, NodeCounters(node.name, 0, 0, 0, 0))
            before = self._before.get(node.name, have)
            role = Text(
                node.role.value if node.up else "down", ROLE_STYLES.get(node.role.value, "") if node.up else "bold red"
            )
            table.add_row(
                node.name,
                role,
                str(node.port),
                str(self._sandbox.node(node.name).pid or ""),
                _size(node.replay_lag_bytes),
                str(have.reads),
                _rate(have.reads - before.reads, elapsed_s),
                str(have.writes),
                _rate(have.writes - before.writes, elapsed_s),
                str(have.servers),
            )
        if elapsed_s > 2 * REFRESH_S:
            # The workers report once a second: a shorter stretch would show 0 and twice the rate in turn.
            self._before, self._before_at = counters.nodes, now
        minutes, seconds = divmod(int(now - self._started), 60)
        foot = Text(
            f"clients {counters.clients}   waiting {counters.waiting}   up {minutes}:{seconds:02}\n"
            "try: SELECT current_setting('cluster_name');  or kill -9 a node and watch.  Ctrl-C ends.",
            "dim",
        )
        return Group("", table, "", *(Text(event, "dim") for event in self._events.latest), foot)

    def line(self) -> str:
        """The same in one line, for a file or a pipe."""
        counters = self._supervisor.counters()
        parts = []
        for node in self._supervisor.topology.nodes:
            have = counters.nodes.get(node.name, NodeCounters(node.name, 0, 0, 0, 0))
            state = node.role.value if node.up else "down"
            lag = f" lag {_size(node.replay_lag_bytes)}" if node.replay_lag_bytes is not None else ""
            parts.append(f"{node.name} {state} {have.reads} reads {have.writes} writes{lag}")
        return f"{'; '.join(parts)}; {counters.clients} clients"


def _size(count: int | None) -> str:
    if count is None:
        return ""
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1024:.0f} kB" if count < 10_000_000 else f"{count / 1024 / 1024:.0f} MB"


def _rate(count: int, elapsed_s: float) -> str:
    return f"{count / elapsed_s:.0f}" if count else ""
