"""What is known when the checks begin: of each node, of this machine, and what was said on the command line."""

from collections.abc import Mapping

import msgspec

from middleware.config import RoutePolicy, Settings
from middleware.doctor.units import Value


class DatabaseRole(msgspec.Struct, frozen=True):
    """A row of pg_roles."""

    name: str
    login: bool = True
    connection_limit: int = -1
    """-1 for none."""
    expires_at: float | None = None
    """Seconds since 1970."""


class Database(msgspec.Struct, frozen=True):
    """A row of pg_database; no templates."""

    name: str
    allows_connections: bool = True
    connection_limit: int = -1
    refused: frozenset[str] = frozenset()
    """Roles that may log in, and have no CONNECT here."""
    collation: tuple[str | None, str | None] = (None, None)
    """The version its text indexes were made with, and the one the node has now. PostgreSQL 15."""


class Overridden(msgspec.Struct, frozen=True):
    """A duration that ALTER ROLE or ALTER DATABASE has set."""

    role: str
    """"" for all."""
    database: str
    setting: str
    seconds: float


class Sender(msgspec.Struct, frozen=True):
    """A row of pg_stat_replication."""

    name: str
    """application_name."""
    sync_state: str | None = "async"


class Slot(msgspec.Struct, frozen=True):
    """A row of pg_replication_slots."""

    name: str
    active: bool = True
    retained_bytes: int = 0
    """WAL that is kept for it."""


class Replay(msgspec.Struct, frozen=True):
    """Of a standby."""

    lsn: int
    lag_s: float = 0.0
    """The age of what it has replayed last, while there is more to replay."""
    paused: bool = False
    streaming: bool | None = True
    """None where the role may not see it."""
    conflicts: int = 0
    """Queries canceled because of recovery since its statistics were reset."""


class NodeFacts(msgspec.Struct, frozen=True):
    """What a node said, or why it did not."""

    name: str
    local: bool = False
    """It is on this machine."""
    why: str = ""
    """Why it could not be asked; nothing below is known then."""
    version: int = 0
    """server_version_num: 180001."""
    settings: Mapping[str, Value] = {}
    """As the server has them: those that the role or its database has otherwise are left out."""
    overridden: tuple[Overridden, ...] = ()
    in_recovery: bool = False
    system_identifier: int = 0
    timeline: int = 0
    started_at: float = 0.0
    insert_lsn: int | None = None
    """A primary's."""
    replay: Replay | None = None
    """A standby's."""
    senders: tuple[Sender, ...] = ()
    slots: tuple[Slot, ...] = ()
    backends: Mapping[str, int] = {}
    """Client backends now, by user."""
    roles: tuple[DatabaseRole, ...] = ()
    databases: tuple[Database, ...] = ()
    superuser: bool = False
    monitors: bool = True
    """The role that asks is in pg_monitor."""
    reserved: bool = False
    """It is in pg_use_reserved_connections."""
    pooler: str = ""
    """What stands between us and PostgreSQL; "" for nothing."""
    encrypted: bool = True
    clock_offset_s: float = 0.0
    """Its clock minus ours."""
    clock_error_s: float = 0.0
    """Half the time of the question."""
    memory_bytes: int | None = None
    """What it may use: given, or its share of this machine's; None if not known."""
    cores: int | None = None

    def number(self, name: str) -> float | None:
        """A setting that is a number; None where it is not known."""
        value = self.settings.get(name)
        return value if isinstance(value, float | int) else None

    def word(self, name: str) -> str | None:
        """A setting that is a word."""
        value = self.settings.get(name)
        return value if isinstance(value, str) else None

    def database(self, name: str) -> Database | None:
        """One of its databases."""
        return next((one for one in self.databases if one.name == name), None)


class Machine(msgspec.Struct, frozen=True):
    """Where Pointsman runs, taken to be where the command runs."""

    descriptors_max: int
    """RLIMIT_NOFILE, the hard one; 0 for no limit."""
    cores: int
    now: float
    """Seconds since 1970."""


class Case(msgspec.Struct, frozen=True):
    """All that a check may look at."""

    settings: Settings
    nodes: tuple[NodeFacts, ...]
    machine: Machine
    users: frozenset[str]
    """Who may log in to Pointsman by the settings and auth_file."""
    open_to_all: bool = False
    """Other roles of the nodes may, too: by auth_query, or because no password is asked for."""
    instances: int = 1
    databases: tuple[str, ...] = ()
    """Those that clients use; () for all there are."""
    spindles: int = 1

    @property
    def asked(self) -> tuple[NodeFacts, ...]:
        """The nodes that answered."""
        return tuple(node for node in self.nodes if not node.why)

    @property
    def primary(self) -> NodeFacts | None:
        """The primary, if there is one and no other."""
        primaries = [node for node in self.asked if not node.in_recovery]
        return primaries[0] if len(primaries) == 1 else None

    @property
    def standbys(self) -> tuple[NodeFacts, ...]:
        """The standbys that answered."""
        return tuple(node for node in self.asked if node.in_recovery)

    @property
    def catalog(self) -> NodeFacts | None:
        """Whose roles and databases are looked at: all nodes have the primary's."""
        return self.primary or next(iter(self.asked), None)

    def rules(self) -> tuple[tuple[str, RoutePolicy], ...]:
        """The rules that let clients in, under the words that begin a text about one; the top level without, last."""
        return tuple(
            (f"rule {policy.name}: " if policy.name else "", policy)
            for policy in self.settings.policies()
            if not policy.refuse
        )

    def may_log_in(self) -> tuple[str, ...]:
        """The users of Pointsman, in order."""
        users = set(self.users)
        if self.open_to_all and self.catalog is not None:
            users.update(role.name for role in self.catalog.roles if role.login)
            users.discard(self.settings.health_check.user)
        return tuple(sorted(users))
