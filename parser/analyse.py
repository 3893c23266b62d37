"""SQL text to facts, with PostgreSQL's own grammar. The one module that imports pglast.

pglast offers its tree as Python objects or as JSON. We take the JSON: building the objects costs ten times the
parse itself (50 µs against 5 µs for a short SELECT), and a decoded dictionary is as easy to walk.
"""

from dataclasses import replace
from typing import Final, cast

import msgspec
from pglast.parser import (  # noqa: TID251 - this is the one door
    ParseError,
    normalize,
    parse_sql_json,
    scan,
)

from parser.facts import (
    ALL_SETTINGS,
    BEGIN,
    CHANGES,
    EMPTY,
    END,
    EXPLAIN_ROUTE,
    LAST_ROUTE,
    MAY_CHANGE,
    OWN_PREFIX,
    REASONS,
    REFRESHES,
    SESSION_STATE,
    SET_TRANSACTION,
    SNAPSHOT,
    TWO_PHASE,
    UNCHANGED,
    UNREAD,
    WITHIN,
    StatementFacts,
    TransactionFacts,
)
from parser.hints import NO_HINTS, Hints, hints_in
from parser.session_state import FALSE, ROLE_NAMES, SETTINGS
from parser.state_effects import effects_of, gives_value, text_of
from parser.tree import DATA_CHANGING, Found, Tree, constant_of, options_of

_decode: Final = msgspec.json.Decoder(dict[str, object]).decode

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
        "RefreshMatViewStmt",
        "ReindexStmt",
        "ClusterStmt",
        "CommentStmt",
        "GrantStmt",
        "GrantRoleStmt",
        "CreateRoleStmt",
    }
)
"""Statements that are no query and change nothing in the catalog that routing reads."""


def without_comments(text: str) -> tuple[str, Hints]:
    """A text with a space for each comment in it, and what the comments ask for.

    A text that cannot be cut into words comes back as it is: the grammar will refuse it too.
    """
    try:
        tokens = scan(text)
    except ParseError:
        return text, NO_HINTS
    comments: list[str] = []
    parts: list[str] = []
    begin = 0
    for token in tokens:
        if token.name in ("C_COMMENT", "SQL_COMMENT"):
            comments.append(text[token.start : token.end + 1])
            parts.append(text[begin : token.start])
            begin = token.end + 1
    parts.append(text[begin:])
    return " ".join(parts).strip(), hints_in(comments)


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
    """The facts of a text that shape_of() has accepted. Takes 10 to 50 µs for common statements."""
    try:
        statements = cast("list[Tree]", _decode(parse_sql_json(text))["stmts"])
    except (ParseError, msgspec.DecodeError, RecursionError):
        return UNREAD
    if not statements:
        return EMPTY
    parts = [_facts_of(cast(Tree, statement["stmt"])) for statement in statements]
    facts = parts[0] if len(parts) == 1 else _several(parts)
    return replace(facts, shape=_told(text, facts)) if facts.effects else facts


SHAPE_CHARS_MAX: Final = 200
"""Of a statement that a log names."""

CONSTANTS: Final = frozenset({"SCONST", "USCONST", "BCONST", "XCONST", "FCONST", "ICONST"})


def _told(text: str, facts: StatementFacts) -> str:
    """A statement as a log may show it: no constant, and nothing that SET takes for one."""
    if facts.kind == "Several":
        return "; ".join(dict.fromkeys(effect.statement for effect in facts.effects))
    if facts.kind == "VariableSetStmt":
        effect = facts.effects[0]
        return " ".join((effect.statement, *effect.names)) if effect.state == SETTINGS else effect.statement
    return without_constants(text, SHAPE_CHARS_MAX)


def without_constants(text: str, chars_max: int) -> str:
    """A text as anybody may see it, in one line: in a shape, normalisation has left those of some commands (COPY). ""
    where PostgreSQL's scanner refuses it."""
    parts: list[str] = []
    begin = 0
    try:
        tokens = scan(text)
    except ParseError:
        return ""
    for token in tokens:
        if token.name in CONSTANTS:
            parts += (text[begin : token.start], "?")
            begin = token.end + 1
    return " ".join("".join((*parts, text[begin:])).split())[:chars_max]


def prepare_in(text: bytes, name: bytes) -> bytes | None:
    """The PREPARE that has given a name its meaning in a string that may hold other statements.

    The first, since a second one of the same name is refused. None where that is not clear: between two of them the
    name was dropped, and who knows how far the string came.
    """
    try:
        words = text.decode()
        statements = cast("list[Tree]", _decode(parse_sql_json(words))["stmts"])
    except (UnicodeDecodeError, ParseError, msgspec.DecodeError, RecursionError):
        return None
    found = None
    dropped = False
    for statement in statements:
        kind, body = next(iter(cast("dict[str, Tree]", statement["stmt"]).items()))
        if kind == "DeallocateStmt":
            one = cast("str | None", body.get("name"))
            dropped = dropped or one is None or one.encode() == name
        elif kind == "PrepareStmt" and cast(str, body["name"]).encode() == name:
            if found is None:
                start = cast(int, statement.get("stmt_location", 0))
                size = cast(int, statement.get("stmt_len", 0))
                # In bytes; a statement without a semicolon behind it has no length.
                found = text[start : start + size].strip() if size else text[start:].strip()
                dropped = False
            elif dropped:
                return None
    return found


