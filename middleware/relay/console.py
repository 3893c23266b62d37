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
from middleware.pool.ledger import Limit
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
        self.connected_at: Final = relay.clock.now
        self.requested_at = self.connected_at
        self._conversation: Final = Conversation(self.courtesies)
        self._draining = False
        self._closed = False
        self._paused = False
        self._stalled: asyncio.TimerHandle | None = None

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
        log.info("console opened", user=self.user, admin=self.admin)
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
            self.close()
        else:
            self._pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

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
        self.close()
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
            self.close()
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
            self.close()

    def close(self) -> None:
        """Close the connection; what waits for its command is told so. Safe to call again."""
        if self._closed:
            return
        self._closed = True
        conversation = self._conversation
        conversation.leave()
        for order in conversation.orders():
            self._tell(order)
        if self._stalled is not None:
            self._stalled.cancel()
        self.relay.gone(self)
        self.transport.close()
        self.relay.loop.call_later(LINGER_S, self.transport.abort)


def refused(user: bytes) -> LoginRefused:
    """For who may log in, and not to the console."""
    name = user.decode(errors="replace")
    return LoginRefused("not allowed", detail=f'User "{name}" is neither one of admin_users nor one of stats_users.')
