"""SQL text to facts, with PostgreSQL's own grammar. The one module that imports pglast.

pglast offers its tree as Python objects or as JSON. We take the JSON: building the objects costs ten times the
parse itself (50 µs against 5 µs for a short SELECT), and a decoded dictionary is as easy to walk.
"""

from typing import Final, cast

import msgspec
from pglast.parser import (  # noqa: TID251 - this is the one door
    ParseError,
    normalize,
    parse_sql_json,
)

from parser.facts import EMPTY, UNREAD, StatementFacts

_decode: Final = msgspec.json.Decoder(dict[str, object]).decode

Tree = dict[str, object]

DATA_CHANGING: Final = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
}

LEAVES_SESSION_STATE: Final = {
    "VariableSetStmt": "SET",
    "ListenStmt": "LISTEN",
    "UnlistenStmt": "UNLISTEN",
    "PrepareStmt": "PREPARE",
    "DeallocateStmt": "DEALLOCATE",
    "DiscardStmt": "DISCARD",
    "LoadStmt": "LOAD",
    "DoStmt": "DO",
    "CallStmt": "CALL",
}
"""Statements after which a session differs, or may: what a DO block or a procedure does cannot be seen."""

STATE_FUNCTIONS: Final = frozenset(
    {
        "set_config",
        "setseed",
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_advisory_unlock",
        "pg_advisory_unlock_shared",
        "pg_advisory_unlock_all",
        "nextval",
        "setval",
        "lo_open",
        "lo_creat",
        "lo_create",
        "dblink_connect",
    }
)
"""Built-in and contributed functions that leave something on the session (a GUC, a lock, currval's value, ..)."""

LIGHT_STATE_FUNCTIONS: Final = frozenset({"nextval", "setval"})
"""They only move what currval() and lastval() answer: not worth a reset of the session (see session_state_of)."""

TEMPORARY: Final = {("relpersistence", "t"), ("schemaname", "pg_temp")}
"""What marks a relation as temporary in the tree."""

PLAIN_UTILITY: Final = frozenset(
    {
        "TransactionStmt",
        "VariableSetStmt",
        "VariableShowStmt",
        "ExplainStmt",
        "CopyStmt",
        "LockStmt",
        "FetchStmt",
        "DeclareCursorStmt",
        "ClosePortalStmt",
        "ListenStmt",
        "UnlistenStmt",
        "NotifyStmt",
        "PrepareStmt",
        "ExecuteStmt",
        "DeallocateStmt",
        "DiscardStmt",
        "CheckPointStmt",
        "VacuumStmt",
        "TruncateStmt",
        "ConstraintsSetStmt",
        "LoadStmt",
    }
)
"""Statements that are no query and change nothing in the catalog that routing reads."""

CURSOR_OPT_HOLD: Final = 0x0020  # nodes/parsenodes.h


def shape_of(text: str) -> str | None:
    """The text with its constants replaced by $n, or None where PostgreSQL's grammar refuses it.

    Also the guard of the parser: normalisation checks the depth of the tree against the C stack, and refuses
    (as PostgreSQL would, with "stack depth limit exceeded") what would overrun it in parse_sql_json.
    """
    try:
        return normalize(text)
    except ParseError:
        return None


def analyse(text: str) -> StatementFacts:
    """The facts of a text that shape_of() has accepted. Takes 10 to 30 µs for common statements."""
    try:
        statements = cast("list[Tree]", _decode(parse_sql_json(text))["stmts"])
    except (ParseError, msgspec.DecodeError, RecursionError):
        return UNREAD
    if not statements:
        return EMPTY
    parts = [_facts_of(cast(Tree, statement["stmt"])) for statement in statements]
    return parts[0] if len(parts) == 1 else _several(parts)


def _several(parts: list[StatementFacts]) -> StatementFacts:
    """One string with several statements runs as a whole, on the primary."""
    return StatementFacts(
        kind="Several",
        write_reason="it holds several statements",
        functions=frozenset().union(*(part.functions for part in parts)),
        session_state=", ".join(part.session_state for part in parts if part.session_state),
        copy_in=any(part.copy_in for part in parts),
        deallocates_all=any(part.deallocates_all for part in parts),
        changes_catalog=any(part.changes_catalog for part in parts),
    )


def _facts_of(statement: Tree) -> StatementFacts:
    (kind, body), *_ = statement.items()
    found = _Found()
    found.walk(statement)
    fields = cast(Tree, body)
    return StatementFacts(
        kind=kind,
        write_reason=found.write_reason if kind == "SelectStmt" else _named(kind),
        functions=frozenset(found.functions),
        session_state=_session_state(kind, fields, found),
        copy_in=kind == "CopyStmt" and fields.get("is_from") is True and "filename" not in fields,
        deallocates_all=_deallocates_all(kind, fields),
        changes_catalog=kind not in PLAIN_UTILITY and kind != "SelectStmt" and kind not in DATA_CHANGING,
    )


def _named(kind: str) -> str:
    return f"it is {DATA_CHANGING[kind]}" if kind in DATA_CHANGING else f"it is no plain query ({kind})"


def _session_state(kind: str, fields: Tree, found: "_Found") -> str:
    """What the statement may leave on its session; "" for SET LOCAL and SET TRANSACTION, which end with theirs."""
    if kind == "VariableSetStmt" and (fields.get("is_local") is True or fields.get("name") == "TRANSACTION"):
        return ""
    if kind in LEAVES_SESSION_STATE:
        return LEAVES_SESSION_STATE[kind]
    if kind == "DeclareCursorStmt" and cast(int, fields.get("options", 0)) & CURSOR_OPT_HOLD:
        return "WITH HOLD cursor"
    if found.temporary:
        return "temporary table"
    state = sorted((found.functions & STATE_FUNCTIONS) - LIGHT_STATE_FUNCTIONS)
    return f"{state[0]}()" if state else ""


def _deallocates_all(kind: str, fields: Tree) -> bool:
    if kind == "DeallocateStmt":
        return fields.get("isall") is True
    return kind == "DiscardStmt" and fields.get("target") == "DISCARD_ALL"


class _Found:
    """What one pass over a statement's tree meets, at any depth."""

    __slots__ = ("functions", "temporary", "write_reason")

    def __init__(self) -> None:
        self.write_reason = ""
        self.functions: set[str] = set()
        self.temporary = False

    def walk(self, tree: Tree) -> None:
        """Visit every node. A stack of our own: the depth of a client's expression must not be our recursion."""
        pending: list[object] = [tree]
        while pending:
            item = pending.pop()
            if isinstance(item, list):
                pending.extend(item)
            elif isinstance(item, dict):
                for key, value in item.items():
                    if isinstance(value, dict):
                        self._visit(key, value)
                        pending.append(value)
                    elif isinstance(value, list):
                        pending.append(value)
                    elif (key, value) in TEMPORARY:
                        self.temporary = True

    def _visit(self, key: str, value: Tree) -> None:
        if key == "FuncCall":
            name = cast("list[dict[str, dict[str, str]]]", value["funcname"])[-1]
            self.functions.add(name["String"].get("sval", ""))
        elif key in DATA_CHANGING:
            self.write_reason = f"it holds {DATA_CHANGING[key]} (data-modifying WITH)"
        elif key == "LockingClause":
            self.write_reason = "it locks rows (FOR UPDATE or FOR SHARE)"
        elif key == "intoClause":
            self.write_reason = "it creates a table (SELECT INTO)"
