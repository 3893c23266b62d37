"""Texts that are taken for dates: the one way in which what a constant or a column says depends on the day.

The input functions of PostgreSQL's date and time types know the words now, today, tomorrow and yesterday
(utils/adt/datetime.c, datetktbl), so the answer to a statement that turns texts into dates is true for the day it was
given on. In a constant or a parameter such a word can be seen (time_words). What a column or an expression holds
cannot: `sources` tells what would have to be a date already for no text to be read.
"""

import re
from typing import Final, cast

from parser.facts import ANYTHING

Tree = dict[str, object]

_TIME_WORDS: Final = re.compile(
    # Digits and punctuation may stand right beside them: 'today10:00' is read.
    rb"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])"
    # Strings in which they may stand disguised: with escapes, or in two halves with a line's end between them.
    rb"|(?<![a-z0-9_$])e'(?:[^'\\]++|'')*+\\|u&'|'(?:[ \t\f\v]++|--[^\r\n]*+)*+[\r\n](?:\s++|--[^\r\n]*+)*+'",
    re.IGNORECASE,
)


def time_words(data: bytes) -> bool:
    """Whether a statement's text, or a parameter's value, may hold a word that means another moment each day."""
    return _TIME_WORDS.search(data) is not None


DATES: Final = frozenset({"date", "timestamp", "timestamptz"})
MOMENTS: Final = DATES | {"time", "timetz", "interval"}
TEXTS: Final = frozenset({"text", "varchar", "bpchar"})

GIVE_DATES: Final = frozenset(
    {
        "date_add",
        "date_bin",
        "date_subtract",
        "date_trunc",
        "generate_series",
        "make_date",
        "make_timestamp",
        "make_timestamptz",
        "timezone",
        "to_date",
        "to_timestamp",
    }
)
"""Functions that give no text. A time of day that timezone() is given is judged where that is called."""
PASS_ON: Final = frozenset({"first_value", "lag", "last_value", "lead", "max", "min", "nth_value"})
"""Those that give one of the values of their first argument."""

NOTHING: Final[frozenset[str]] = frozenset()
UNSEEN: Final = frozenset({ANYTHING})
DEPTH_MAX: Final = 50
"""Of an expression; what lies deeper is not looked at."""


def sources(node: object, *, zoned: bool = False, depth: int = 0) -> frozenset[str]:
    """The columns, by name, that must be dates or timestamps for an expression to be one whatever they hold.

    A constant needs none: what it says can be seen. ANYTHING stands for what could be any text. With `zoned`, a time of
    day does not count as one, nor does a constant or a parameter, whose type is not in the text.
    """
    if depth > DEPTH_MAX:
        return UNSEEN
    kind, fields = next(iter(cast("dict[str, Tree]", node).items()), ("", {}))
    if kind in ("A_Const", "ParamRef"):
        return UNSEEN if zoned else NOTHING
    if kind == "ColumnRef":
        return _column(fields)
    if kind == "TypeCast":
        return _cast(fields, zoned)
    if kind == "FuncCall":
        return _call(fields, zoned, depth)
    if kind == "A_Expr":
        return _operation(fields, zoned, depth)
    if kind == "CaseExpr":
        whens = cast("list[dict[str, Tree]]", fields["args"])
        return _all_of([when["CaseWhen"]["result"] for when in whens] + [fields.get("defresult")], zoned, depth)
    if kind in ("CoalesceExpr", "MinMaxExpr"):
        return _all_of(cast("list[object]", fields["args"]), zoned, depth)
    if kind == "A_ArrayExpr":
        return _all_of(cast("list[object]", fields.get("elements", [])), zoned, depth)
    return UNSEEN


def _column(fields: Tree) -> frozenset[str]:
    last = cast("list[dict[str, Tree]]", fields["fields"])[-1]
    return frozenset({cast(str, last["String"].get("sval", ""))}) if "String" in last else UNSEEN


def _cast(fields: Tree, zoned: bool) -> frozenset[str]:
    to = cast(Tree, fields["typeName"])
    schema, name = _last_names(to.get("names", []))
    if "arrayBounds" in to or schema not in ("", "pg_catalog"):
        return UNSEEN
    if name in (DATES if zoned else MOMENTS):
        return NOTHING
    constant = next(iter(cast(Tree, fields["arg"])), "") in ("A_Const", "ParamRef")
    return NOTHING if constant and name in TEXTS and not zoned else UNSEEN


def _call(fields: Tree, zoned: bool, depth: int) -> frozenset[str]:
    schema, name = _last_names(fields["funcname"])
    arguments = cast("list[object]", fields.get("args", []))
    if schema not in ("", "pg_catalog"):
        return UNSEEN
    if name in GIVE_DATES:
        return NOTHING
    return sources(arguments[0], zoned=zoned, depth=depth + 1) if arguments and name in PASS_ON else UNSEEN


def _operation(fields: Tree, zoned: bool, depth: int) -> frozenset[str]:
    """A sum or a difference is a date where one side is, and never a text that was none before."""
    name = _last_names(fields["name"])[1]
    if fields.get("kind") != "AEXPR_OP" or name not in ("+", "-") or "lexpr" not in fields:
        return UNSEEN
    sides = [sources(fields[side], zoned=zoned, depth=depth + 1) for side in ("lexpr", "rexpr")]
    return NOTHING.union(*[side for side in sides if ANYTHING not in side] or sides)


def _all_of(nodes: list[object], zoned: bool, depth: int) -> frozenset[str]:
    return NOTHING.union(*(sources(node, zoned=zoned, depth=depth + 1) for node in nodes if node is not None))


def _last_names(parts: object) -> tuple[str, str]:
    names = [part["String"].get("sval", "") for part in cast("list[dict[str, dict[str, str]]]", parts)]
    return names[-2] if len(names) > 1 else "", names[-1] if names else ""
