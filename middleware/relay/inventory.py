"""What there is in a worker: its clients, servers, pools and prepared statements, reported when somebody asks.

In: control.Ask. Out: control.Told, in parts, of a bounded number of steps each: the worker serves its clients between
two of them. So an answer is of several moments; whoever comes or goes meanwhile may be in it or not.

Little of it is kept for this alone: addresses and TLS are asked of the transports.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from middleware.control import Ask, Told
from middleware.pool.pool import Pool
from middleware.pool.server_connection import CHECKING, CLOSING, HELD_BACK, IDLE, LENT, ServerConnection
from middleware.relay.arrival import Arrival
from middleware.relay.client_connection import ClientConnection
from middleware.relay.console import ConsoleClient
from middleware.relay.handing_over import WELCOME
from middleware.relay.peers import address_of, application_name, descriptor_of, tls_of
from middleware.relay.relay import Client, Relay
from middleware.relay.replication import ReplicationClient
from middleware.reports import ClientReport, PoolReport, PreparedReport, Report, ServerReport
from middleware.session.prepared import Statement
from middleware.session.replication import LOGICAL

STEPS_PER_PART: Final = 100
"""Of a part: some hundred microseconds."""
SHAPE_CHARS_MAX: Final = 500

Steps = Iterator[Report | None]
"""What is found at each step, if anything."""


class Telling:
    """An answer that is being given."""

    def __init__(self, relay: Relay, asked: Ask) -> None:
        self._serial: Final = asked.serial
        self._limit: Final = asked.limit
        steps = SUBJECTS[asked.subject](relay)
        self._steps: Steps = _biggest(steps, asked.limit) if asked.limit > 0 else steps

    def part(self) -> Told:
        """The next part."""
        reports: list[Report] = []
        for _ in range(STEPS_PER_PART):
            try:
                report = next(self._steps)
            except StopIteration:
                return Told(self._serial, tuple(reports), last=True)
            if report is not None:
                reports.append(report)
        return Told(self._serial, tuple(reports), last=False)


def _biggest(steps: Steps, limit: int) -> Steps:
    """The biggest alone; twice as many are held meanwhile, at most."""
    kept: list[Report] = []
    for report in steps:
        if report is not None:
            kept.append(report)
        if len(kept) >= 2 * limit:
            kept = _sorted(kept)[:limit]
        yield None
    yield from _sorted(kept)[:limit]


def _sorted(reports: list[Report]) -> list[Report]:
    return sorted(reports, key=size_of, reverse=True)


def size_of(report: Report) -> tuple[float, float]:
    """By what the biggest of a kind are told: clients that wait, and have been there, for longest; the oldest servers;
    pools with most clients; statements that most clients have; digests that took the most time."""
    match report:
        case ClientReport():
            return report.waited_s, -report.connected_at
        case ServerReport():
            return -report.connected_at, 0.0
        case PoolReport():
            return report.cl_active + report.cl_waiting, report.sv_active
        case PreparedReport():
            return report.clients, report.servers
        case _:
            return report.total_s, report.calls


class _Clock:
    """Moments of the loop as the world calls them."""

    def __init__(self, relay: Relay) -> None:
        self.now: Final = relay.loop.time()
        self._ahead_s: Final = time.time() - self.now

    def wall(self, moment: float) -> float:
        return moment + self._ahead_s


# Clients


def _clients(relay: Relay) -> Steps:
    for process_id, client in list(relay.clients.items()):
        # Others have come and gone since.
        yield client_report(client, relay) if relay.clients.get(process_id) is client else None


def client_report(client: Client, relay: Relay) -> ClientReport | None:
    """The report of a client that is logged in."""
    match client:
        case ClientConnection():
            return _client(client, _Clock(relay))
        case Arrival():
            return _arrival(client, _Clock(relay)) if client.state == WELCOME else None
        case ReplicationClient():
            return _replication_client(client, _Clock(relay))
        case ConsoleClient():
            return _console(client, _Clock(relay))
        case _:
            return None


def _client(client: ClientConnection, clock: _Clock) -> ClientReport:
    account, server, session = client.account, client.server, client.session
    waits = server is None and client.held_at > 0
    addr, port = address_of(client.transport, "peername")
    local_addr, local_port = address_of(client.transport, "sockname")
    requested_at = max(client.connected_at, client.idle_since if server is None else server.sent_at)
    return ClientReport(
        process_id=client.process_id,
        database=account.database,
        user=account.user,
        application_name=application_name(session.parameters),
        state="active" if server is not None else "waiting" if waits else "idle",
        addr=addr,
        port=port,
        local_addr=local_addr,
        local_port=local_port,
        connected_at=clock.wall(client.connected_at),
        requested_at=clock.wall(requested_at),
        waited_s=max(0.0, time.monotonic() - client.held_at) if waits else 0.0,
        route=account.policy.name,
        mode=account.policy.mode,
        link=server.cancel_key[0] if server is not None else 0,
        node=server.pool.node if server is not None else "",
        tls=tls_of(client.transport),
        prepared_statements=len(session.statements.named) + len(session.statements.sql),
        pinned=client.state.why() if client.state.pinned else "",
        replication="",
        descriptor=descriptor_of(client.transport),
        unread_bytes=client.unread_bytes(),
        unsent_bytes=server.transport.get_write_buffer_size() if server is not None else 0,
    )


def _arrival(client: Arrival, clock: _Clock) -> ClientReport:
    """One that waits for what only a server can tell it."""
    account, server = client.account, client.server
    addr, port = address_of(client.transport, "peername")
    local_addr, local_port = address_of(client.transport, "sockname")
    return ClientReport(
        process_id=client.process_id,
        database=account.database,
        user=account.user,
        application_name=application_name(client.parameters),
        state="waiting" if server is None else "active",
        addr=addr,
        port=port,
        local_addr=local_addr,
        local_port=local_port,
        connected_at=clock.wall(client.connected_at),
        requested_at=clock.wall(client.connected_at),
        waited_s=max(0.0, clock.now - client.connected_at) if server is None else 0.0,
        route=account.policy.name,
        mode=account.policy.mode,
        link=server.cancel_key[0] if server is not None else 0,
        node=server.pool.node if server is not None else "",
        tls=tls_of(client.transport),
        prepared_statements=0,
        pinned="",
        replication="",
        descriptor=descriptor_of(client.transport),
    )


def _replication_client(client: ReplicationClient, clock: _Clock) -> ClientReport:
    wish, server = client.wish, client.server
    addr, port = address_of(client.transport, "peername")
    local_addr, local_port = address_of(client.transport, "sockname")
    return ClientReport(
        process_id=client.process_id,
        database=wish.account.database,
        user=wish.account.user,
        application_name=application_name(wish.parameters),
        state="waiting" if server is None else "active",
        addr=addr,
        port=port,
        local_addr=local_addr,
        local_port=local_port,
        connected_at=clock.wall(wish.connected_at),
        requested_at=clock.wall(wish.connected_at),
        waited_s=max(0.0, clock.now - wish.connected_at) if server is None else 0.0,
        route=wish.account.policy.name,
        mode="session",
        link=server.login.process_id if server is not None else 0,
        node=client.node.name,
        tls=tls_of(client.transport),
        prepared_statements=0,
        pinned="",
        replication="logical" if wish.kind == LOGICAL else "physical",
        descriptor=descriptor_of(client.transport),
        unsent_bytes=server.transport.get_write_buffer_size() if server is not None else 0,
    )


def _console(client: ConsoleClient, clock: _Clock) -> ClientReport:
    addr, port = address_of(client.transport, "peername")
    local_addr, local_port = address_of(client.transport, "sockname")
    return ClientReport(
        process_id=client.process_id,
        database=client.database,
        user=client.user,
        application_name=client.courtesies.application_name,
        state=client.state,
        addr=addr,
        port=port,
        local_addr=local_addr,
        local_port=local_port,
        connected_at=clock.wall(client.connected_at),
        requested_at=clock.wall(client.requested_at),
        waited_s=0.0,
        route="",
        mode="statement",
        link=0,
        node="",
        tls=tls_of(client.transport),
        prepared_statements=client.prepared_statements,
        pinned="",
        replication="",
        descriptor=descriptor_of(client.transport),
    )


# Servers


def _servers(relay: Relay) -> Steps:
    for pool in relay.pools.awake():
        idle = dict(pool.plan.idle)
        for server in pool.servers():
            yield _server(server, _Clock(relay), _state(server, idle, relay))
    for client in list(relay.replicating):
        yield _wal_sender(client) if isinstance(client, ReplicationClient) else None


def _state(server: ServerConnection, idle: Mapping[ServerConnection, float], relay: Relay) -> str:
    """`idle`: since when the idle ones of its pool are that."""
    if server.state == LENT or server in server.pool.plan.lent:
        return "active"
    if server.state == IDLE:
        idle_s = relay.clock.now - idle.get(server, relay.clock.now)
        return "used" if idle_s >= relay.settings.server_check_delay_s else "idle"
    if server.state == CHECKING:
        return "tested"
    if server.state == HELD_BACK:
        return "being_canceled"
    return "closing" if server.state >= CLOSING else "new"


def _server(server: ServerConnection, clock: _Clock, state: str) -> ServerReport:
    pool, client = server.pool, server.client
    local_addr, local_port = address_of(server.transport, "sockname")
    expired = 0.0 < server.expires_at <= clock.now
    unread, left = server.session.unfinished()
    return ServerReport(
        process_id=server.cancel_key[0],
        node=pool.node,
        host=pool.host,
        port=pool.port,
        database=pool.database.decode(errors="replace"),
        user=pool.user.decode(errors="replace"),
        application_name=application_name(server.session.parameters) if client is not None else "",
        state=state,
        local_addr=local_addr,
        local_port=local_port,
        connected_at=server.connected_at,
        requested_at=clock.wall(server.sent_at) if server.sent_at else server.connected_at,
        close_needed=pool.plan.closed or server.session.uncertain or expired,
        link=client.process_id if isinstance(client, (ClientConnection, Arrival)) else 0,
        route=pool.policy.name,
        tls=tls_of(server.transport),
        prepared_statements=len(server.session.statements) + len(server.session.prepared),
        descriptor=descriptor_of(server.transport),
        unread_bytes=unread,
        left_bytes=left,
        unsent_bytes=client.transport.get_write_buffer_size() if isinstance(client, ClientConnection) else 0,
    )


def _wal_sender(client: ReplicationClient) -> ServerReport | None:
    """The server of a replication client, once it is connected."""
    server, wish = client.server, client.wish
    if server is None:
        return None
    local_addr, local_port = address_of(server.transport, "sockname")
    return ServerReport(
        process_id=server.login.process_id,
        node=client.node.name,
        host=client.node.host,
        port=client.node.port,
        database=wish.database.decode(errors="replace"),
        user=wish.user.decode(errors="replace"),
        application_name=application_name(wish.parameters),
        state="active" if server.login.done else "new",
        local_addr=local_addr,
        local_port=local_port,
        connected_at=server.connected_at,
        requested_at=server.connected_at,
        close_needed=False,
        link=client.process_id,
        route="",
        tls=tls_of(server.transport),
        prepared_statements=0,
        replication="logical" if wish.kind == LOGICAL else "physical",
        descriptor=descriptor_of(server.transport),
        unsent_bytes=client.transport.get_write_buffer_size(),
    )


# Pools

_Whose = tuple[bytes, bytes, str]
"""A pool's database, user and rule."""


