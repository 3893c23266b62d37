"""The side of a client's connection that keeps time: what is done about a client that takes too long.

Which timeout it has passed is decided in timeouts.py. Called from the ticks of the worker, a few times a second.
"""

from typing import Final

import structlog

from middleware.pool.server_connection import ServerConnection
from middleware.relay.cancel import send_cancel
from middleware.relay.losing import Losing
from middleware.relay.timeouts import (
    IDLE_FOR_TOO_LONG,
    QUERY_TOO_LONG,
    TRANSACTION_IDLE_FOR_TOO_LONG,
    TRANSACTION_TOO_LONG,
    idle_too_long,
    passed,
    query_too_long,
    transaction_idle_too_long,
    transaction_too_long,
)
from middleware.session.server import IDLE
from middleware.wire.build import notice
from parser.analyse import SHAPE_CHARS_MAX

log: Final = structlog.get_logger("client")


class Timekeeping(Losing):
    """See above."""

    __slots__ = ()

    def keep_time(self, now: float) -> None:
        """It has a server: look at its timeouts."""
        server = self.server
        if server is None or self._closed:
            return
        limits = self.limits
        session = server.session
        awaited = bool(session.expected) or session.copy_in
        open_ = session.status != IDLE
        over = passed(limits, now, server.lent_at, server.asked_at, server.sent_at, server.answered_at, awaited, open_)
        if over == QUERY_TOO_LONG:
            self._query_too_long(server, now)
        elif over == TRANSACTION_TOO_LONG:
            self.refuse(transaction_too_long(limits))
        elif over == TRANSACTION_IDLE_FOR_TOO_LONG:
            self.refuse(transaction_idle_too_long(limits))
        elif over == IDLE_FOR_TOO_LONG:
            self.refuse(idle_too_long(limits))
        held_s = now - server.lent_at
        if limits.leak_warning_s and held_s >= limits.leak_warning_s and (awaited or open_):
            self._tell_of_leak(server, held_s)

    def _query_too_long(self, server: ServerConnection, now: float) -> None:
        """Cancel it; and if that does not help, end it."""
        if server.canceled_at < server.asked_at:
            server.canceled_at = now
            if not server.session.mid_message():
                self.transport.write(notice("canceling statement due to query_timeout"))
            log.info("query_timeout", user=self.user, database=self.database, statement=self._shape())
            send_cancel(self.relay, server)
        elif now - server.canceled_at >= self.relay.settings.cancel_wait_timeout_s:
            self.refuse(query_too_long(self.limits))

    def _tell_of_leak(self, server: ServerConnection, held_s: float) -> None:
        if server.leak_told != server.lent_at:
            server.leak_told = server.lent_at
            log.warning(
                "a client has held a server for longer than leak_warning",
                user=self.user,
                database=self.database,
                process_id=self.process_id,
                node=server.pool.node,
                held_s=round(held_s, 1),
                in_transaction=server.session.status != IDLE,
                statement=self._shape(),
            )

    def _shape(self) -> str:
        """Its last statement, without constants."""
        facts = self.routing.last_facts
        return self.relay.facts.shape_with(facts, SHAPE_CHARS_MAX) or facts.kind

    def idle_too_long(self, now: float) -> None:
        """See whether it has sent nothing for too long, while it has no server."""
        idle_s = self.limits.idle_s
        if idle_s and self.server is None and self._held is None and now - self.idle_since >= idle_s:
            self.refuse(idle_too_long(self.limits))
