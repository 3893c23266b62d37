"""From one statement's tree to what it does to the state of its session: a tuple of StateEffect.

The text tells which statement it is and which names it gives, not what will come of it: it may fail, its transaction
may be rolled back, a name may be computed. So an effect says what to ask the server about, rather than what is so.

Not seen from here: what a function does inside; that CREATE TABLE t makes a temporary table where search_path begins
with pg_temp; and what an EXECUTE runs. So that the last does not go unnoticed, a PREPARE is given the effects of the
statement in it as if it ran them; the EXECUTE itself only uses what is prepared.
"""

import re
from typing import Final, cast

from parser.facts import Name
from parser.session_state import (
    CHARACTERISTICS,
    CONTRIBUTED,
    CURSOR_OPT_HOLD,
    CURSORS,
    DISCARDED,
    FALSE,
    FUNCTIONS,
    LEAVES,
    LIBRARIES,
    LISTEN,
    OLD_NAMES,
    OWN_TO_TRANSACTION,
    PREPARED,
    ROLE_NAMES,
    ROLES,
    SEED,
    SETTINGS,
    TEMPORARY,
    UNDOES,
    UNKNOWN,
    USES,
    StateEffect,
)
from parser.tree import Found, Tree, constant_of, is_temporary, is_temporary_schema, name_of, options_of

Effects = list[StateEffect]

DEFINING: Final = frozenset(
    {
        "AlterFunctionStmt",
        "CreateDomainStmt",
        "CreateForeignTableStmt",
        "CreateFunctionStmt",
        "CreatePolicyStmt",
        "CreateSchemaStmt",
        "CreateStmt",
        "CreateTrigStmt",
        "RuleStmt",
        "ViewStmt",
    }
)
"""Statements that keep the expressions in them for later instead of evaluating them."""

CREATED_RELATIONS: Final = {
    "CreateStmt": ("relation", "TABLE"),
    "CreateSeqStmt": ("sequence", "SEQUENCE"),
    "ViewStmt": ("view", "VIEW"),
    "CompositeTypeStmt": ("typevar", "TYPE"),
}
"""Statements that create a relation: where it stands in their tree, and what it is."""

CREATED_NAMES: Final = {
    "CreateFunctionStmt": ("funcname", "FUNCTION"),
    "CreateEnumStmt": ("typeName", "TYPE"),
    "CreateRangeStmt": ("typeName", "TYPE"),
    "CreateDomainStmt": ("domainname", "DOMAIN"),
    "CreateOpClassStmt": ("opclassname", "OPERATOR CLASS"),
    "CreateOpFamilyStmt": ("opfamilyname", "OPERATOR FAMILY"),
    "CreateConversionStmt": ("conversion_name", "CONVERSION"),
    "CreateStatsStmt": ("defnames", "STATISTICS"),
    "DefineStmt": ("defnames", ""),
}
"""The same for what is no relation: its name is a list of strings."""

_custom_setting: Final = re.compile(
    r"""set_config\s*\(\s*'+([^\W\d][\w$]*\.[\w$.]+)'|\bset\s+(?:session\s+)?([^\W\d][\w$]*\.[\w$.]+)\s*(?:=|to\b)"""
).finditer
"""A custom setting that a block of code sets, in lower case. SET LOCAL has a word where the setting would be."""


_dotted: Final = re.compile(r"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+")