class _Crowd:
    """The clients of a pool."""

    def __init__(self) -> None:
        self.active = 0
        self.waiting = 0
        self.waited_s = 0.0
        self.mode = ""


def _pools(relay: Relay) -> Steps:
    crowds: dict[_Whose, _Crowd] = {}
    for process_id, client in list(relay.clients.items()):
        if relay.clients.get(process_id) is client:
            _join(client, crowds, relay)
        yield None
    modes = {policy.pool.name: policy.mode for policy in relay.settings.policies}
    primary = relay.pools.topology.primary()
    # The primary's first: its reports tell of the clients.
    pools = sorted(relay.pools.all(), key=lambda pool: primary is None or pool.node != primary.name)
    for pool in pools:
        crowd = crowds.pop((pool.database, pool.user, pool.policy.name), None)
        yield _pool(pool, crowd or _Crowd(), modes.get(pool.policy.name, ""), relay)
    for (database, user, route), crowd in crowds.items():
        # There is no node for them.
        names = database.decode(errors="replace"), user.decode(errors="replace"), route
        yield PoolReport(
            "", *names, crowd.mode, 0, 0, 0, crowd.active, crowd.waiting, *(0,) * 10, crowd.waited_s, "closed"
        )


def _join(client: Client, crowds: dict[_Whose, _Crowd], relay: Relay) -> None:
    """Count a client for its pool."""
    if isinstance(client, ClientConnection):
        database, user, waits = client.database, client.user, client.server is None and client.held_at > 0
        waited_s = time.monotonic() - client.held_at if waits else 0.0
    elif isinstance(client, Arrival) and client.state == WELCOME:
        database, user, waits = client.server_database, client.server_user, client.server is None
        waited_s = relay.loop.time() - client.connected_at if waits else 0.0
    else:
        return
    policy = client.account.policy
    crowd = crowds.setdefault((database, user, policy.pool.name), _Crowd())
    crowd.active += not waits
    crowd.waiting += waits
    crowd.waited_s = max(crowd.waited_s, waited_s)
    crowd.mode = policy.mode


