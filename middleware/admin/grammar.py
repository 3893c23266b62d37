"""What a statement of the console's asks for: PgBouncer's commands, and ours.

In: a Statement. Out: a Command, or PointsmanError with what is wrong. Keywords are written in any case; names of
databases, nodes and rules as they are, in double quotes where they hold anything else than letters, digits, _, . and -.
"""

import difflib
from typing import Final, Literal, get_args

import msgspec

from middleware import sqlstate
from middleware.admin.columns import COLUMNS
from middleware.admin.words import Statement, Word
from middleware.errors import PointsmanError

DigestOrder = Literal["total", "calls", "mean"]

OnDatabases = Literal["PAUSE", "RESUME", "RECONNECT", "KILL", "WAIT_CLOSE", "DISABLE", "ENABLE"]
OnNode = Literal["DETACH", "ATTACH", "DRAIN"]
ShutdownMode = Literal["", "WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"]
CacheMode = Literal["on", "hint", "off", "default"]

CLIENT_ID_MAX: Final = (1 << 31) - 1


class Show(msgspec.Struct, frozen=True):
    """SHOW: a table."""

    subject: str
    """One of COLUMNS."""
    order: DigestOrder = "total"
    limit: int = 0
    """Rows at most; 0 for all."""


class DatabaseOrder(msgspec.Struct, frozen=True):
    """What is done to one database, or to all ("")."""

    verb: OnDatabases
    database: str = ""


class KillClient(msgspec.Struct, frozen=True):
    client: int
    """Its `id` in SHOW CLIENTS."""


class Suspend(msgspec.Struct, frozen=True):
    pass


class Reload(msgspec.Struct, frozen=True):
    pass


class Shutdown(msgspec.Struct, frozen=True):
    mode: ShutdownMode = ""


class SetSetting(msgspec.Struct, frozen=True):
    key: str
    value: str


class CacheOrder(msgspec.Struct, frozen=True):
    mode: CacheMode
    route: str | None = None
    """None for all."""


class CacheClear(msgspec.Struct, frozen=True):
    pass


class NodeOrder(msgspec.Struct, frozen=True):
    verb: OnNode
    node: str


class Promote(msgspec.Struct, frozen=True):
    """SWITCHOVER, or PROMOTE with a node's name."""

    verb: Literal["SWITCHOVER", "PROMOTE"]
    node: str = ""
    """"" for the standby that has the most."""


Command = (
    Show
    | DatabaseOrder
    | KillClient
    | Suspend
    | Reload
    | Shutdown
    | SetSetting
    | CacheOrder
    | CacheClear
    | NodeOrder
    | Promote
)