def _several(parts: list[StatementFacts]) -> StatementFacts:
    """One string with several statements runs as a whole, on the primary."""
    return StatementFacts(
        kind="Several",
        write_reason="it holds several statements",
        calls=frozenset().union(*(part.calls for part in parts)),
        relations=frozenset().union(*(part.relations for part in parts)),
        writes=frozenset().union(*(part.writes for part in parts)),
        parts=tuple(parts),
        temporary=frozenset().union(*(part.temporary for part in parts)),
        ends_within=any(part.transaction is not None and part.transaction.kind == END for part in parts),
        commits_within=any(part.transaction is not None and part.transaction.commits for part in parts),
        effects=tuple(effect for part in parts for effect in part.effects),
        copy_in=any(part.copy_in for part in parts),
        renames=any(part.renames for part in parts),
        deallocates_all=any(part.deallocates_all for part in parts),
        depends_on_constants=any(part.depends_on_constants for part in parts),
        changes_catalog=max(part.changes_catalog for part in parts),
    )


ASKING: Final = {f"{OWN_PREFIX}{asks}": asks for asks in (LAST_ROUTE, REASONS, SESSION_STATE)}
"""What SHOW asks of us."""


def _facts_of(statement: Tree) -> StatementFacts:
    (kind, body), *_ = statement.items()
    fields = cast(Tree, body)
    found = Found()
    found.walk(statement)
    if kind == "VariableShowStmt":
        found.shows.add(cast(str, fields["name"]))
    if kind == "RefreshMatViewStmt":
        found.change(cast(Tree, fields["relation"]), REFRESHES)
    own_setting = _own_setting(kind, fields)
    effects = effects_of(kind, fields, found)
    options = options_of(fields) if kind == "ExplainStmt" else {}
    if options.get("route", "false") not in FALSE:
        return _explain_route(fields, options)
    if kind == "VariableShowStmt" and fields["name"] in ASKING:
        return StatementFacts(kind=kind, asks=ASKING[fields["name"]])
    return StatementFacts(
        kind=kind,
        write_reason=_structure(kind, fields, found),
        calls=frozenset(found.calls),
        relations=frozenset(found.relations),
        queries=frozenset(found.queries),
        writes=frozenset(found.writes),
        changes=frozenset(found.changes),
        changes_cluster=kind == "RenameStmt" and fields.get("renameType") in ("OBJECT_ROLE", "OBJECT_DATABASE"),
        procedures=frozenset(found.procedures),
        blocks=tuple(found.blocks) if found.language == "plpgsql" else (),
        varies=found.varies,
        casts=frozenset(found.casts),
        zoned=frozenset(found.zoned),
        given_names=frozenset(found.given_names),
        operators=frozenset(found.operators),
        types=frozenset(found.types),
        fields=frozenset(found.fields),
        shows=frozenset(found.shows),
        transaction=_transaction(kind, fields),
        own_setting=own_setting,
        depends_on_constants=(
            found.depends_on_constants
            or own_setting is not None
            or gives_value(effects)
            or (kind == "ExplainStmt" and _has_constants(fields))
        ),
        temporary=frozenset(found.temporary_names),
        effects=effects,
        copy_in=kind == "CopyStmt" and fields.get("is_from") is True and "filename" not in fields,
        renames=_renames(kind, fields, found),
        deallocates_all=_deallocates_all(kind, fields),
        changes_catalog=_changes_catalog(kind, fields, found),
    )


def _explain_route(fields: Tree, options: dict[str, str]) -> StatementFacts:
    """EXPLAIN (ROUTE): PostgreSQL's grammar takes any option, and leaves it to the server to know it."""
    explained = _facts_of(cast(Tree, fields["query"]))
    return StatementFacts(
        kind="ExplainStmt",
        asks=EXPLAIN_ROUTE,
        explained=explained,
        as_json=options.get("format") == "json",
        depends_on_constants=explained.depends_on_constants or _has_constants(fields),
    )


def _has_constants(explain: Tree) -> bool:
    """Whether an option of EXPLAIN is given more than its name: (ANALYZE 0) and (ANALYZE 'on') have one shape."""
    return any("arg" in option["DefElem"] for option in cast("list[dict[str, Tree]]", explain.get("options", [])))


def _structure(kind: str, fields: Tree, found: Found) -> str:
    """Why a standby cannot run it, whatever its names mean; "" where that depends on them."""
    if kind in ("SelectStmt", "VariableShowStmt"):
        return found.write_reason
    if kind == "CopyStmt" and not fields.get("is_from") and "filename" not in fields and not fields.get("is_program"):
        return found.write_reason
    if kind == "ExplainStmt":
        (inner, _), *_ = cast(Tree, fields["query"]).items()
        # Even without ANALYZE, planning takes the locks that the statement would take.
        return found.write_reason if inner == "SelectStmt" else _named(inner).replace("it is", "it explains", 1)
    return _named(kind)