def _pool(pool: Pool, crowd: _Crowd, mode: str, relay: Relay) -> PoolReport:
    plan, servers = pool.plan, pool.servers()
    idle = dict(plan.idle)
    states = [_state(server, idle, relay) for server in servers]
    cancels = sum(server.cancels for server in servers)
    # Those that are being connected are no servers yet.
    tested, held_back = states.count("tested"), states.count("being_canceled")
    first_s = relay.loop.time() - plan.waiting[0].since if plan.waiting else 0.0
    return PoolReport(
        node=pool.node,
        database=pool.database.decode(errors="replace"),
        user=pool.user.decode(errors="replace"),
        route=pool.policy.name,
        mode=crowd.mode or mode,
        size=pool.policy.size,
        min_size=pool.policy.min_size,
        reserve_size=pool.policy.reserve_size,
        cl_active=crowd.active,
        cl_waiting=crowd.waiting,
        cl_active_cancel_req=cancels,
        cl_waiting_cancel_req=0,
        sv_active=states.count("active"),
        sv_active_cancel=cancels,
        sv_being_canceled=held_back,
        sv_idle=states.count("idle"),
        sv_used=states.count("used"),
        sv_tested=tested,
        sv_login=max(0, plan.on_the_way - tested - held_back),
        sv_closing=states.count("closing"),
        maxwait_s=max(0.0, first_s, crowd.waited_s),
        state=_condition(pool),
    )