HELP: Final = (
    ("SHOW HELP", "This list."),
    ("SHOW POOLS", "Clients and servers of each database and user."),
    ("SHOW NODE_POOLS", "The same by node and rule."),
    ("SHOW CLIENTS", "Each client."),
    ("SHOW SERVERS", "Each connection to a node."),
    ("SHOW SOCKETS", "Both."),
    ("SHOW ACTIVE_SOCKETS", "Those on which something is under way."),
    ("SHOW STATS", "What has gone through, by database: totals, and averages of the last stats_period."),
    ("SHOW STATS_TOTALS", "The totals alone."),
    ("SHOW STATS_AVERAGES", "The averages alone."),
    ("SHOW TOTALS", "Over all databases."),
    ("SHOW DATABASES", "Databases, with their limits."),
    ("SHOW USERS", "Users, with their limits."),
    ("SHOW LISTS", "How many there are of what."),
    ("SHOW CONFIG", "The settings in force."),
    ("SHOW VERSION", "Which Pointsman this is."),
    ("SHOW STATE", "Whether it is paused or suspended."),
    ("SHOW MEM", "Memory of the workers."),
    ("SHOW DNS_HOSTS", "The names of the nodes' hosts, and their addresses."),
    ("SHOW DNS_ZONES", "Empty: zones are not asked for."),
    ("SHOW FDS", "The listening sockets."),
    ("SHOW PREPARED_STATEMENTS", "Statements that clients have prepared by name."),
    ("SHOW PEERS", "Empty: workers know of each other."),
    ("SHOW PEER_POOLS", "Empty."),
    ("SHOW NODES", "Role, state, lag, reads and writes of each node, since when, and why."),
    ("SHOW ROUTES", "The rules, in their order."),
    ("SHOW WORKERS", "The processes that serve clients."),
    ("SHOW SESSIONS", "Clients by rule and node, and what keeps them on their servers."),
    ("SHOW REASONS", "Why reads stayed on the primary."),
    ("SHOW SESSION_STATE", "Which applications leave session state behind."),
    ("SHOW CACHE", "What the query cache is and has done."),
    ("SHOW DIGESTS [ORDER BY total|calls|mean] [LIMIT n]", "Statements by shape: how often, how long, where."),
    ("SHOW EVENTS", "What has become of the nodes."),
    ("SHOW FAILOVER", "What is done when the primary is lost, and what was."),
    ("PAUSE [database]", "Give out no server, and return when none is lent any more."),
    ("RESUME [database]", "Go on after PAUSE, KILL or SUSPEND."),
    ("DISABLE database", "Let no new client in."),
    ("ENABLE database", "Let clients in again."),
    ("RECONNECT [database]", "Close each server when it comes back, and open new ones."),
    ("KILL [database]", "Drop clients and servers at once; then as PAUSE."),
    ("KILL_CLIENT id", "Drop one client, by its id in SHOW CLIENTS."),
    ("WAIT_CLOSE [database]", "Return when the servers are closed that RECONNECT or RELOAD will have closed."),
    ("SUSPEND", "Read nothing from clients until RESUME."),
    ("RELOAD", "Read the settings and the files they name again."),
    ("SET key = value", "Change one setting until the next start or RELOAD."),
    ("SHUTDOWN", "Let transactions end within shutdown_timeout, then stop."),
    ("SHUTDOWN WAIT_FOR_SERVERS", "Stop when no server is lent any more."),
    ("SHUTDOWN WAIT_FOR_CLIENTS", "Stop when the last client has gone."),
    ("DETACH NODE name", "Do not use a node until ATTACH NODE."),
    ("ATTACH NODE name", "Use it again."),
    ("DRAIN NODE name", "Give it nothing new, and return when nothing is under way there."),
    ("SWITCHOVER [node]", "Hand the primary's role to a standby, while clients wait."),
    ("PROMOTE node", "The same, to this one."),
    ("CACHE ON|HINT|OFF|DEFAULT [ROUTE name]", "Whether answers are cached, for all or for a rule's clients."),
    ("CACHE CLEAR", "Give no answer again that is kept now."),
)
"""Commands, and what each does, as SHOW HELP lists them."""

VERBS: Final = sorted({command.split()[0] for command, _ in HELP})


def command_of(statement: Statement) -> Command:
    """What it asks for. Raises PointsmanError: 42601, and 22023 for a value that cannot be."""
    words = list(statement.words)
    parameter = next((word for word in words if word.kind == "parameter"), None)
    if parameter is not None:
        raise PointsmanError(
            "a command of the console takes no parameters",
            hint="Write the value itself into the command.",
            sqlstate=sqlstate.SYNTAX_ERROR,
        )
    verb, rest = words[0].upper(), words[1:]
    if verb == "SELECT" and len(rest) == 1 and rest[0].upper().lower() in COLUMNS:
        # As PgBouncer has it.
        verb = "SHOW"
    match verb:
        case "SHOW":
            return _show(rest, statement)
        case "PAUSE" | "RESUME" | "RECONNECT" | "KILL" | "WAIT_CLOSE":
            return DatabaseOrder(verb, _one_name(rest, statement) if rest else "")
        case "DISABLE" | "ENABLE":
            return DatabaseOrder(verb, _one_name(rest, statement))
        case "KILL_CLIENT":
            return _kill_client(rest, statement)
        case "SUSPEND" if not rest:
            return Suspend()
        case "RELOAD" if not rest:
            return Reload()
        case "SHUTDOWN":
            return _shutdown(rest, statement)
        case "SET":
            return _set(rest, statement)
        case "DETACH" | "ATTACH" | "DRAIN":
            if not rest or rest[0].upper() != "NODE":
                raise _wrong(statement, f"Write {verb} NODE and its name.")
            return NodeOrder(verb, _one_name(rest[1:], statement))
        case "SWITCHOVER":
            return Promote(verb, _one_name(rest, statement) if rest else "")
        case "PROMOTE":
            return Promote(verb, _one_name(rest, statement))
        case "CACHE":
            return _cache(rest, statement)
        case _:
            near = difflib.get_close_matches(verb, VERBS, 1)
            raise _wrong(statement, f"Perhaps you meant {near[0]}." if near else "")