def _named(kind: str) -> str:
    return f"it is {DATA_CHANGING[kind]}" if kind in DATA_CHANGING else f"it is no plain query ({kind})"


def _transaction(kind: str, fields: Tree) -> TransactionFacts | None:
    if kind == "TransactionStmt":
        # What is chained goes on in the same modes.
        name = cast(str, fields["kind"])
        kind = WITHIN if fields.get("chain") is True else TRANSACTION_KINDS[name]
        return _modes(kind, cast("list[Tree]", fields.get("options", [])), name in COMMITTING)
    if kind == "VariableSetStmt" and fields.get("name") == "TRANSACTION":
        return _modes(SET_TRANSACTION, cast("list[Tree]", fields.get("args", [])))
    if kind == "VariableSetStmt" and fields.get("name") == "TRANSACTION SNAPSHOT":
        return TransactionFacts(SNAPSHOT)
    return None


TRANSACTION_KINDS: Final = {
    "TRANS_STMT_BEGIN": BEGIN,
    "TRANS_STMT_START": BEGIN,
    "TRANS_STMT_COMMIT": END,
    "TRANS_STMT_ROLLBACK": END,
    "TRANS_STMT_SAVEPOINT": WITHIN,
    "TRANS_STMT_RELEASE": WITHIN,
    "TRANS_STMT_ROLLBACK_TO": WITHIN,
    "TRANS_STMT_PREPARE": TWO_PHASE,
    "TRANS_STMT_COMMIT_PREPARED": TWO_PHASE,
    "TRANS_STMT_ROLLBACK_PREPARED": TWO_PHASE,
}
COMMITTING: Final = frozenset({"TRANS_STMT_COMMIT", "TRANS_STMT_PREPARE", "TRANS_STMT_COMMIT_PREPARED"})


def _own_setting(kind: str, fields: Tree) -> tuple[str, str] | None:
    name = cast(str, fields.get("name", ""))
    if kind == "DiscardStmt" and fields.get("target") == "DISCARD_ALL":
        return ALL_SETTINGS, ""
    if kind != "VariableSetStmt" or fields.get("is_local") is True:
        return None
    if fields.get("kind") == "VAR_RESET_ALL":
        return ALL_SETTINGS, ""
    if not name.startswith(OWN_PREFIX):
        return None
    value = ""
    for argument in cast("list[Tree]", fields.get("args", [])):
        value = constant_of(cast(Tree, argument.get("A_Const", {})))
    return name.removeprefix(OWN_PREFIX), value.lower()


def _modes(kind: str, options: list[Tree], commits: bool = False) -> TransactionFacts:
    read_only: bool | None = None
    isolation = ""
    for option in options:
        element = cast(Tree, option["DefElem"])
        constant = cast("dict[str, dict[str, dict[str, object]]]", element["arg"])["A_Const"]
        if element["defname"] == "transaction_read_only":
            # 0 is left out of the JSON.
            read_only = constant.get("ival", {}).get("ival", 0) == 1
        elif element["defname"] == "transaction_isolation":
            isolation = str(constant["sval"]["sval"])
    return TransactionFacts(kind, read_only, isolation, commits)


def _changes_catalog(kind: str, fields: Tree, found: Found) -> int:
    if kind == "ExplainStmt" and "CreateTableAsStmt" in cast(Tree, fields["query"]):
        kind = "CreateTableAsStmt"
    if kind == "SelectStmt" or kind in DATA_CHANGING or kind in PLAIN_UTILITY:
        return CHANGES if found.creates else UNCHANGED
    if kind == "DoStmt":
        return CHANGES if found.creates else MAY_CHANGE
    if kind == "CallStmt":
        return MAY_CHANGE
    # A temporary relation shadows others for its own session alone, which knows of it.
    return UNCHANGED if found.temporary and kind in ("CreateStmt", "CreateTableAsStmt") else CHANGES


RENAMING: Final = frozenset({"search_path", *ROLE_NAMES})


def _renames(kind: str, fields: Tree, found: Found) -> bool:
    """Whether it sets what names are looked up by."""
    if kind == "VariableSetStmt":
        return fields.get("kind") == "VAR_RESET_ALL" or str(fields.get("name", "")).lower() in RENAMING
    if kind == "DiscardStmt":
        return fields.get("target") == "DISCARD_ALL"
    for _, name, arguments in found.state_calls:
        if name == "set_config":
            setting = text_of(arguments[0]) if arguments else None
            if setting is None or setting.lower() in RENAMING:
                return True
    return False


def _deallocates_all(kind: str, fields: Tree) -> bool:
    if kind == "DeallocateStmt":
        return fields.get("isall") is True
    return kind == "DiscardStmt" and fields.get("target") == "DISCARD_ALL"
