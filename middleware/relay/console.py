"""A client of the admin console: its transport, and the way of its commands to the supervisor and back.

The protocol is admin.conversation's. The client never gets a server: it is answered while no node is there, and when
everybody else is made to wait.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from typing import Final

import structlog

from middleware.admin.conversation import Conversation, Order
from middleware.admin.courtesies import Courtesies
from middleware.control import ConsoleAsked, ConsoleGone, ConsoleMore, ConsoleTold
from middleware.errors import LoginRefused, PointsmanError, ShuttingDown
from middleware.logs.wanted import WANTED
from middleware.pool.ledger import Limit
from middleware.relay.parting import BUG, CLOSED, GOODBYE, LOST, reason_of
from middleware.relay.peers import address_of
from middleware.relay.relay import Relay
from middleware.wire.build import READY_IDLE, error_response, message
from middleware.wire.codes import BACKEND_KEY_DATA, PARAMETER_STATUS

log: Final = structlog.get_logger("console")

CONSOLES: Final = (b"pointsman", b"pgbouncer")
"""The databases that are the console."""
VERSION: Final = version("pointsman")
LINGER_S: Final = 10.0
"""How long what was written last has to reach its reader, once its connection is to end."""
STALLED_S: Final = 60.0
"""How long a reader may take nothing while an answer is held for it."""
STALLED: Final = "stalled"
"""Why one has gone that took nothing for so long; else as parting.py has it."""


class ConsoleClient(asyncio.Protocol):
    """One connection, from its welcome on. A Client to the relay."""

    def __init__(
        self,
        relay: Relay,
        transport: asyncio.Transport,
        process_id: int,
        secret: bytes,
        counted: list[Limit],
        user: bytes,
        database: bytes,
        admin: bool,
        parameters: Iterable[tuple[bytes, bytes]],
    ) -> None:
        """`counted`: the limits it counts for as a client. `admin`: it may change something. `parameters`: those of its
        startup message."""
        self.relay: Final = relay
        self.transport: Final = transport
        self.process_id = process_id
        self.called: bytes | None = None
        self.secret = secret
        self.counted = counted
        self.deadline = 0.0
        self.user: Final = user.decode(errors="replace")
        self.database: Final = database.decode(errors="replace")
        self.admin: Final = admin
        given = {name.decode(errors="replace").lower(): text.decode(errors="replace") for name, text in parameters}
        self.courtesies: Final = Courtesies(self.user, self.database, process_id, VERSION, given)
        self.connected_at: Final = relay.loop.time()
        self.requested_at = self.connected_at
        self._conversation: Final = Conversation(self.courtesies)
        self._draining = False
        self._closed = False
        self._paused = False
        self._stalled: asyncio.TimerHandle | None = None
        self._peer: Final = address_of(transport, "peername")
        self._application_name: Final = given.get("application_name", "")

    @property
    def state(self) -> str:
        """As SHOW CLIENTS has it."""
        return "active" if self._conversation.busy() else "idle"

    @property
    def prepared_statements(self) -> int:
        """By name, and the unnamed one."""
        return self._conversation.prepared_statements

    def welcome(self, due: bytes, sent: bytes) -> None:
        """Begin. `due` goes in front of all else; `sent` is what has come of it behind its login."""
        told = b"".join(
            message(PARAMETER_STATUS, name.encode() + b"\0" + value.encode() + b"\0")
            for name, value in self.courtesies.greeting()
        )
        key = message(BACKEND_KEY_DATA, self.process_id.to_bytes(4, "big") + self.secret)
        self.transport.write(due + told + key + READY_IDLE)
        log.info(
            "console opened",
            address=self._peer[0],
            port=self._peer[1],
            user=self.user,
            database=self.database,
            application_name=self._application_name or None,
            admin=self.admin,
            process_id=self.process_id,
        )
        if sent:
            self.data_received(sent)

    # The transport

    def data_received(self, data: bytes) -> None:
        self.requested_at = self.relay.clock.now
        self._go_on(partial(self._conversation.receive, data))

    def _go_on(self, act: Callable[[], None]) -> None:
        """Have the conversation go on by `act`. What has come before may turn out wrong only now."""
        if self._closed:
            return
        try:
            act()
        except PointsmanError as error:
            self.transport.write(self._conversation.take())
            self.end(error)
        except Exception:
            log.exception("a bug has ended a session of the console", user=self.user)
            self._leave(BUG)
        else:
            self._pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave(CLOSED if exc is None else LOST)

    def pause_writing(self) -> None:
        self._conversation.held_up = True
        self._stalled = self.relay.loop.call_later(STALLED_S, self._stall)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._go_on(self._conversation.go_on)

    def _stall(self) -> None:
        """It takes nothing: what is held for it is not kept any longer."""
        log.warning("a client of the console does not read its answer", user=self.user)
        self._leave(STALLED)
        self.transport.abort()

    # The supervisor

    def told(self, part: ConsoleTold) -> None:
        """A part of an answer has come."""
        self._go_on(partial(self._conversation.told, part))

    def _pass_on(self) -> None:
        """Send what is due, either way."""
        conversation = self._conversation
        out = conversation.take()
        if out:
            self.transport.write(out)
        for order in conversation.orders():
            self._tell(order)
        if conversation.ended:
            self._leave(GOODBYE)
            return
        if conversation.full() != self._paused:
            self._paused = conversation.full()
            if self._paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        if self._draining and not conversation.busy():
            self.terminate()

    def _tell(self, order: Order) -> None:
        control, client = self.relay.control, self.process_id
        if order.what == "ask":
            control.console(ConsoleAsked(client, order.serial, self.user, self.admin, order.text))
        elif order.what == "more":
            control.console(ConsoleMore(client, order.serial))
        else:
            control.console(ConsoleGone(client, order.serial))

    # From the relay

    def cancel(self) -> None:
        """A CancelRequest with its key has come."""
        self._go_on(self._conversation.cancel)

    def idle_too_long(self, now: float) -> None:
        """It may be: somebody may look at it."""

    def settings_changed(self) -> None:
        """What it may do was settled at its login."""

    def suspend(self, suspended: bool) -> None:
        """It is by the console that what is suspended is resumed."""

    def waits(self) -> bool:
        """Never for a server."""
        return False

    def unsent(self) -> bool:
        """It sends nothing on to a server."""
        return False

    def pool_key(self) -> tuple[bytes, bytes, str] | None:
        """None."""
        return None

    def track_writes(self, begin: bool) -> None:
        """It notes none."""

    def drain(self) -> None:
        """Go when no command is under way."""
        self._draining = True
        self._pass_on()

    def terminate(self) -> None:
        """Go now, and say why."""
        self.end(ShuttingDown())

    # The end

    def end(self, error: PointsmanError) -> None:
        """Say FATAL, and close."""
        if not self._closed:
            self.transport.write(error_response(error, "FATAL"))
            self._leave(reason_of(error), error)

    def close(self) -> None:
        """Close the connection. Safe to call again."""
        self._leave(LOST)

    def _leave(self, reason: str, error: PointsmanError | None = None) -> None:
        """Close the connection, for this; what waits for its command is told so."""
        if self._closed:
            return
        self._closed = True
        self._tell_end(reason, error)
        conversation = self._conversation
        conversation.leave()
        for order in conversation.orders():
            self._tell(order)
        if self._stalled is not None:
            self._stalled.cancel()
        self.relay.gone(self)
        self.transport.close()
        self.relay.loop.call_later(LINGER_S, self.transport.abort)

    def _tell_end(self, reason: str, error: PointsmanError | None) -> None:
        if not WANTED.disconnections:
            return
        log.info(
            "console closed",
            reason=reason,
            sqlstate=None if error is None else error.sqlstate,
            why=None if error is None else error.logged,
            address=self._peer[0],
            port=self._peer[1],
            user=self.user,
            database=self.database,
            application_name=self._application_name or None,
            admin=self.admin,
            process_id=self.process_id,
            connected_s=round(self.relay.loop.time() - self.connected_at, 6),
        )


def refused(user: bytes) -> LoginRefused:
    """For who may log in, and not to the console."""
    name = user.decode(errors="replace")
    return LoginRefused("not allowed", detail=f'User "{name}" is neither one of admin_users nor one of stats_users.')