def effects_of(kind: str, fields: Tree, found: Found) -> tuple[StateEffect, ...]:
    """What a statement does to the state of its session: from the root of its tree, and what a walk over it met."""
    if kind == "ExplainStmt":
        (inner, query), *_ = cast("dict[str, Tree]", fields["query"]).items()
        effects = effects_of(inner, query, found)
        if options_of(fields).get("analyze", "false") not in FALSE:
            return effects
        return tuple([effect for effect in effects if effect.action == USES])
    if kind == "PrepareStmt":
        (inner, query), *_ = cast("dict[str, Tree]", fields["query"]).items()
        runs = [effect for effect in effects_of(inner, query, found) if effect.action != USES]
        return (StateEffect(PREPARED, LEAVES, "PREPARE", (cast(str, fields["name"]),)), *runs)
    statement = _STATEMENTS.get(kind)
    does = _created(kind, fields) if statement is None else statement(fields, found)
    if kind not in DEFINING:
        _add_calls(found, does)
    if any(name == "pg_prepared_statements" for _, name in found.relations):
        does.append(StateEffect(PREPARED, USES, "pg_prepared_statements", any_name=True))
    return tuple(dict.fromkeys(does))


def gives_value(effects: tuple[StateEffect, ...]) -> bool:
    """Whether one of them tells a constant of the text."""
    return any(effect.value is not None for effect in effects)


def _set(fields: Tree, _found: Found) -> Effects:
    name = cast(str, fields.get("name", "")).lower()
    kind = fields["kind"]
    if kind == "VAR_RESET_ALL":
        return [StateEffect(SETTINGS, UNDOES, "RESET ALL", any_name=True)]
    if name == CHARACTERISTICS:
        modes = cast("list[dict[str, Tree]]", fields.get("args", []))
        names = tuple([f"default_{mode['DefElem']['defname']}" for mode in modes])
        return [StateEffect(SETTINGS, LEAVES, "SET SESSION CHARACTERISTICS", names)]
    if kind == "VAR_SET_MULTI":
        return []  # SET TRANSACTION
    is_local = fields.get("is_local") is True
    if kind in ("VAR_RESET", "VAR_SET_DEFAULT"):
        # To what the client gave at login, if it did; which is not what PostgreSQL goes back to.
        return [StateEffect(SETTINGS, UNDOES, "SET LOCAL", (name,), local=True)] if is_local else _reset(name)
    value: str | None = None
    if kind == "VAR_SET_VALUE":
        arguments = cast("list[Tree]", fields.get("args", []))
        value = ", ".join([constant_of(cast(Tree, argument.get("A_Const", {}))) for argument in arguments])
    # Else it is FROM CURRENT, which makes the session's what was SET LOCAL before.
    return _given("SET", name, value, is_local=is_local)


def _reset(name: str) -> Effects:
    """RESET, and SET .. TO DEFAULT."""
    if name in ROLE_NAMES:
        return [StateEffect(ROLES, UNDOES, f"RESET {ROLE_WORDS[name]}", ROLE_NAMES[name])]
    if name == "seed" or name in OWN_TO_TRANSACTION:
        return []
    return [StateEffect(SETTINGS, UNDOES, "RESET", (OLD_NAMES.get(name, name),))]


ROLE_WORDS: Final = {"role": "ROLE", "session_authorization": "SESSION AUTHORIZATION"}


def _given(statement: str, name: str, value: str | None, *, is_local: bool) -> Effects:
    """SET and set_config() of a setting whose name, in lower case, is known; `value` where that is known too."""
    if name == "seed":
        # SET LOCAL too: what random() answers next does not come back with the setting.
        return [StateEffect(SEED, LEAVES, f"{statement} seed" if statement == "SET" else statement)]
    if is_local or name in OWN_TO_TRANSACTION:
        return []
    if name in ROLE_NAMES:
        words = f"SET {ROLE_WORDS[name]}" if statement == "SET" else statement
        return [StateEffect(ROLES, LEAVES, words, ROLE_NAMES[name])]
    # A value makes facts hold for one text alone, so only that is told which somebody asks for.
    told = value if name == "search_path" else None
    return [StateEffect(SETTINGS, LEAVES, statement, (OLD_NAMES.get(name, name),), value=told)]


