"""A worker: one process of the data plane. Started by the supervisor as `python -m middleware.worker FD`.

FD is its end of the control channel, inherited. First comes Configure, then snapshots; the first Topology makes it
accept clients on the listening sockets it has inherited too. When the channel closes the supervisor is gone, and so
is the worker, at once: it never runs as an orphan.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, cast

import structlog
import uvloop

from middleware import control
from middleware.cache.versions import DOUBT_S, Versions
from middleware.config import WorkerSettings
from middleware.config.tls import TlsError
from middleware.control import (
    Ask,
    CacheTracking,
    CatalogWanted,
    ClearCache,
    Configure,
    ConsoleAsked,
    ConsoleGone,
    ConsoleMore,
    ConsoleTold,
    Drain,
    Drained,
    ForwardCancel,
    FreshnessWanted,
    Kill,
    KillClient,
    Leases,
    LetGo,
    NodeAnswers,
    NodeTrouble,
    Obeyed,
    PauseProgress,
    Ready,
    Reconnect,
    SecretWanted,
    ServerFreed,
    ServerWanted,
    SetAccess,
    SetCache,
    SetCatalog,
    SetChanges,
    SetFreshness,
    SetPauses,
    SetReasons,
    SetSecret,
    SetSettings,
    Settle,
    Settled,
    SetTls,
    SetTopology,
    WatchWanted,
)
from middleware.framing import FrameReader, encode
from middleware.logs import set_up_logs, tell_left_out
from middleware.logs.wanted import WANTED
from middleware.relay.arrival import Arrival
from middleware.relay.console import ConsoleClient
from middleware.relay.inventory import Telling
from middleware.relay.reasons import SharedReasons
from middleware.relay.relay import Relay
from middleware.relay.shared import Locks, commits_of, ledger_of, live
from middleware.relay.tracing import Tracing

log: Final = structlog.get_logger("worker")

TICK_S: Final = 0.25
"""How finely deadlines are kept."""
TICKS_PER_REPORT: Final = 4
TROUBLE_REPORTS_MAX: Final = 20
"""Reports of trouble with nodes between two ticks; more say nothing new."""
LEASES_LOOK_S: Final = 0.01
"""Between two looks at what is under way at a node that is draining: somebody waits for its end."""
CHANNEL_BYTES_MAX: Final = 1024 * 1024
"""No more of an answer of many parts is put into the channel while it holds as much."""
CHANNEL_LOOK_S: Final = 0.01
PAUSES_LOOK_S: Final = 0.02
"""Between two looks at what is left of what is paused."""
BACKLOG: Final = 4096


class Worker(asyncio.Protocol):
    """The worker's end of the control channel, and what it orders."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._reader: Final = FrameReader()
        self._relay: Relay | None = None
        self._listeners: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._accepting: asyncio.Task[None] | None = None
        self._takes_nobody = self._let_go = False
        self._draining_until: float | None = None
        self._ticks = 0
        self._trouble_reports = 0
        self._leases: Leases | None = None
        """What was told of them last."""
        self._lease_look: asyncio.TimerHandle | None = None
        self._pauses: PauseProgress | None = None
        """What was told last of what is left of what is paused."""
        self._pause_look: asyncio.TimerHandle | None = None
        self._wait_for: control.WaitFor = ""
        self._channel: asyncio.Transport
        self._lives: Locks
        self.done: Final[asyncio.Event] = asyncio.Event()
        self.ending: Callable[[], None] | None = None
        """What is to be done at the end, and may take a moment."""

    # The channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own kind.
        self._channel = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self._take(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set()

    def _take(self, message: object) -> None:
        relay = self._relay
        if isinstance(message, Configure):
            self._configure(message)
        elif relay is None:
            raise AssertionError(f"{type(message).__name__} before Configure")
        elif isinstance(message, NodeAnswers):
            relay.node_answers(message.node)
        elif isinstance(message, SetTopology):
            relay.set_topology(message.topology)
            self._report_leases(relay)
            if self._accepting is None:
                self._accepting = self._loop.create_task(self._accept(relay))
        elif isinstance(message, SetSettings):
            self._set_settings(relay, message.settings)
        elif isinstance(message, Settle):
            self._tell(Settled(relay.worker, message.serial))
        elif isinstance(message, SetAccess):
            relay.authority.use(message.access)
        elif isinstance(message, SetSecret):
            relay.set_secret(message)
        elif isinstance(message, SetCatalog):
            relay.set_catalog(message.catalog, message.read_at, message.changed_at)
        elif isinstance(message, SetFreshness):
            relay.set_freshness(message.standbys)
        elif isinstance(message, SetReasons):
            relay.shared_reasons = SharedReasons(message.reasons, message.on_standbys)
            relay.shared_states = message.states
        elif isinstance(message, SetChanges):
            relay.commits.reported = message.reported
        elif isinstance(message, ForwardCancel):
            relay.cancel(message.process_id, message.secret)
        elif isinstance(message, SetCache):
            relay.set_cache(message)
            self._tell(CacheTracking(relay.worker, message.serial))
        elif isinstance(message, ClearCache):
            relay.cache.clear(message.cause)
        elif isinstance(message, Ask):
            self._tell_part(Telling(relay, message))
        elif isinstance(message, SetTls):
            self._set_tls(relay, message)
        elif isinstance(message, ServerWanted):
            relay.server_limits.give_way(message.key)
        elif isinstance(message, ServerFreed):
            relay.server_limits.freed_elsewhere(relay.clock.now)
        elif isinstance(message, ConsoleTold):
            client = relay.clients.get(message.client)
            # It may have gone meanwhile, and another come.
            if isinstance(client, ConsoleClient):
                client.told(message)
        elif isinstance(message, SetPauses):
            relay.pauses.use(message)
            self._pauses = None
            self._report_pauses(relay)
        elif isinstance(message, Reconnect):
            self._tell(Obeyed(message.serial, relay.pauses.reconnect(message.database)))
        elif isinstance(message, Kill):
            self._tell(Obeyed(message.serial, relay.pauses.kill(message.database)))
        elif isinstance(message, KillClient):
            self._tell(Obeyed(message.serial, relay.pauses.kill_client(message.process_id)))
        elif isinstance(message, LetGo):
            self._take_nobody()
            self._let_go = True
            for client in list(relay.clients.values()):
                # Who looks at the console wants to see the process that serves.
                if isinstance(client, ConsoleClient):
                    client.drain()
        elif isinstance(message, Drain):
            self._drain(relay, message)
        else:
            raise AssertionError(f"unexpected message {type(message).__name__}")

    def _tell(self, message: control.Up) -> None:
        if not self._channel.is_closing():
            self._channel.write(encode(message))

    def _tell_part(self, telling: Telling) -> None:
        """Tell a part of what was asked for, and the rest after what else there is to do."""
        if self._channel.is_closing():
            return
        if self._channel.get_write_buffer_size() >= CHANNEL_BYTES_MAX:
            self._loop.call_later(CHANNEL_LOOK_S, self._tell_part, telling)
            return
        part = telling.part()
        if part.reports or part.last:
            self._tell(part)
        if not part.last:
            self._loop.call_soon(self._tell_part, telling)

    # What a relay tells the control plane

    def catalog_wanted(self, database: str, changed_at: float) -> None:
        self._tell(CatalogWanted(database, changed_at))

    def catalog_suspected(self, database: str) -> None:
        self._tell(CatalogWanted(database, suspected=True))

    def secret_wanted(self, user: str) -> None:
        self._tell(SecretWanted(user))

    def freshness_wanted(self) -> None:
        self._tell(FreshnessWanted())

    def watch_wanted(self) -> None:
        self._tell(WatchWanted())

    def node_trouble(self, node: str, message: str) -> None:
        if self._trouble_reports < TROUBLE_REPORTS_MAX:
            self._trouble_reports += 1
            self._tell(NodeTrouble(node, message))

    def forward_cancel(self, process_id: int, secret: bytes) -> None:
        self._tell(ForwardCancel(process_id, secret))

    def server_wanted(self, key: bytes) -> None:
        self._tell(ServerWanted(key))

    def server_freed(self) -> None:
        self._tell(ServerFreed())

    def console(self, said: ConsoleAsked | ConsoleMore | ConsoleGone) -> None:
        self._tell(said)

    # Orders

    def _configure(self, message: Configure) -> None:
        settings = message.settings
        set_up_logs(settings.log, worker=message.worker)
        self._lives = live(message.shared, message.slot)
        commits, ledger = commits_of(message.shared, message.slot), ledger_of(message.shared, message.slot)
        versions = Versions(message.versions, 0, message.workers, message.worker)
        versions.restart(time.monotonic(), time.monotonic() + DOUBT_S)
        self._relay = Relay(message.worker, message.slot, settings, self._loop, self, commits, ledger, versions)
        self._listeners = [socket.socket(fileno=fd) for fd in message.listeners]
        if self._relay.cache.sharing is not None:
            self._relay.cache.sharing.start()
        if self._relay.tracing is not None:
            self.ending = self._trace(self._relay.tracing, settings.otel_endpoint, message.worker)
        self._loop.call_later(TICK_S, self._tick, self._relay)

    def _set_settings(self, relay: Relay, settings: WorkerSettings) -> None:
        if settings.log != relay.settings.log:
            set_up_logs(settings.log, worker=relay.worker)
        relay.set_settings(settings)

    def _trace(self, tracing: Tracing, endpoint: str, worker: int) -> Callable[[], None]:
        """Have spans sent."""
        # Here alone: it needs an extra, and some tenths of a second.
        from middleware.relay.exporting import Exporter

        exporter = Exporter(tracing, endpoint, worker)
        exporter.start()
        WANTED.trace()
        return exporter.end

    def _report_leases(self, relay: Relay) -> None:
        """While a node is draining, tell what is under way there whenever that has changed."""
        if self._lease_look is not None:
            self._lease_look.cancel()
            self._lease_look = None
        found = relay.pools.draining()
        if not found:
            return
        leases = Leases(relay.pools.topology.version, found)
        if leases != self._leases:
            self._leases = leases
            self._tell(leases)
        # Nothing new begins, but what those do who rest there.
        busy = any(one.busy for one in found)
        self._lease_look = self._loop.call_later(LEASES_LOOK_S if busy else TICK_S, self._report_leases, relay)

    def _report_pauses(self, relay: Relay) -> None:
        """While something is paused, or waited for, tell what is left of it whenever that has changed."""
        if self._pause_look is not None:
            self._pause_look.cancel()
            self._pause_look = None
        progress = relay.pauses.left()
        if progress != self._pauses:
            self._pauses = progress
            self._tell(progress)
        if not relay.pauses.settled(progress):
            self._pause_look = self._loop.call_later(PAUSES_LOOK_S, self._report_pauses, relay)

    def _set_tls(self, relay: Relay, message: SetTls) -> None:
        try:
            relay.set_tls(message.clients, message.nodes)
        except (TlsError, OSError) as error:
            if self._accepting is None:
                # There is nothing to go on with: without its TLS it must take nobody. It ends, and is started again.
                raise
            log.error("the new certificates and keys cannot be used here: the old ones stay", why=str(error))

    async def _accept(self, relay: Relay) -> None:
        def connection() -> asyncio.Protocol:
            return cast(asyncio.Protocol, Arrival(relay))

        for listener in self._listeners:
            listener.setblocking(False)
            if listener.family == socket.AF_UNIX:
                server = await self._loop.create_unix_server(connection, sock=listener, backlog=BACKLOG)
            else:
                server = await self._loop.create_server(connection, sock=listener, backlog=BACKLOG)
            self._servers.append(server)
        if self._takes_nobody:
            # It was said meanwhile.
            self._take_nobody()
        self._tell(Ready(relay.worker))

    def _take_nobody(self) -> None:
        self._takes_nobody = True
        for server in self._servers:
            server.close()

    def _drain(self, relay: Relay, message: Drain) -> None:
        self._take_nobody()
        self._wait_for = message.wait_for
        relay.parting = True
        if message.wait_for == "servers":
            relay.pauses.send_waiting_away()
        elif not message.wait_for:
            self._draining_until = self._loop.time() + message.timeout_s
            relay.drain()

    def _waited(self, relay: Relay) -> None:
        """Go on where it has been waited for what was to be waited for."""
        if self._wait_for == "servers":
            # Those who have come to wait since.
            relay.pauses.send_waiting_away()
            done = relay.pauses.all_closed()
        else:
            # One of the console may be somebody who waits for just that.
            done = all(client.called is None for client in relay.clients.values())
        if done:
            self._wait_for = ""
            self._draining_until = self._loop.time()
            relay.drain()

    def _tick(self, relay: Relay) -> None:
        now = self._loop.time()
        self._loop.call_later(TICK_S, self._tick, relay)
        self._trouble_reports = 0
        relay.health.ticked(now, TICK_S)
        relay.tick(now)
        self._ticks += 1
        if self._ticks % TICKS_PER_REPORT == 0:
            self._tell(relay.counters())
            tell_left_out()
        if self._wait_for:
            self._waited(relay)
        if self._draining_until is None:
            if self._let_go and relay.let_go():
                self._end(relay)
            return
        if now >= self._draining_until:
            relay.terminate()
        if not relay.clients:
            self._end(relay)

    def _end(self, relay: Relay) -> None:
        self._tell(relay.counters())
        self._tell(Drained(relay.worker))
        self._channel.close()


async def work(fd: int) -> None:
    """Serve until the control channel closes."""
    loop = asyncio.get_running_loop()
    channel = socket.socket(fileno=fd)
    channel.setblocking(False)
    _, worker = await loop.create_connection(lambda: Worker(loop), sock=channel)
    await worker.done.wait()
    if worker.ending is not None:
        worker.ending()


def main() -> None:
    # libuv would hand its epoll_ctl calls to io_uring: measured, one more system call for every third transaction.
    os.environ.setdefault("UV_USE_IO_URING", "0")
    # Ctrl-C and SIGTERM are the supervisor's to act on; it tells its workers by the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # A message makes a few objects and leaves no cycles: look for those less often than after every 700.
    gc.set_threshold(20_000, 20, 50)
    uvloop.run(work(int(sys.argv[1])))
    tell_left_out(at_once=True)
    # Straight out: what is left belongs to clients that are gone.
    os._exit(0)


if __name__ == "__main__":
    main()
