"""The side of an arriving client whose place another object takes: it is logged in.

What has come of it by then goes on to whoever serves it from there: a ClientConnection, the admin console, or a
ReplicationClient.
"""

import asyncio
import time
from abc import abstractmethod
from typing import Final, cast

from middleware.auth import Access, Authority
from middleware.logs.wanted import WANTED
from middleware.pool.ledger import Limit
from middleware.pool.server_connection import Borrower
from middleware.relay.accounts import Account
from middleware.relay.client_connection import ClientConnection
from middleware.relay.console import ConsoleClient
from middleware.relay.own_settings import OwnSettings
from middleware.relay.parting import tell_login
from middleware.relay.policies import KnownAs
from middleware.relay.relay import Client, Relay
from middleware.relay.replication import ReplicationClient, Wish, node_for
from middleware.session.login import ClientLogin
from middleware.session.parameters import NONE, StartupParameters
from middleware.wire.build import READY_IDLE, message
from middleware.wire.codes import BACKEND_KEY_DATA

LOGIN: Final = 0
WELCOME: Final = 1
CLOSED: Final = 2

UNKNOWN: Final = ClientLogin(Authority(Access()), "unix")
"""Stands in for the login of a connection that has not been made."""


class HandingOver(Borrower):
    """See above."""

    __slots__ = (
        "_due",
        "_key",
        "_known_as",
        "_login",
        "_own",
        "_parameters",
        "_relay",
        "_rest",
        "_stale",
        "account",
        "connected_at",
        "counted",
        "database",
        "peer",
        "process_id",
        "server_database",
        "server_user",
        "state",
        "user",
    )

    peer: tuple[str, int]
    """This is known once it is connected, and what follows once it has proved who it is."""
    account: Account
    server_database: bytes
    server_user: bytes
    """As they are called on the nodes."""
    _known_as: KnownAs
    _own: OwnSettings

    def __init__(self, relay: Relay) -> None:
        self._relay: Final = relay
        self._login: ClientLogin = UNKNOWN
        self.state = LOGIN
        self.user = self.database = b""
        self.called = b""
        self.connected_at = relay.loop.time()
        self.process_id = 0
        self.counted: list[Limit] = []
        self.admin = False
        self._stale = False
        """The settings have changed since it has said who it is."""
        self._key = b""
        """The cancel key it will be told."""
        self._parameters: StartupParameters = NONE
        self._rest: list[bytes] = []
        """What it has sent behind its login."""
        self._due = b""
        """That its proof was right, and is still to be sent: with what follows, where that is known at once."""

    @abstractmethod
    def _leave_newcomers(self) -> None:
        """It is no newcomer any more."""

    def _open_console(self) -> None:
        """To the admin console, whose clients need no server and have no rule."""
        relay = self._relay
        client = ConsoleClient(
            relay,
            self.transport,
            self.process_id,
            self._key,
            self.counted,
            self.user,
            self.database,
            self.admin,
            self._parameters.values,
        )
        self._give_place(client)
        self.transport.set_protocol(client)
        due, self._due = self._due, b""
        client.welcome(due, self._login.rest)

    def _begin_replication(self) -> None:
        """To a replication connection. Raises PointsmanError."""
        relay, login = self._relay, self._login
        account, database, user = self.account, self.server_database, self.server_user
        wish = Wish(login.replication, database, user, self._parameters, self.admin, account, self.connected_at)
        node = node_for(relay.pools.topology, self._own, account.policy, relay.draw())
        client = ReplicationClient(
            relay, self.transport, self.process_id, self._key, self.counted, wish, node, login.rest
        )
        client.called = self.called
        client.open()
        self._write(b"")
        relay.health.logins_done.observe(time.monotonic() - self.connected_at)
        self._give_place(client)
        self.transport.set_protocol(client)

    def _welcome(self, parameters: bytes) -> None:
        """To a ClientConnection, with the ParameterStatus messages that it is told: its login is complete."""
        relay = self._relay
        relay.health.logins_done.observe(time.monotonic() - self.connected_at)
        client = ClientConnection(
            relay,
            self.transport,
            self.server_user,
            self.server_database,
            self._parameters,
            self._own,
            self.account,
            self._known_as,
            self.counted,
        )
        client.connected_at, client.peer = self.connected_at, self.peer
        client.process_id, client.secret, client.admin = self.process_id, self._key, self.admin
        client.routing.statement_log.process_id = self.process_id
        client.called = client.routing.called = self.called
        self._give_place(client)
        if self._stale:
            client.settings_changed()
        self.transport.set_protocol(cast(asyncio.Protocol, client))
        key = message(BACKEND_KEY_DATA, self.process_id.to_bytes(4, "big") + self._key)
        self._write(parameters + key + READY_IDLE)
        if WANTED.connections:
            now = relay.loop.time()
            tell_login(
                self.account, self.peer, self._parameters, self.process_id, self.transport, now - self.connected_at
            )
        if self._rest:
            self.transport.resume_reading()
            client.data_received(b"".join(self._rest))

    def _give_place(self, client: Client) -> None:
        """`client` is the one who has its process id from now on."""
        self.state = CLOSED
        self._leave_newcomers()
        self._relay.clients[self.process_id] = client

    def _write(self, data: bytes) -> None:
        """Send it, and what is due in front of it: a write costs more than all that a login thinks."""
        out, self._due = self._due + data, b""
        if out:
            self.transport.write(out)
