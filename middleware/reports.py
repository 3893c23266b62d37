"""What a worker says of itself: each client, each server, each pool, each shape of statement when it is asked; what it
has counted and timed, once a second.

In: the relay's state. Out: these, over the control channel to supervisor/asking.py and supervisor/counters.py.
Names of databases, users and applications are clients' words: whoever shows them escapes them. Moments are time.time(),
0 for never.
"""

from typing import Final, Literal

import msgspec

Subject = Literal["clients", "servers", "pools", "digests", "prepared"]
"""What may be asked for."""


class ClientReport(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """A client that is logged in."""

    process_id: int
    """As in its BackendKeyData: unique over all workers, as long as it is there."""
    database: str
    user: str
    application_name: str
    state: str
    """PgBouncer's: "active" (it has a server), "idle", "waiting", "active_cancel_req", "waiting_cancel_req"."""
    addr: str
    """"unix" for a unix socket."""
    port: int
    local_addr: str
    local_port: int
    connected_at: float
    requested_at: float
    """When it last sent something."""
    waited_s: float
    """How long it has waited for a server, if it does."""
    route: str
    """The name of the rule that holds for it, "" for none."""
    mode: str
    """Its pool_mode."""
    link: int
    """The backend's process id of the server that it has; 0 for none."""
    node: str
    """Where that is."""
    tls: str
    """Version and cipher; "" for none."""
    prepared_statements: int
    pinned: str
    """What keeps it on its server: session state, in words; "" for nothing."""
    replication: str
    """"physical", "logical", or ""."""
    descriptor: int = -1
    """Of its socket, in its worker."""
    unread_bytes: int = 0
    """What has come and was not sent on: an unfinished message or batch, or one that waits."""
    unsent_bytes: int = 0
    """What was sent on, and its server has not taken yet."""


class ServerReport(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A connection to a node."""

    process_id: int
    """Its backend's; 0 before it is known."""
    node: str
    host: str
    port: int
    database: str
    user: str
    application_name: str
    state: str
    """PgBouncer's: "active", "idle", "used" (idle for longer than server_check_delay), "tested", "new" (logging in),
    "active_cancel", "being_canceled"; and ours, "closing"."""
    local_addr: str
    local_port: int
    connected_at: float
    requested_at: float
    """When it was last given something to do."""
    close_needed: bool
    """It is closed when it comes back."""
    link: int
    """The process id of the client that has it; 0 for none."""
    route: str
    """The rule whose pool it is of, "" for the common ones."""
    tls: str
    prepared_statements: int
    replication: str = ""
    """"physical", "logical", or ""."""
    descriptor: int = -1
    """Of its socket, in its worker."""
    unread_bytes: int = 0
    """What has come of a message whose kind or length is not known yet."""
    left_bytes: int = 0
    """Of a message whose beginning was passed on, what is still to come."""
    unsent_bytes: int = 0
    """What was passed on, and its client has not taken yet."""


class PoolReport(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """A pool of one node, database, user and rule, in one worker; and the clients of its database, user and rule, on
    the primary's pool alone (each is counted once)."""

    node: str
    database: str
    user: str
    route: str
    mode: str
    size: int
    """The bounds hold over all workers."""
    min_size: int
    reserve_size: int
    cl_active: int
    """Clients that have a server of it, or none and wait for nothing."""
    cl_waiting: int
    cl_active_cancel_req: int
    cl_waiting_cancel_req: int
    sv_active: int
    sv_active_cancel: int
    sv_being_canceled: int
    sv_idle: int
    sv_used: int
    sv_tested: int
    sv_login: int
    sv_closing: int
    maxwait_s: float
    """How long the first in the queue has waited."""
    state: str
    """"active", "paused", "disabled", "draining", "closed" or "failing"."""


class PreparedReport(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """A statement that clients have prepared by name."""

    name: str
    """What it is called on the servers."""
    clients: int
    """How many names of clients mean it."""
    servers: int
    """How many servers know it."""
    bytes: int
    shape: str
    """Its text without literals, shortened."""


class DigestReport(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """What statements of one shape have done, since the worker started."""

    database: str
    shape: str
    """Text without literals, shortened; never with a client's data in it."""
    calls: int
    errors: int
    rows: int
    total_s: float
    """From its being sent to a server until the answer was there."""
    max_s: float
    on_primary: int
    on_standbys: int
    hits: int
    """Answered from the query cache."""
    reason: str
    """Why it stayed on the primary the last time it did; "" where it never did."""


BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
"""The upper bounds of a histogram's buckets."""


class Histogram(msgspec.Struct, frozen=True, array_like=True):
    """How long something took, each time."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS_S) + 1)
    """Of each bucket for itself; the last is for what took longer than all bounds."""
    sum_s: float = 0.0


class TrafficReport(msgspec.Struct, frozen=True, array_like=True):
    """What has gone between the clients of one database and rule, and one node, since the worker started.

    PgBouncer's counts, as its SHOW STATS has them, and the errors."""

    database: str
    """As clients call it; OTHERS where there are too many."""
    route: str
    node: str
    """"" for the query cache, and for what no node was needed for."""
    assignments: int = 0
    xacts: int = 0
    queries: int = 0
    received_bytes: int = 0
    """From clients."""
    sent_bytes: int = 0
    """To clients."""
    xact_s: float = 0.0
    query_s: float = 0.0
    wait_s: float = 0.0
    client_parses: int = 0
    server_parses: int = 0
    binds: int = 0
    errors: int = 0
    """ErrorResponses that clients have been sent."""


OTHERS: Final = "(others)"
TRAFFIC_MAX: Final = 500
"""Of a worker's (database, rule, node); what comes beyond is counted for the database OTHERS."""


class TimingsReport(msgspec.Struct, frozen=True, array_like=True):
    """How long it took, for the clients of one rule at one node."""

    route: str
    node: str
    query: Histogram = Histogram()
    """From a batch's being sent until it was answered."""
    wait: Histogram = Histogram()
    """For a server, of each batch that needed one: nearly nothing where one is idle."""
    checkout: Histogram = Histogram()
    """How long a client had a server."""


class HealthReport(msgspec.Struct, frozen=True, array_like=True):
    """How a worker is."""

    loop_lag_s: float = 0.0
    """How late its last second's latest tick was."""
    cpu_s: float = 0.0
    """User and system, of the process."""
    rss_bytes: int = 0
    logins_in_flight: int = 0
    """Connections of clients that have not logged in yet."""
    logins_done: int = 0
    logins_refused: int = 0
    logins_abandoned: int = 0
    """That ended, by the client or a timeout, before it was known whether it may come in."""
    client_login: Histogram = Histogram()
    server_logins_in_flight: int = 0
    server_logins_failed: int = 0
    server_login: Histogram = Histogram()


Report = ClientReport | ServerReport | PoolReport | PreparedReport | DigestReport