def _show(words: list[Word], statement: Statement) -> Show:
    subject = words[0].text.lower() if words and words[0].kind in ("word", "name") else ""
    if subject not in COLUMNS:
        near = difflib.get_close_matches(subject, COLUMNS, 1)
        raise _wrong(statement, f"Perhaps you meant SHOW {near[0].upper()}." if near else "")
    order: DigestOrder = "total"
    limit = 0
    rest = words[1:]
    if subject == "digests" and len(rest) >= 3 and (rest[0].upper(), rest[1].upper()) == ("ORDER", "BY"):
        order = _order(rest[2], statement)
        rest = rest[3:]
    if subject in ("digests", "events") and len(rest) == 2 and rest[0].upper() == "LIMIT":
        limit = _number(rest[1], statement)
        rest = []
    if rest:
        raise _wrong(statement)
    return Show(subject, order, limit)


def _order(word: Word, statement: Statement) -> DigestOrder:
    for order in get_args(DigestOrder):
        if word.text.lower() == order:
            found: DigestOrder = order
            return found
    raise _wrong(statement, "Digests are ordered by total, calls or mean.")


def _kill_client(words: list[Word], statement: Statement) -> KillClient:
    if len(words) != 1:
        raise _wrong(statement, "Write KILL_CLIENT and its id in SHOW CLIENTS.")
    return KillClient(_number(words[0], statement))


def _number(word: Word, statement: Statement) -> int:
    if word.kind not in ("number", "string") or not word.text.isascii() or not word.text.isdigit():
        raise _wrong(statement, "A whole number was expected.")
    number = int(word.text) if len(word.text) <= 10 else CLIENT_ID_MAX + 1
    if number > CLIENT_ID_MAX:
        raise PointsmanError(f"value {word.text[:20]} is out of range", sqlstate=sqlstate.INVALID_PARAMETER_VALUE)
    return number


def _shutdown(words: list[Word], statement: Statement) -> Shutdown:
    if not words:
        return Shutdown()
    match [word.upper() for word in words]:
        case ["WAIT_FOR_SERVERS" | "WAIT_FOR_CLIENTS" as mode]:
            return Shutdown(mode)
        case _:
            raise _wrong(statement, "SHUTDOWN waits for nothing, WAIT_FOR_SERVERS, or WAIT_FOR_CLIENTS.")


def _set(words: list[Word], statement: Statement) -> SetSetting:
    """SET key = value, SET key TO value. A value of several words is what is written there."""
    given = words[0].text if words else ""
    if len(words) < 3 or words[0].kind not in ("word", "name") or words[1].text.upper() not in ("=", "TO"):
        raise _wrong(statement, "Write SET key = 'value'.")
    values = words[2:]
    if len(values) > 1 and any(word.kind == "string" for word in values):
        raise _wrong(statement, "Write SET key = 'value'.")
    # What is a name of the user's own within a key is not ours to write otherwise.
    key = given if words[0].kind == "name" or "." in given else given.lower()
    return SetSetting(key, "".join(word.text for word in values))


def _cache(words: list[Word], statement: Statement) -> CacheOrder | CacheClear:
    match [word.upper() for word in words]:
        case ["CLEAR"]:
            return CacheClear()
        case ["ON" | "HINT" | "OFF" | "DEFAULT" as mode]:
            return CacheOrder(_mode(mode))
        case ["ON" | "HINT" | "OFF" | "DEFAULT" as mode, "ROUTE", *_] if len(words) == 3:
            return CacheOrder(_mode(mode), words[2].text)
        case _:
            raise _wrong(
                statement, "Write CACHE ON, HINT, OFF or DEFAULT, maybe with ROUTE and a name; or CACHE CLEAR."
            )


def _mode(word: str) -> CacheMode:
    match word:
        case "ON":
            return "on"
        case "HINT":
            return "hint"
        case "OFF":
            return "off"
        case _:
            return "default"


def _one_name(words: list[Word], statement: Statement) -> str:
    """A name and nothing else."""
    if not words:
        raise _wrong(statement, "A name is missing.")
    if len(words) > 1 or words[0].kind == "sign" or not words[0].text:
        raise _wrong(statement, "A name that is more than a word goes into double quotes.")
    return words[0].text


SHOWN_CHARS: Final = 100
"""Of a command, in the error it led to."""


def _wrong(statement: Statement, hint: str = "") -> PointsmanError:
    text = statement.text if len(statement.text) <= SHOWN_CHARS else statement.text[:SHOWN_CHARS] + "..."
    return PointsmanError(f"invalid command '{text}', use SHOW HELP;", hint=hint, sqlstate=sqlstate.SYNTAX_ERROR)