def _condition(pool: Pool) -> str:
    if pool.draining:
        return "draining"
    if pool.plan.closed:
        return "closed"
    return "failing" if pool.failing() else "active"


# Prepared statements


class _Users:
    """Who has a statement."""

    def __init__(self) -> None:
        self.clients = 0
        self.servers = 0


def _prepared(relay: Relay) -> Steps:
    found: dict[Statement, _Users] = {}
    for process_id, client in list(relay.clients.items()):
        if isinstance(client, ClientConnection) and relay.clients.get(process_id) is client:
            for statement in client.session.statements.named.values():
                found.setdefault(statement, _Users()).clients += 1
        yield None
    for pool in relay.pools.awake():
        for server in pool.servers():
            for statement in server.session.statements.all():
                found.setdefault(statement, _Users()).servers += 1
            yield None
    for statement, users in found.items():
        name = statement.name.decode(errors="replace")
        shape = relay.facts.shape_with(statement.facts, SHAPE_CHARS_MAX) or statement.facts.kind
        yield PreparedReport(name, users.clients, users.servers, len(statement.body), shape)


# Digests


def _digests(relay: Relay) -> Steps:
    for digest in relay.digests.all():
        yield digest.report()


SUBJECTS: Final[dict[str, Callable[[Relay], Steps]]] = {
    "clients": _clients,
    "servers": _servers,
    "pools": _pools,
    "prepared": _prepared,
    "digests": _digests,
}
