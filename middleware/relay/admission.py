"""Whether one more client may come in: max_client_conn, and the limits of its database and its user.

All are over all workers: see pool/ledger.py. Users of admin_users may come when nobody else may.
"""

from typing import Final

from middleware.config import ClientPolicy, WorkerSettings
from middleware.errors import PointsmanError, TooManyConnections
from middleware.pool.ledger import Ledger, Limit, key_of

KNOWN_MAX: Final = 10_000
"""Whose limits are remembered."""

EVERYBODY: Final = key_of(b"clients")


class Admission:
    """Those of one worker."""

    __slots__ = ("_known", "_ledger", "_settings")

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self._ledger: Final = ledger
        self._settings = settings
        self._known: dict[tuple[bytes, bytes, ClientPolicy], list[Limit]] = {}

    def use(self, settings: WorkerSettings) -> None:
        """For who comes from now on."""
        self._settings = settings
        self._known = {}

    def is_admin(self, user: bytes) -> bool:
        """Whether a user, as it has logged in, may come when nobody else may."""
        return user.decode(errors="replace") in self._settings.admin_users

    def limits(self, database: bytes, user: bytes, policy: ClientPolicy) -> list[Limit]:
        """The limits that a client counts for. Clients of one kind share a list."""
        known = self._known.get((database, user, policy))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            settings = self._settings
            more = settings.admin_reserved_conn if self.is_admin(user) else 0
            known = [(EVERYBODY, settings.max_client_conn + more)]
            for kind, name, limit in (
                (b"database's clients", database, policy.max_db_connections),
                (b"user's clients", user, policy.max_user_connections),
            ):
                known.append((key_of(kind, name), limit + more if limit else 0))
            self._known[database, user, policy] = known
        return known

    def may_look(self, user: bytes) -> bool:
        """Whether a user may use the admin console, if only to look."""
        return self.is_admin(user) or user.decode(errors="replace") in self._settings.stats_users

    def console_limits(self, user: bytes) -> list[Limit]:
        """The limits that a client of the console counts for: that of all clients, which admins may pass by
        admin_reserved_conn."""
        settings = self._settings
        more = settings.admin_reserved_conn if self.is_admin(user) else 0
        return [(EVERYBODY, settings.max_client_conn + more)]

    def enter(self, limits: list[Limit], database: bytes, user: bytes) -> PointsmanError | None:
        """Count a client; or why it may not come in."""
        in_the_way = self._ledger.take(limits)
        if in_the_way < 0:
            return None
        if in_the_way == 1:
            return TooManyConnections(f'too many connections for database "{database.decode(errors="replace")}"')
        if in_the_way == 2:
            return TooManyConnections(f'too many connections for role "{user.decode(errors="replace")}"')
        return TooManyConnections("sorry, too many clients already")

    def replicate(self, node: str, admin: bool) -> list[Limit] | PointsmanError:
        """Count a replication connection to a node, under the limits returned; or why there may be no more of them."""
        settings = self._settings
        allowed = settings.max_wal_senders
        if admin:
            allowed += settings.admin_reserved_conn
        limits = [(key_of(b"walsenders", node.encode()), allowed)]
        if allowed and self._ledger.take(limits) < 0:
            return limits
        return TooManyConnections(
            f'number of requested standby connections exceeds "max_wal_senders" (currently {allowed})'
        )

    def leave(self, limits: list[Limit]) -> None:
        """A client that was counted is gone."""
        self._ledger.give(limits)
