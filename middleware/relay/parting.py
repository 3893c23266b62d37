"""What the log is told of a client's connection: that it has come in, that it is over and why, and what it was told
that has gone wrong.

The reason is what came first: a client that is told why it must go, and then closes its end, was sent away.
"""

import asyncio
from abc import abstractmethod
from typing import Final

import structlog

from middleware import sqlstate
from middleware.config import ClientPolicy
from middleware.errors import PointsmanError
from middleware.logs.wanted import WANTED
from middleware.relay.accounts import Account
from middleware.relay.intake import Intake
from middleware.relay.peers import application_name, tls_of
from middleware.session.parameters import StartupParameters

log: Final = structlog.get_logger("client")

GOODBYE: Final = "goodbye"
"""It has sent Terminate."""
CLOSED: Final = "closed"
"""It has closed the connection without that."""
LOST: Final = "lost"
"""The connection broke."""
SERVER: Final = "server"
"""Its server has sent FATAL, which was passed on."""
SERVER_LOST: Final = "server_lost"
"""Its server is gone, in the middle of a message."""
BUG: Final = "bug"
REFUSED: Final = "refused"
"""We have sent FATAL: see the SQLSTATE."""
REASONS: Final = {
    sqlstate.ADMIN_SHUTDOWN: "administrator",
    sqlstate.IDLE_SESSION_TIMEOUT: "idle_timeout",
    sqlstate.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: "idle_transaction_timeout",
    sqlstate.TRANSACTION_TIMEOUT: "transaction_timeout",
    sqlstate.QUERY_CANCELED: "query_timeout",
    sqlstate.CONNECTION_FAILURE: SERVER_LOST,
    sqlstate.TRANSACTION_RESOLUTION_UNKNOWN: SERVER_LOST,
}
"""Why it was sent away, by the SQLSTATE of the FATAL; else REFUSED."""


def reason_of(error: PointsmanError) -> str:
    """The reason of an end that an error of ours has brought."""
    return REASONS.get(error.sqlstate, REFUSED)


class Parting(Intake):
    """The side of a client's connection that has a beginning and an end."""

    __slots__ = ("account", "connected_at", "parting", "parting_error", "peer", "process_id")

    def __init__(self, transport: asyncio.Transport, limits: ClientPolicy, account: Account, now: float) -> None:
        super().__init__(transport, limits)
        self.account = account
        self.connected_at = now
        """When it came, by the loop's clock."""
        self.peer = ("", 0)
        """Its address and port."""
        self.process_id = 0
        self.parting = ""
        """Why it goes; "" while it does not."""
        self.parting_error: PointsmanError | None = None
        """What it was told, then."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection, and leave nothing behind. Safe to call again."""

    def part(self, reason: str, error: PointsmanError | None = None) -> None:
        """It goes; unless it was going already, for this."""
        if not self.parting:
            self.parting, self.parting_error = reason, error

    def failed(self, bug: Exception) -> None:
        """It ends here."""
        account = self.account
        log.error("a bug has ended a client's connection", user=account.user, database=account.database, exc_info=bug)
        self.part(BUG)
        self.close()

    def tell_end(self, parameters: StartupParameters, now: float) -> None:
        """It is over: say so, and why."""
        if WANTED.disconnections:
            connected_s = now - self.connected_at
            reason, error = self.parting, self.parting_error
            tell_end(self.account, self.peer, parameters, self.process_id, connected_s, reason, error)
        elif WANTED.pooler_errors and self.parting_error is not None:
            tell_error(self.account, self.process_id, self.parting_error, "FATAL")

    def tell_error(self, error: PointsmanError) -> None:
        """It is sent an error, and its connection stays."""
        if WANTED.pooler_errors:
            tell_error(self.account, self.process_id, error, "ERROR")


def tell_login(
    account: Account,
    peer: tuple[str, int],
    parameters: StartupParameters,
    process_id: int,
    transport: asyncio.BaseTransport,
    login_s: float,
    replication: str = "",
    node: str = "",
) -> None:
    """A client has logged in."""
    log.info(
        "client has logged in",
        address=peer[0],
        port=peer[1],
        user=account.user,
        database=account.database,
        application_name=application_name(parameters) or None,
        rule=account.policy.name or None,
        tls=tls_of(transport) or None,
        replication=replication or None,
        node=node or None,
        process_id=process_id,
        login_s=round(login_s, 6),
    )


def tell_end(
    account: Account,
    peer: tuple[str, int],
    parameters: StartupParameters,
    process_id: int,
    connected_s: float,
    reason: str,
    error: PointsmanError | None,
) -> None:
    """Its connection is over."""
    log.info(
        "client is gone",
        reason=reason,
        sqlstate=None if error is None else error.sqlstate,
        why=None if error is None else error.logged,
        address=peer[0],
        port=peer[1],
        user=account.user,
        database=account.database,
        application_name=application_name(parameters) or None,
        rule=account.policy.name or None,
        process_id=process_id,
        connected_s=round(connected_s, 6),
    )


def tell_error(account: Account, process_id: int, error: PointsmanError, severity: str) -> None:
    """It was sent an error of ours."""
    log.warning(
        "error of Pointsman's own",
        sqlstate=error.sqlstate,
        severity=severity,
        why=error.logged,
        user=account.user,
        database=account.database,
        process_id=process_id,
    )


def tell_refusal(peer: tuple[str, int], user: bytes, database: bytes, error: PointsmanError) -> None:
    """A connection is not let in, and told why."""
    log.info(
        "login refused",
        address=peer[0],
        port=peer[1],
        user=user,
        database=database,
        why=error.logged,
        sqlstate=error.sqlstate,
    )


def tell_departure(peer: tuple[str, int], user: bytes, database: bytes) -> None:
    """A connection has gone before it was logged in: a look whether we listen, or one that gave up."""
    log.debug(
        "gone before it had logged in", address=peer[0], port=peer[1], user=user or None, database=database or None
    )