def _discard(fields: Tree, _found: Found) -> Effects:
    target = cast(str, fields["target"])
    statement = target.replace("_", " ")
    return [
        StateEffect(
            state,
            UNDOES,
            statement,
            ROLE_NAMES["session_authorization"] if state == ROLES else (),
            any_name=state in (SETTINGS, PREPARED),
        )
        for state in DISCARDED.get(target, ())
    ]


def _listen(_fields: Tree, _found: Found) -> Effects:
    return [StateEffect(LISTEN, LEAVES, "LISTEN")]


def _unlisten(_fields: Tree, _found: Found) -> Effects:
    return [StateEffect(LISTEN, UNDOES, "UNLISTEN")]


def _load(_fields: Tree, _found: Found) -> Effects:
    return [StateEffect(LIBRARIES, LEAVES, "LOAD")]


def _declare(fields: Tree, _found: Found) -> Effects:
    if cast(int, fields.get("options", 0)) & CURSOR_OPT_HOLD:
        return [StateEffect(CURSORS, LEAVES, "DECLARE CURSOR WITH HOLD")]
    return []


def _close(_fields: Tree, _found: Found) -> Effects:
    return [StateEffect(CURSORS, UNDOES, "CLOSE")]


def _execute(fields: Tree, _found: Found) -> Effects:
    return [StateEffect(PREPARED, USES, "EXECUTE", (cast(str, fields["name"]),))]


def _deallocate(fields: Tree, _found: Found) -> Effects:
    if fields.get("isall") is True:
        return [StateEffect(PREPARED, UNDOES, "DEALLOCATE ALL", any_name=True)]
    return [StateEffect(PREPARED, UNDOES, "DEALLOCATE", (cast(str, fields["name"]),))]


def _drop(_fields: Tree, _found: Found) -> Effects:
    return [StateEffect(TEMPORARY, UNDOES, "DROP")]


def _do(_fields: Tree, found: Found) -> Effects:
    names: list[str] = []
    for block in found.blocks:
        names.extend(match[1] or match[2] for match in _custom_setting(block.lower()))
    return [StateEffect(UNKNOWN, LEAVES, "DO", tuple(dict.fromkeys(names)), any_name=True)]


def _call(_fields: Tree, _found: Found) -> Effects:
    return [StateEffect(UNKNOWN, LEAVES, "CALL", any_name=True)]


def _create_as(fields: Tree, found: Found) -> Effects:
    """CREATE TABLE AS, and CREATE MATERIALIZED VIEW."""
    effects: Effects = []
    if is_temporary(cast("dict[str, Tree]", fields["into"])["rel"]):
        effects.append(StateEffect(TEMPORARY, LEAVES, "CREATE TEMPORARY TABLE"))
    query = cast("dict[str, Tree]", fields["query"]).get("ExecuteStmt")
    return effects if query is None else [*effects, *_execute(query, found)]


def _create_foreign(fields: Tree, _found: Found) -> Effects:
    return _created("CreateStmt", cast(Tree, fields["base"]))


def _select(_fields: Tree, found: Found) -> Effects:
    return [StateEffect(TEMPORARY, LEAVES, "SELECT INTO TEMPORARY TABLE")] if found.into_temporary else []


def _update(fields: Tree, _found: Found) -> Effects:
    """pg_settings has a rule that makes set_config() of an UPDATE."""
    relation = cast(Tree, fields["relation"])
    if relation.get("relname") == "pg_settings" and relation.get("schemaname", "pg_catalog") == "pg_catalog":
        return [StateEffect(SETTINGS, LEAVES, "UPDATE of pg_settings", any_name=True)]
    return []


_STATEMENTS: Final = {
    "VariableSetStmt": _set,
    "DiscardStmt": _discard,
    "ListenStmt": _listen,
    "UnlistenStmt": _unlisten,
    "LoadStmt": _load,
    "DeclareCursorStmt": _declare,
    "ClosePortalStmt": _close,
    "ExecuteStmt": _execute,
    "DeallocateStmt": _deallocate,
    "DropStmt": _drop,
    "DropOwnedStmt": _drop,
    "DoStmt": _do,
    "CallStmt": _call,
    "CreateTableAsStmt": _create_as,
    "CreateForeignTableStmt": _create_foreign,
    "SelectStmt": _select,
    "UpdateStmt": _update,
}


