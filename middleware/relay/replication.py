"""A replication connection: a client that has proved who it is, and a server of its own, bound to each other.

A walsender belongs to one client for life: it cannot be reset, so it is not pooled, and where one of the two ends the
other does. Each side's bytes are passed on as they come, and the side that sends faster is not read from meanwhile.
What the server's stream says is followed (session.replication) for one thing: to know when it may be ended.

    OPENING --the server has logged in--> PASSING --either is gone--> CLOSED (the server may need a moment more)

It goes to the primary, or with `pointsman.route = 'standby'` in its options to a standby, and ends when that node is no
longer what it was: its client, by connecting again, finds the one that is.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from healthcheck.topology import Condition, Node, Topology
from middleware.config import RoutePolicy
from middleware.errors import ConnectionLost, PointsmanError, ShuttingDown
from middleware.logs.wanted import WANTED
from middleware.pool.dial import other_kind
from middleware.pool.ledger import Limit
from middleware.relay.accounts import Account
from middleware.relay.cancel import Target, cancel_at
from middleware.relay.own_settings import STANDBY_ONLY, OwnSettings
from middleware.relay.parting import CLOSED as CLOSED_BY_CLIENT
from middleware.relay.parting import LOST, SERVER, reason_of, tell_end, tell_login
from middleware.relay.peers import address_of
from middleware.relay.relay import NO_PRIMARY, NO_STANDBY, Relay
from middleware.session.parameters import OWN_PREFIX, StartupParameters
from middleware.session.replication import AT_WORK, LOGICAL, ReplicationStream
from middleware.session.server_login import ServerLogin
from middleware.wire.build import READY_IDLE, TERMINATE_MESSAGE, error_response, message
from middleware.wire.codes import BACKEND_KEY_DATA, ERROR_RESPONSE, PARAMETER_STATUS

OPENING: Final = 0
PASSING: Final = 1
CLOSED: Final = 2

LINGER_S: Final = 10.0
"""How long what was written last has to reach its reader, once its connection is to end."""


class Wish(NamedTuple):
    """What a replication client has asked for at its login."""

    kind: int
    """PHYSICAL or LOGICAL."""
    database: bytes
    user: bytes
    """As they are called on the nodes."""
    parameters: StartupParameters
    admin: bool
    """Its user, as it has logged in, is one of admin_users."""
    account: Account
    connected_at: float
    """When it came, by the loop's clock."""

    def startup(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the server's startup message says beyond database and user."""
        own = OWN_PREFIX.encode()
        settings = tuple(pair for pair in self.parameters.values if not pair[0].startswith(own))
        return (b"replication", b"database" if self.kind == LOGICAL else b"true"), *settings


def node_for(topology: Topology, own: OwnSettings, policy: RoutePolicy, draw: float) -> Node:
    """The node that a replication connection goes to; `draw` from 0 to 1 chooses among standbys. Raises NoNode."""
    if own.route != STANDBY_ONLY:
        primary = topology.primary()
        if primary is None:
            raise NO_PRIMARY
        return primary
    standbys: Sequence[Node] = topology.standbys()
    preferred = [node for node in standbys if node.name in policy.prefer]
    standbys = preferred or standbys
    if not standbys:
        raise NO_STANDBY
    return standbys[min(int(draw * len(standbys)), len(standbys) - 1)]


class WalSender(asyncio.Protocol):
    """The server's side."""

    def __init__(self, client: "ReplicationClient", login: ServerLogin) -> None:
        self._client: Final = client
        self.login: Final = login
        self.stream: Final = ReplicationStream()
        self.answered: Final = asyncio.Event()
        """Its login is over: it is `login.done`, or `error` says why not."""
        self.error: PointsmanError | None = None
        self.connected_at = 0.0
        """time.time()."""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own kind.
        self.transport = cast(asyncio.Transport, transport)
        self.connected_at = time.time()
        if not self._client.has_server(self):
            self.transport.abort()
            return
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self.login.certificate = ssl_object.getpeercert(True)
        self.transport.write(self.login.startup())

    def encrypted(self) -> bool:
        """Whether it runs over TLS."""
        return self.transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        if self.answered.is_set():
            self._client.server_said(self, data)
            return
        try:
            reply = self.login.feed(data)
        except PointsmanError as error:
            self.error = error
            self.answered.set()
            return
        if reply:
            self.transport.write(reply)
        if self.login.done:
            self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.is_set():
            self.error = ConnectionLost(f'node "{self._client.node.name}" closed the connection during login')
            self.answered.set()
        self._client.server_ended(self)

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()

    def close(self) -> None:
        """Have it end: its client is gone."""
        transport = self.transport
        if not self.login.done or self.stream.state == AT_WORK:
            # It would send on, and notice our end by nothing else than that nobody takes it.
            transport.abort()
        elif not transport.is_closing():
            transport.resume_reading()
            transport.write(TERMINATE_MESSAGE)
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
            self._client.relay.loop.call_later(LINGER_S, transport.abort)


class ReplicationClient(asyncio.Protocol):
    """The client's side, and what the two have in common. A Client to the relay."""

    def __init__(
        self,
        relay: Relay,
        transport: asyncio.Transport,
        process_id: int,
        secret: bytes,
        counted: list[Limit],
        wish: Wish,
        node: Node,
        sent: bytes,
    ) -> None:
        """`counted`: the limits it counts for as a client. `sent`: what has come of it behind its login."""
        self.relay: Final = relay
        self.transport: Final = transport
        self.process_id = process_id
        self.secret = secret
        self.counted = counted
        self.called: bytes | None = b""
        self.deadline = 0.0
        self.node: Final = node
        self.state = OPENING
        self.wish: Final = wish
        self._sent = sent
        self._places: list[Limit] = []
        """The limits that its server counts for."""
        self._server: WalSender | None = None
        self._opening: asyncio.Task[None] | None = None
        self._draining = False
        self._suspended = False
        self.peer: Final = address_of(transport, "peername")
        self._parting = ""
        """Why it goes; "" while it does not."""
        self._parting_error: PointsmanError | None = None

    @property
    def server(self) -> WalSender | None:
        """Its server, once that is connected."""
        return self._server

    def open(self) -> None:
        """Begin. Raises TooManyConnections."""
        relay = self.relay
        places = relay.admission.replicate(self.node.name, self.wish.admin)
        if isinstance(places, PointsmanError):
            raise places
        self._places = places
        relay.replicating.add(self)
        # Until its server can take it, nothing more is wanted of it.
        self.transport.pause_reading()
        self._opening = relay.loop.create_task(self._open())

    # The server

    async def _open(self) -> None:
        relay = self.relay
        error: PointsmanError
        try:
            async with asyncio.timeout(relay.settings.server_connect_timeout_s):
                server = await self._log_in()
        except PointsmanError as failure:
            error = failure
        except OSError as failure:
            reason = failure.strerror or str(failure) or "timeout"
            error = ConnectionLost(f'could not connect to node "{self.node.name}"', detail=f"{reason}.")
        else:
            self._opening = None
            self._pass_on(server)
            return
        self._opening = None
        if isinstance(error, ConnectionLost):
            relay.control.node_trouble(self.node.name, error.message)
        self.end(error)

    async def _log_in(self) -> WalSender:
        """Open a server. Raises OSError, PointsmanError."""
        dialer = self.relay.dialer
        asked: bool | None = None
        while True:
            await dialer.open(self.node.host, self.node.port, self._made, encrypted=asked)
            server = self._server
            assert server is not None
            await server.answered.wait()
            if server.error is None:
                return server
            asked = other_kind(dialer.sslmode, asked, server.encrypted(), server.error)
            if asked is None:
                raise server.error
            server.transport.abort()

    def _made(self) -> asyncio.Protocol:
        """A server's protocol, for a connection that is there."""
        wish = self.wish
        credentials = self.relay.authority.credentials(wish.user.decode(errors="replace"))
        return WalSender(self, ServerLogin(wish.user, wish.database, credentials, wish.startup()))

    def has_server(self, server: WalSender) -> bool:
        """It is connected; whether it is wanted still."""
        if self.state == OPENING:
            self._server = server
        return self.state == OPENING

    def _pass_on(self, server: WalSender) -> None:
        """Both are there."""
        self.state = PASSING
        told = b"".join(
            message(PARAMETER_STATUS, name + b"\0" + value + b"\0") for name, value in server.login.reported.items()
        )
        key = message(BACKEND_KEY_DATA, self.process_id.to_bytes(4, "big") + self.secret)
        self.transport.write(told + key + READY_IDLE)
        wish = self.wish
        if WANTED.connections:
            took_s = self.relay.loop.time() - wish.connected_at
            kind = "logical" if wish.kind == LOGICAL else "physical"
            tell_login(
                wish.account, self.peer, wish.parameters, self.process_id, self.transport, took_s, kind, self.node.name
            )
        if self._sent:
            self.data_received(self._sent)
            self._sent = b""
        if self._suspended:
            self.suspend(True)
        else:
            self.transport.resume_reading()

    def server_said(self, server: WalSender, data: bytes) -> None:
        """Pass it on."""
        if self.state != PASSING:
            return
        try:
            server.stream.feed(data)
        except ValueError as error:
            self.end(ConnectionLost(f'node "{self.node.name}" sent an invalid message', detail=f"{error}."))
            return
        self.transport.write(data)
        if self._draining:
            self.drain()

    def server_ended(self, server: WalSender) -> None:
        """Its connection is over."""
        if server is not self._server:
            return
        self._server = None
        if self.state == CLOSED:
            self._free_place()
        elif self.state == PASSING:
            stream = server.stream
            if stream.last == ERROR_RESPONSE or not stream.whole():
                # It has told the client why itself; or nobody can.
                self._part(SERVER)
                self.close()
            else:
                self.end(
                    ConnectionLost(
                        "server closed the connection unexpectedly", detail=f'The node is "{self.node.name}".'
                    )
                )

    def _free_place(self) -> None:
        """Nothing of it is left, here or on its node."""
        self.relay.replicating.discard(self)
        self.relay.admission.leave(self._places)
        self._places = []

    # The client's transport

    def data_received(self, data: bytes) -> None:
        server = self._server
        if server is not None and self.state == PASSING:
            server.stream.sent()
            server.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._part(CLOSED_BY_CLIENT if exc is None else LOST)
        self.close()

    def pause_writing(self) -> None:
        if self._server is not None:
            self._server.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._server is not None and not self._suspended:
            self._server.transport.resume_reading()

    def pause_reading(self) -> None:
        """The server takes no more for now."""
        if self.state == PASSING:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """See pause_reading()."""
        if self.state == PASSING and not self._suspended:
            self.transport.resume_reading()

    # From the relay

    def cancel(self) -> None:
        """A CancelRequest with its key has come."""
        server = self._server
        if server is not None and self.state == PASSING:
            transport, node, login = server.transport, self.node, server.login
            peer = transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) else ""
            encrypted = server.encrypted()
            backend = Target(node.name, node.host, node.port, address, encrypted, login.process_id, login.secret)
            cancel_at(self.relay, backend, lambda: None)

    def settings_changed(self) -> None:
        """What it has begun with goes on."""

    def idle_too_long(self, now: float) -> None:
        """A stream may be silent for as long as nothing is written."""

    def track_writes(self, begin: bool) -> None:
        """It notes none."""

    def suspend(self, suspended: bool) -> None:
        """Read nothing from either side; or read again."""
        self._suspended = suspended
        server = self._server
        if self.state != PASSING or server is None:
            return
        for transport in (self.transport, server.transport):
            if suspended:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def waits(self) -> bool:
        """Whether it waits for a server."""
        return self.state == OPENING

    def unsent(self) -> bool:
        """Whether something was read from one side that has not been passed on to the other."""
        server = self._server
        to_server = 0 if server is None else server.transport.get_write_buffer_size()
        return self.transport.get_write_buffer_size() + to_server > 0

    def pool_key(self) -> None:
        """It uses no pool."""

    def topology_changed(self, topology: Topology) -> None:
        """It ends where its node is no longer what it was."""
        now = next((node for node in topology.nodes if node.name == self.node.name), None)
        used = now is not None and (now.up or now.condition is Condition.DRAINING)
        if now is None or not used or (now.host, now.port) != (self.node.host, self.node.port):
            self.end(ConnectionLost(f'node "{self.node.name}" is no longer used'))
        elif now.role is not self.node.role:
            self.end(ConnectionLost(f'node "{self.node.name}" is no longer a {self.node.role.value}'))

    def drain(self) -> None:
        """Go when no command is under way."""
        self._draining = True
        server = self._server
        if self.state == OPENING or (server is not None and server.stream.may_end()):
            self.terminate()

    def terminate(self) -> None:
        """Go now, and say why."""
        self.end(ShuttingDown())

    # The end

    def end(self, error: PointsmanError) -> None:
        """Say FATAL, unless within a message, and close."""
        if self.state == CLOSED:
            return
        # Until a login of the server is over, its stream has not begun.
        if self._server is None or self._server.stream.whole():
            self.transport.write(error_response(error, "FATAL"))
        self._part(reason_of(error), error)
        self.close()

    def _part(self, reason: str, error: PointsmanError | None = None) -> None:
        """It goes; unless it was going already, for this."""
        if not self._parting:
            self._parting, self._parting_error = reason, error

    def _tell_end(self) -> None:
        wish = self.wish
        if WANTED.disconnections:
            connected_s = self.relay.loop.time() - wish.connected_at
            reason, error = self._parting, self._parting_error
            tell_end(wish.account, self.peer, wish.parameters, self.process_id, connected_s, reason, error)

    def close(self) -> None:
        """Close both connections. Safe to call again."""
        if self.state == CLOSED:
            return
        server = self._server
        if server is not None and server.stream.state == AT_WORK:
            # Its command would run on to its end: nobody waits for that.
            self.cancel()
        self.state = CLOSED
        self._tell_end()
        self.relay.gone(self)
        self.transport.close()
        self.relay.loop.call_later(LINGER_S, self.transport.abort)
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if server is not None:
            server.close()
        else:
            self._free_place()
