"""The control channel between the supervisor and its workers: its messages.

A local socket pair per worker carries them, in frames (framing.py). Snapshots and orders go down, counters and reports
go up. Nothing on the hot path waits for it.
"""

from typing import Final, Literal

import msgspec

from healthcheck.topology import Topology
from middleware.auth import Access
from middleware.auth.made_up import Nobody
from middleware.auth.scram import Verifier
from middleware.config import TlsMaterial, WorkerSettings
from middleware.reports import HealthReport, Report, Subject, TimingsReport, TrafficReport
from routing.catalog import Catalog

SLOT_SHIFT: Final = 20
"""A client's process id in BackendKeyData is `slot << SLOT_SHIFT | serial`, a positive 32-bit number. A worker's slot
is its own among all that live, also those of a Pointsman that this one has taken over from: see relay/shared.py."""

BEFORE: Final = -1
"""In books that are kept by worker, those of all processes that this one has taken over from, together."""


class Configure(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, first: which worker of how many this is, and how to behave."""

    worker: int
    workers: int
    settings: WorkerSettings
    listeners: tuple[int, ...]
    """Inherited file descriptors."""
    slot: int
    """Its place in shared memory."""
    shared: int
    """The file descriptor of what workers share: see relay/shared.py."""
    versions: int
    """The one of the tables' versions."""


class SetSettings(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: the settings have changed, to these. What a new process must know is in its Configure."""

    settings: WorkerSettings


class Settle(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, behind all that was sent before: to be answered with Settled once that is done."""

    serial: int


class Settled(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, in answer to Settle."""

    worker: int
    serial: int


class SetTopology(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: the nodes have changed. The first one makes the worker accept clients."""

    topology: Topology


class NodeAnswers(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: a node answers its probes again, which had left one unanswered."""

    node: str


class SetAccess(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, before the first SetTopology and when it has changed: who may come in."""

    access: Access


class SetSecret(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, in answer to SecretWanted."""

    user: str
    exists: bool
    secret: str | None
    """As in Access; None where there is none."""
    failed: bool = False
    """The nodes could not be asked: nothing is known."""
    verifier: Verifier | None = None
    """Derived of the secret, where that is a plain password."""
    nobody: Nobody | None = None
    """What is shown to users who do not exist, now that this is known; None for what was."""

    def __repr__(self) -> str:
        return f"SetSecret({self.user!r})"


class SetCatalog(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: a database's catalog, in answer to CatalogWanted, when it has changed, and when it begins to change."""

    catalog: Catalog
    read_at: float
    """When its reading began (time.monotonic()): it has every change that was committed before."""
    changed_at: float
    """When its reading ended: a standby that is fresh as of then has the same catalog."""


class SetChanges(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, after the SetCatalog that DDL has led to: up to when each worker's reports of DDL have been passed on."""

    reported: tuple[float, ...]


class SetFreshness(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, after each sample: for each standby, as of when it is fresh (time.monotonic()), and its lag in bytes."""

    standbys: tuple[tuple[str, float, int | None], ...]


class SetTls(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, before the first SetTopology and when the files were read again: certificates and keys, found good."""

    clients: TlsMaterial
    nodes: TlsMaterial


class SetCache(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, before the first SetTopology and when it has changed: what is done about cached answers."""

    serial: int
    """Grows; to be answered with CacheTracking."""
    tracking: bool
    """What commits change is told in the memory that all share."""
    serving: bool
    """All other workers are known to do so: answers may be kept and given."""
    modes: dict[str, str] = {}
    """What an operator has said of rules, by their names: "on", "hint" or "off"."""
    forced: str = ""
    """What was said of all others; "" for nothing."""


class ClearCache(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: nothing that is kept holds any more, as all have been told already; its memory is to be given back."""

    cause: str


class Ask(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: say what there is of a subject; answered with Told, in parts."""

    serial: int
    subject: Subject
    limit: int = 0
    """At most so many, the biggest first; 0 for all."""


class Told(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, in answer to Ask: a part of what there is, in any order."""

    serial: int
    reports: tuple[Report, ...]
    last: bool


class ConsoleAsked(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a client of the admin console has sent a command."""

    client: int
    """Its process id."""
    serial: int
    """Which of its commands; an answer to another is passed over."""
    user: str
    admin: bool
    """Else one who may only look."""
    text: str


class ConsoleTold(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, to the worker of that client: a part of the answer. Rows and notices may be in all parts, the rest is in
    the last. Behind each part but the last nothing follows until ConsoleMore."""

    client: int
    serial: int
    rows: tuple[tuple[str | bool | int | float | None, ...], ...] = ()
    last: bool = True
    tag: str = ""
    notices: tuple[str, ...] = ()
    error: tuple[str, str, str, str] | None = None
    """Message, detail, hint and SQLSTATE."""


class ConsoleMore(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: that client has taken what it was told; the next part may come."""

    client: int
    serial: int


class ConsoleGone(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: that client has gone, or has cancelled the command: what can be taken back is."""

    client: int
    serial: int


WaitFor = Literal["", "servers", "clients"]


class Drain(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: take no new clients, let open transactions end within `timeout_s`, then close the rest with 57P01.

    Before that, for as long as it takes, `wait_for` all clients to go, or all servers to come back: who waits for a
    server is sent away. A second one takes the place of the first.
    """

    timeout_s: float
    wait_for: WaitFor = ""


class SetPauses(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, before the first SetTopology and when it has changed: which databases are paused, by what clients call
    them. Answered with PauseProgress, now and whenever that has changed, until nothing is left to wait for."""

    serial: int
    everything: Literal["active", "paused", "suspended"] = "active"
    paused: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    closing: tuple[str | None, ...] = ()
    """Those of which somebody waits until no server is left that is to be closed; None for all."""


class Left(msgspec.Struct, frozen=True, array_like=True):
    """What there is in a worker of a database, or (`database` being None) of all."""

    database: str | None
    busy: int = 0
    """Servers lent on which something is under way, or a transaction open."""
    resting: int = 0
    """Those that are lent because their client's session is there, and nothing else."""
    replicating: int = 0
    """Replication connections."""
    servers: int = 0
    """That are not closed yet, the lent ones among them."""
    to_close: int = 0
    """Of these, those that are closed when they come back."""
    unsent: int = 0
    """Connections on which something was read that has not been passed on."""


class PauseProgress(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: the worker goes by SetPauses number `serial`; what is left of what was paused, suspended or waited for."""

    serial: int
    left: tuple[Left, ...] = ()


class Reconnect(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: close the servers of a database, or all, when they come back. Answered with Obeyed."""

    serial: int
    database: str | None


class Kill(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, after the SetPauses that keeps them from coming back: close all clients and servers of a database, or all.
    Answered with Obeyed."""

    serial: int
    database: str | None


class KillClient(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: close a client. Answered with Obeyed."""

    serial: int
    process_id: int


class Obeyed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: an order was carried out, and that many were concerned."""

    serial: int
    count: int


class LetGo(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: another Pointsman takes the new clients from now on; serve those that are there until they go."""


class ForwardCancel(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, then down to the worker whose slot the key names: a CancelRequest that landed on another worker."""

    process_id: int
    secret: bytes


class ServerWanted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, then down to all other workers: a limit keeps a client of this worker from getting a server."""

    key: bytes
    """The limit's, as in pool/ledger.py."""


class ServerFreed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, then down to all other workers: a server was closed for them to have its place."""


class CacheTracking(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, in answer to SetCache: the worker does as it says."""

    worker: int
    serial: int


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: the worker is accepting clients."""

    worker: int


class CatalogWanted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a client has come for a database of which the worker has no catalog, or DDL was seen on it."""

    database: str
    changed_at: float = 0.0
    """When its client was told of the DDL (time.monotonic()); 0 where there was none."""
    suspected: bool = False
    """Something ran of which nobody can see whether it changed it."""


class SecretWanted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a client says it is a user whom only auth_query knows."""

    user: str


class FreshnessWanted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a client reads on the primary, because no standby is known to have what it has written."""


class WatchWanted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a client is not given a cached answer, because what is known of others' writes is too old for it."""


class NodeTrouble(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a connection to a node failed; look at it now rather than at the next period."""

    node: str
    message: str


class NodeCounters(msgspec.Struct, frozen=True, array_like=True):
    """Counts since the worker started, for one node."""

    node: str
    reads: int
    """Statements or batches decided for a standby, or that would have been."""
    writes: int
    """Statements or batches that only the primary may serve."""
    leases: int
    """Servers lent to a client now."""
    servers: int
    """Connections open to the node now."""
    answers: int = 0
    """Reads from connections to it that have brought something."""


class Leases(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, while a node is draining: that its worker gives it nothing new by now, and what clients still have there."""

    version: int
    """Of the topology it goes by."""
    nodes: tuple["NodeLeases", ...]
    """Of each that is draining."""


class NodeLeases(msgspec.Struct, frozen=True, array_like=True):
    """What clients have at a node."""

    node: str
    busy: int
    """Servers lent on which something is under way, or a transaction open."""
    resting: int
    """Those that are lent because their client's session state is there, and nothing else."""
    servers: int
    """Connections that are not closed yet, those that are lent among them."""


class StateUse(msgspec.Struct, frozen=True, array_like=True):
    """How often an application has used a class of session state."""

    application_name: str
    user: str
    database: str
    state: str
    action: str
    """What was done about it: "track", "pin", "reject" or "allow"."""
    statements: int


class CacheDigest(msgspec.Struct, frozen=True):
    """What the query cache has done for statements of one shape."""

    database: str
    shape: str
    """Its text without literals."""
    calls: int = 0
    """Executions that asked for a cached answer."""
    hits: int = 0
    stored: int = 0
    bytes: int = 0
    """Of the answers that were stored."""
    saved_s: float = 0.0
    """How long the answers had taken that were hit."""


class CacheCounters(msgspec.Struct, frozen=True):
    """What the query cache has done since its worker started."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    not_stored: dict[str, int] = {}
    """Answers to misses that were not stored, by why."""
    entries: int = 0
    """Now."""
    bytes: int = 0
    """Now."""
    evictions: int = 0
    """Entries that made room for others."""
    expired: int = 0
    invalidations: dict[str, int] = {}
    """Entries that did not hold any more, by what was the cause: "write", "watcher", "catalog", "failover", .."""
    flights: int = 0
    """Misses that waited for another client's, instead of asking a node."""
    saved_s: float = 0.0
    """How long the answers had taken that were hit."""
    second_level_hits: int = 0
    second_level_misses: int = 0
    second_level_errors: int = 0
    digests: tuple[CacheDigest, ...] = ()
    """Of the shapes that were used last."""


class Counters(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, about once a second: what this worker has done since it started."""

    worker: int
    clients: int
    waiting: int
    nodes: tuple[NodeCounters, ...]
    reasons: dict[str, int] = {}
    """Reads that went to the primary, by why."""
    on_standbys: int = 0
    """Reads that standbys served."""
    states: tuple[StateUse, ...] = ()
    reads_again: int = 0
    """Reads that were sent again, because the server was lost that had them first."""
    cache: CacheCounters = CacheCounters()
    traffic: tuple[TrafficReport, ...] = ()
    timings: tuple[TimingsReport, ...] = ()
    health: HealthReport = HealthReport()


class SetReasons(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: those of all workers together."""

    reasons: dict[str, int]
    on_standbys: int
    states: tuple[StateUse, ...] = ()


class Drained(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: after Drain, or LetGo, the last client is gone."""

    worker: int


Passed = ForwardCancel | ServerWanted | ServerFreed
"""From worker to worker."""
Down = (
    Configure
    | SetSettings
    | SetAccess
    | SetSecret
    | SetTopology
    | NodeAnswers
    | SetCatalog
    | SetChanges
    | SetFreshness
    | SetReasons
    | SetTls
    | SetCache
    | ClearCache
    | Ask
    | ConsoleTold
    | Settle
    | LetGo
    | Drain
    | SetPauses
    | Reconnect
    | Kill
    | KillClient
    | Passed
)
Up = (
    Ready
    | CatalogWanted
    | SecretWanted
    | FreshnessWanted
    | WatchWanted
    | NodeTrouble
    | Counters
    | CacheTracking
    | Leases
    | Told
    | ConsoleAsked
    | ConsoleMore
    | ConsoleGone
    | PauseProgress
    | Obeyed
    | Settled
    | Drained
    | Passed
)


def slot_of(process_id: int) -> int:
    """The slot of the worker that gave out this process id; a made-up one may name no worker."""
    return process_id >> SLOT_SHIFT


def process_id_of(slot: int, serial: int) -> int:
    """The process id that the worker in a slot gives to its client `serial`; the serial wraps around."""
    return slot << SLOT_SHIFT | serial & ((1 << SLOT_SHIFT) - 1)