def _created(kind: str, fields: Tree) -> Effects:
    """Any other statement: it may create something in the session's own schema."""
    if kind in CREATED_RELATIONS:
        field, what = CREATED_RELATIONS[kind]
        temporary = is_temporary(cast(Tree, fields[field]))
    elif kind in CREATED_NAMES:
        field, what = CREATED_NAMES[kind]
        name: Name = name_of(fields[field]) if field in fields else ("", "")
        temporary = is_temporary_schema(name[0])
    else:
        return []
    if kind == "DefineStmt":
        what = DEFINED[cast(str, fields["kind"])]
    return [StateEffect(TEMPORARY, LEAVES, f"CREATE TEMPORARY {what}")] if temporary else []


DEFINED: Final = {
    "OBJECT_AGGREGATE": "AGGREGATE",
    "OBJECT_OPERATOR": "OPERATOR",
    "OBJECT_TYPE": "TYPE",
    "OBJECT_COLLATION": "COLLATION",
    "OBJECT_TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "OBJECT_TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "OBJECT_TSPARSER": "TEXT SEARCH PARSER",
    "OBJECT_TSTEMPLATE": "TEXT SEARCH TEMPLATE",
}
"""What the grammar makes of CREATE AGGREGATE and its like: all are one statement to it."""


def _add_calls(found: Found, effects: Effects) -> None:
    """What the functions do that the statement calls."""
    for _, name, arguments in sorted(found.state_calls, key=_location):
        if name != "set_config":
            state, action = FUNCTIONS[name] if name in FUNCTIONS else CONTRIBUTED[name]
            effects.append(StateEffect(state, action, f"{name}()"))
        elif len(arguments) == SET_CONFIG_ARGUMENTS:
            effects.extend(_set_config(*arguments))


SET_CONFIG_ARGUMENTS: Final = 3


def _location(call: tuple[int, str, list[Tree]]) -> int:
    return call[0]


def _set_config(name: Tree, value: Tree, local: Tree) -> Effects:
    """set_config(): its arguments have no names to be called by."""
    setting = text_of(name)
    is_local = _is_true(local)
    if setting is not None:
        return _given("set_config()", setting.lower(), text_of(value), is_local=is_local)
    if is_local:
        return []
    # Custom settings are in no list that could be asked for: what looks like the name of one is told.
    names = tuple(sorted({one.lower() for one in _dotted.findall(str(name))}))
    return [StateEffect(SETTINGS, LEAVES, "set_config()", names, any_name=True)]


def text_of(node: Tree) -> str | None:
    """What a string constant says, be it as it is or cast to text."""
    constant = _constant(node, ("text", "varchar"))
    return cast("str | None", constant.get("sval", {}).get("sval"))


def _is_true(node: Tree) -> bool:
    """Whether it is a constant that is certainly true."""
    constant = _constant(node, ("bool",))
    if "sval" in constant:
        return str(constant["sval"].get("sval", "")).strip().lower() in TRUE
    return constant.get("boolval", {}).get("boolval") is True


def _constant(node: Tree, types: tuple[str, ...]) -> dict[str, Tree]:
    """A constant that is written as it is, or cast to one of `types` without a length; empty for anything else."""
    if "TypeCast" in node:
        conversion = cast("dict[str, Tree]", node["TypeCast"])
        to = conversion["typeName"]
        node = conversion["arg"] if name_of(to["names"])[1] in types and "typmods" not in to else {}
    return cast("dict[str, Tree]", node.get("A_Const", {}))


TRUE: Final = frozenset({"t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"})
"""How a string says yes as a boolean (utils/adt/bool.c, parse_bool_with_len)."""
