"""Between a Pointsman and the one that takes over from it: what they say to each other, and how.

It begins as a request to the control socket (TakeOver). The answer is a byte with descriptors, and from then on lines
of JSON in both directions:

    successor                       predecessor
    TakeOver                  →
                              ←     descriptors, Handed     it goes on as before
    Serving                   →                             all workers of the successor accept clients
                              ←     LetGo                   it changes no roles any more
    Taken                     →
                              ←     Done                    it takes no clients any more
    CancelElsewhere, ..       ⇄                             as long as it has clients

Whatever fails before Done leaves the predecessor as it was. The two may be of different versions: a message that is not
known is passed over, and so is a field; what must be understood raises PROTOCOL.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import anyio
import anyio.abc
import msgspec
import structlog

from healthcheck.memory import Remembered
from healthcheck.topology import Observation
from middleware.control import Kill, KillClient, NodeLeases, Obeyed, PauseProgress, Reconnect, SetPauses
from middleware.supervisor.node_orders import NodeOrder
from middleware.supervisor.pausing import PauseState

PROTOCOL: Final = 1
LINE_BYTES_MAX: Final = 1 << 20
WAITING_MAX: Final = 1000
"""Messages to one that does not read; beyond them the oldest is dropped: PostgreSQL promises nothing for cancels, and
what is wanted is asked for again."""
DESCRIPTORS_MAX: Final = 200
_CHUNK: Final = 65536

log = structlog.get_logger("service")


class TakeOver(msgspec.Struct, frozen=True, tag_field="do", tag="take_over", forbid_unknown_fields=False):
    """Hand over: the connection is the link from then on."""

    protocol: int
    version: str
    layout: str
    """Of the memory that workers share."""


Slots = tuple[tuple[int, int], ...]
"""The first of some slots that follow each other, and how many."""


Use = Literal["clients", "http", "control"]
"""What a socket is for."""


class HandedSocket(msgspec.Struct, frozen=True):
    """A socket that listens; its descriptor is at the same place."""

    use: Use
    activated: bool = False
    """By systemd, to which its file belongs: it is used whatever the settings say."""


class Standing(msgspec.Struct, frozen=True):
    """What was learnt, and what operators have said, that outlives a generation."""

    remembered: Remembered | None = None
    fenced: tuple[str, ...] = ()
    cache_modes: dict[str, str] = {}
    cache_forced: str = ""
    pauses: PauseState = PauseState()
    orders: tuple[NodeOrder, ...] = ()
    primary: Observation | None = None
    """When it was last well."""


class Handed(msgspec.Struct, frozen=True, tag_field="say", tag="handed"):
    """These are for you. Before the sockets' descriptors stands the one of the shared memory, where `shared`."""

    version: str
    pid: int
    sockets: tuple[HandedSocket, ...]
    shared: bool
    slots: Slots
    """Those that its workers have, and the ones before it."""
    standing: Standing


class Serving(msgspec.Struct, frozen=True, tag_field="say", tag="serving"):
    """All my workers accept clients: let go."""

    pid: int
    slots: Slots
    used: tuple[int, ...]
    """The places of those sockets that it listens on."""


class LetGo(msgspec.Struct, frozen=True, tag_field="say", tag="let_go"):
    """I change no roles any more."""

    standing: Standing


class Taken(msgspec.Struct, frozen=True, tag_field="say", tag="taken"):
    """I know what you know."""


class Done(msgspec.Struct, frozen=True, tag_field="say", tag="done"):
    """I take no clients any more. All is yours."""


class CancelElsewhere(msgspec.Struct, frozen=True, tag_field="say", tag="cancel"):
    """A CancelRequest whose key names a worker that is not mine."""

    process_id: int
    secret: bytes


class ServerWantedElsewhere(msgspec.Struct, frozen=True, tag_field="say", tag="server_wanted"):
    """A limit that we share keeps a client of mine from getting a server."""

    key: bytes


class ServerFreedElsewhere(msgspec.Struct, frozen=True, tag_field="say", tag="server_freed"):
    """A server was closed for a client of yours."""


class CatalogChanged(msgspec.Struct, frozen=True, tag_field="say", tag="catalog_changed"):
    """A client of the worker in this slot has changed a database's catalog."""

    database: str
    slot: int
    changed_at: float
    """time.monotonic(), of the machine."""


class CatalogSuspected(msgspec.Struct, frozen=True, tag_field="say", tag="catalog_suspected"):
    """The same, perhaps."""

    database: str


class Nodes(msgspec.Struct, frozen=True, tag_field="say", tag="nodes"):
    """From the successor: what is to be done about nodes, beside what you see of them yourself."""

    version: int
    """Of the topology by which that is so."""
    fenced: tuple[str, ...]
    draining: tuple[str, ...]
    detached: tuple[str, ...]
    remembered: Remembered | None


