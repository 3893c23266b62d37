"""A worker without a data plane, to see the supervisor's side of the channel from a real process.

A client sends one line, the worker it means and an order to it, and gets one line of JSON: who answers, and what that
worker knows. The orders: `exit N`, `counters N`, `wanted DB`, `stale DB`, `trouble NODE`, `cancel PID`, `deaf` (never
drain, never exit), `close` (close the channel and stay), `nonsense`.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time

from middleware.control import (
    Ask,
    CacheCounters,
    CacheDigest,
    CacheTracking,
    CatalogWanted,
    ClearCache,
    Configure,
    Counters,
    Down,
    Drain,
    Drained,
    ForwardCancel,
    Kill,
    KillClient,
    Left,
    NodeCounters,
    NodeTrouble,
    Obeyed,
    PauseProgress,
    Ready,
    Reconnect,
    SetAccess,
    SetCache,
    SetCatalog,
    SetChanges,
    SetFreshness,
    SetPauses,
    SetReasons,
    SetSettings,
    Settle,
    Settled,
    SetTls,
    SetTopology,
    Told,
    Up,
)
from middleware.framing import FrameReader, encode


class EchoWorker:
    """The state of one worker process."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.index = -1
        self.listeners: list[socket.socket] = []
        self.servers: list[asyncio.Server] = []
        self.topologies: list[int] = []
        self.catalogs: dict[str, int] = {}
        self.samples = 0
        self.readable: dict[str, list[str]] = {}
        self.cancels: list[int] = []
        self.users: dict[str, str | None] = {}
        self.pool_size = 0
        self.deaf = False
        self.caches: list[tuple[bool, bool, dict[str, str], str, bool]] = []
        """What was told of the query cache, and whether clients could come by then."""
        self.cleared: list[str] = []
        self.pauses: list[tuple[str, list[str], list[str]]] = []

    def tell(self, message: Up) -> None:
        """Up the channel."""
        self.writer.write(encode(message))

    async def take(self, message: Down | Up) -> None:
        """An order or a snapshot."""
        match message:
            case Configure():
                assert self.index == -1
                self.index = message.worker
                self.pool_size = message.settings.policies[-1].pool.size
                self.listeners = [socket.socket(fileno=fd) for fd in message.listeners]
            case SetSettings():
                self.pool_size = message.settings.policies[-1].pool.size
            case Settle(serial=serial):
                self.tell(Settled(self.index, serial))
            case SetCache(serial=serial):
                # Nobody can have come before.
                told = message.tracking, message.serving, message.modes, message.forced
                self.caches.append((*told, bool(self.servers)))
                self.tell(CacheTracking(self.index, serial))
            case SetPauses(serial=serial):
                self.pauses.append((message.everything, list(message.paused), list(message.disabled)))
                scopes = dict.fromkeys((None, *message.paused, *message.closing))
                self.tell(PauseProgress(serial, tuple(Left(scope) for scope in scopes)))
            case Kill(serial=serial) | Reconnect(serial=serial) | KillClient(serial=serial):
                self.tell(Obeyed(serial, 1))
            case ClearCache(cause=cause):
                self.cleared.append(cause)
            case SetAccess(access=access):
                self.users = access.secrets
            case SetTopology(topology=topology):
                if not self.topologies:
                    for listener in self.listeners:
                        start = asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
                        self.servers.append(await start(self.serve, sock=listener))
                    self.tell(Ready(self.index))
                self.topologies.append(topology.version)
            case SetCatalog(catalog=catalog):
                self.catalogs[catalog.database] = catalog.version
                self.readable[catalog.database] = sorted(
                    name for name, ones in catalog.functions.items() if not any(one.hazard for one in ones)
                )
            case ForwardCancel(process_id=process_id):
                self.cancels.append(process_id)
            case SetFreshness() | SetChanges() | SetReasons() | SetTls():
                self.samples += 1
            case Ask(serial=serial):
                self.tell(Told(serial, (), last=True))
            case Drain() if not self.deaf:
                self.tell(Drained(self.index))
            case _:
                assert isinstance(message, Drain)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client: an order, then the answer."""
        whom, _, command = (await reader.readline()).decode().strip().partition(" ")
        order, _, argument = command.partition(" ")
        if int(whom) != self.index:
            order = ""
        match order:
            case "exit":
                os._exit(int(argument))
            case "counters":
                cache = CacheCounters(
                    hits=int(argument),
                    entries=3,
                    digests=(CacheDigest("d", "SELECT $1", int(argument), int(argument)),),
                )
                self.tell(Counters(self.index, 1, 2, (NodeCounters("db1", int(argument), 1, 5, 6),), cache=cache))
            case "wanted":
                self.tell(CatalogWanted(argument))
            case "stale":
                self.tell(CatalogWanted(argument, time.monotonic()))
            case "trouble":
                self.tell(NodeTrouble(argument, "said so"))
            case "cancel":
                self.tell(ForwardCancel(int(argument), b"key"))
            case "deaf":
                self.deaf = True
            case "close":
                self.deaf = True
                self.writer.close()
            case "nonsense":
                self.writer.write(b"\xff\xff\xff\xff")
        known = {
            "worker": self.index,
            "pid": os.getpid(),
            "users": self.users,
            "pool_size": self.pool_size,
            "arguments": sys.argv[1:],
            "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
            "topologies": self.topologies,
            "catalogs": self.catalogs,
            "readable": self.readable,
            "cancels": self.cancels,
            "caches": self.caches,
            "cleared": self.cleared,
            "pauses": self.pauses,
        }
        writer.write(json.dumps(known).encode() + b"\n")
        await writer.drain()
        writer.close()


async def main() -> bool:
    """Until the channel ends; whether to stay all the same."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=int(sys.argv[1])))
    worker = EchoWorker(writer)
    frames = FrameReader()
    while data := await reader.read(65536):
        for message in frames.feed(data):
            await worker.take(message)
    return worker.deaf


parent = os.getppid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = asyncio.run(main())
while deaf and os.getppid() == parent:
    # Not an order, but a worker gone wrong: it stays when it should go. Not for ever, though.
    time.sleep(0.05)
os._exit(0)