class UnderWay(msgspec.Struct, frozen=True, tag_field="say", tag="under_way"):
    """From the predecessor, while nodes drain: what its clients have there (control.Leases)."""

    version: int
    """Of Nodes, which all its workers go by."""
    nodes: tuple[NodeLeases, ...]


class Pauses(msgspec.Struct, frozen=True, tag_field="say", tag="pauses"):
    """From the successor: what its own workers are told of what is paused."""

    told: SetPauses


class PausesLeft(msgspec.Struct, frozen=True, tag_field="say", tag="pauses_left"):
    """From the predecessor: what one of its workers would answer, of all of them."""

    progress: PauseProgress


PauseOrder = Reconnect | Kill | KillClient


class Ordered(msgspec.Struct, frozen=True, tag_field="say", tag="ordered"):
    """From the successor: an order that its own workers have got, too."""

    order: PauseOrder


class Carried(msgspec.Struct, frozen=True, tag_field="say", tag="carried"):
    """From the predecessor: it was carried out."""

    obeyed: Obeyed


class Left(msgspec.Struct, frozen=True, tag_field="say", tag="left"):
    """From the predecessor: so many clients it still has, and those before it."""

    clients: int


class End(msgspec.Struct, frozen=True, tag_field="say", tag="end"):
    """From the successor, which ends: send your clients away within your shutdown_timeout, or at once."""

    at_once: bool = False


class EndWithServers(msgspec.Struct, frozen=True, tag_field="say", tag="end_with_servers"):
    """From the successor, of which SHUTDOWN WAIT_FOR_SERVERS was said: it is said of you as well. One that does not
    know it has its clients paused all the same, and is told End when it has no server left."""


Said = (
    Handed
    | Serving
    | LetGo
    | Taken
    | Done
    | CancelElsewhere
    | ServerWantedElsewhere
    | ServerFreedElsewhere
    | CatalogChanged
    | CatalogSuspected
    | Nodes
    | UnderWay
    | Pauses
    | PausesLeft
    | Ordered
    | Carried
    | Left
    | End
    | EndWithServers
)
_LATEST: Final = (Nodes, UnderWay, Pauses, PausesLeft, Left)
"""Of these only the last one counts."""


class _Kind(msgspec.Struct):
    say: str


_kind: Final = msgspec.json.Decoder(_Kind)
_said: Final = msgspec.json.Decoder(Said)
_KNOWN: Final = frozenset(str(kind.__struct_config__.tag) for kind in Said.__args__)


def read(line: bytes) -> Said | None:
    """The message; None for one of a later version. Raises msgspec.MsgspecError for what is no message at all."""
    return _said.decode(line) if _kind.decode(line).say in _KNOWN else None


class Link:
    """One end of it."""

    def __init__(self, stream: anyio.abc.UNIXSocketStream, heard: Callable[["Link", Said], None]) -> None:
        self._stream: Final = stream
        self._heard: Final = heard
        self._waiting: Final[deque[Said]] = deque(maxlen=WAITING_MAX)
        self._latest: Final[dict[str, Said]] = {}
        self._something = anyio.Event()
        self.over: Final = anyio.Event()
        """The other end is gone, or was closed here."""

    def send(self, message: Said) -> None:
        """Have it sent; nothing is waited for."""
        if isinstance(message, _LATEST):
            self._latest[type(message).__name__] = message
        else:
            self._waiting.append(message)
        self._something.set()

    async def run(self, before: bytes = b"") -> None:
        """Send and hear until either end is gone. `before`: what has come already."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_all)
                await self._hear(before)
                tasks.cancel_scope.cancel()
        finally:
            self.over.set()

    async def close(self) -> None:
        """Whoever is at the other end sees the end."""
        await anyio.aclose_forcefully(self._stream)

    async def _send_all(self) -> None:
        try:
            while True:
                await self._something.wait()
                self._something = anyio.Event()
                while self._waiting:
                    await self._stream.send(msgspec.json.encode(self._waiting.popleft()) + b"\n")
                for kind in list(self._latest):
                    await self._stream.send(msgspec.json.encode(self._latest.pop(kind)) + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            # The other half of it sees the same.
            return

    async def _hear(self, before: bytes) -> None:
        buffer = bytearray(before)
        try:
            while True:
                *lines, rest = bytes(buffer).split(b"\n")
                buffer[:] = rest
                for line in lines:
                    message = read(line)
                    if message is not None:
                        self._heard(self, message)
                if len(buffer) > LINE_BYTES_MAX:
                    raise msgspec.DecodeError(f"a line of more than {LINE_BYTES_MAX} bytes")
                buffer += await self._stream.receive(_CHUNK)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        except msgspec.MsgspecError as error:
            log.error("what another Pointsman says is not understood", why=str(error))
