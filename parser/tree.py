"""One pass over a statement's tree: the names it mentions, and what its structure alone says."""

import re
from typing import Final, cast

from parser.dates import sources
from parser.facts import (
    ANY_NUMBER,
    ANY_SETTING,
    ANYTHING,
    DELETES,
    INSERTS,
    TRUNCATES,
    UPDATES,
    Call,
    Cast,
    Change,
    Name,
)
from parser.session_state import CONTRIBUTED, FUNCTIONS

Tree = dict[str, object]
"""A node of the tree, as JSON has it: {"SelectStmt": {..}}, or the fields of one."""

DATA_CHANGING: Final = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
}

TEMPORARY: Final = {("relpersistence", "t"), ("schemaname", "pg_temp")}
"""What marks a relation as temporary in the tree."""

SAME_ALL_SESSION: Final = frozenset(
    {
        "SVFOP_CURRENT_ROLE",
        "SVFOP_CURRENT_USER",
        "SVFOP_USER",
        "SVFOP_SESSION_USER",
        "SVFOP_CURRENT_CATALOG",
        "SVFOP_CURRENT_SCHEMA",
    }
)
"""Of CURRENT_.. and its like (nodes/primnodes.h), those that ask who one is and where, not what time it is."""

MOVING_COLUMNS: Final = frozenset({"ctid", "xmax", "cmin", "cmax"})
"""System columns that VACUUM FULL, a row lock or a transaction that was rolled back may change."""

SAMPLING_METHODS: Final = frozenset({"system", "bernoulli"})

IMPLIED_OPERATORS: Final = {
    "AEXPR_BETWEEN": (">=", "<="),
    "AEXPR_NOT_BETWEEN": ("<", ">"),
    "AEXPR_BETWEEN_SYM": (">=", "<="),
    "AEXPR_NOT_BETWEEN_SYM": ("<", ">"),
}
"""What BETWEEN stands for (parser/parse_expr.c, transformAExprBetween)."""

_DDL: Final = re.compile(r"\b(create|alter|drop|execute)\b", re.IGNORECASE)


class Found:
    """What one pass over a statement's tree meets, at any depth."""

    __slots__ = (
        "blocks",
        "calls",
        "casts",
        "changes",
        "creates",
        "depends_on_constants",
        "fields",
        "given_names",
        "into_temporary",
        "language",
        "operators",
        "procedures",
        "queries",
        "relations",
        "shows",
        "state_calls",
        "temporary",
        "temporary_names",
        "types",
        "varies",
        "write_reason",
        "writes",
        "zoned",
    )

    def __init__(self) -> None:
        self.write_reason = ""
        self.calls: set[Call] = set()
        self.relations: set[Name] = set()
        self.queries: set[str] = set()
        self.writes: set[Name] = set()
        self.operators: set[Name] = set()
        self.types: set[Name] = set()
        self.fields: set[str] = set()
        self.shows: set[str] = set()
        self.temporary = False
        self.creates = False
        self.temporary_names: set[str] = set()
        self.depends_on_constants = False
        self.state_calls: list[tuple[int, str, list[Tree]]] = []
        """The calls of functions that do something to the state of the session: where, which, with what."""
        self.into_temporary = False
        """SELECT INTO or CREATE TABLE AS, into a temporary table."""
        self.blocks: list[str] = []
        """The text of a DO block."""
        self.language = "plpgsql"
        """That it is in."""
        self.changes: set[Change] = set()
        self.procedures: set[Call] = set()
        self.varies = ""
        self.casts: set[Cast] = set()
        self.zoned: set[str] = set()
        self.given_names: set[str] = set()

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
                        visit = _VISITORS.get(key)
                        if visit is not None:
                            visit(self, value)
                        elif key in DATA_CHANGING:
                            self.write_reason = f"it holds {DATA_CHANGING[key]} (data-modifying WITH)"
                            self._write(key, value)
                        pending.append(value)
                    elif isinstance(value, list):
                        pending.append(value)
                    elif (key, value) in TEMPORARY:
                        self.temporary = True
                        self.temporary_names.add(cast(str, item.get("relname", "")))

    def _call(self, node: Tree) -> None:
        schema, name = name_of(node["funcname"])
        arguments = cast("list[Tree]", node.get("args", []))
        count = len(arguments)
        if node.get("agg_within_group") is True:
            count += len(cast("list[object]", node.get("agg_order", [])))
        if name == "unnest":
            # Of several arrays it is one for each (parser/parse_clause.c, transformRangeFunction).
            count = min(count, 1)
        self.calls.add((schema, name, ANY_NUMBER if node.get("func_variadic") is True else count))
        if name == "timezone" and arguments:
            self.zoned |= sources(arguments[-1], zoned=True)
        elif count == 1 and arguments:
            # With the name of a type it is a cast (parser/parse_func.c, func_get_detail).
            self.casts.update((schema, name, source) for source in sources(arguments[0]))
        if name == "current_setting":
            self._setting(arguments)
        elif (name in FUNCTIONS and schema in ("", "pg_catalog")) or name in CONTRIBUTED:
            self.state_calls.append((cast(int, node.get("location", 0)), name, arguments))
            if name == "set_config":
                self.depends_on_constants = True

    def _setting(self, arguments: list[Tree]) -> None:
        """The constant in current_setting('..')."""
        constant = cast("dict[str, Tree]", arguments[0].get("A_Const", {}) if arguments else {})
        text = constant.get("sval", {}).get("sval")
        self.shows.add(text.lower() if isinstance(text, str) else ANY_SETTING)
        self.depends_on_constants = True

    def _relation(self, node: Tree) -> None:
        self.relations.add(_relation_name(node))

    def _procedure(self, node: Tree) -> None:
        # Output arguments are written too, and do not count as arguments in pg_proc.
        self.procedures.add((*name_of(node["funcname"]), ANY_NUMBER))

    def _write(self, kind: str, node: Tree) -> None:
        self.change(cast(Tree, node["relation"]), _ways(kind, node))

    def change(self, relation: Tree, ways: str) -> None:
        """A relation is changed, in these ways."""
        name = _relation_name(relation)
        self.writes.add(name)
        self.changes.update((way, *name) for way in ways)

    def _copy(self, node: Tree) -> None:
        relation = cast("Tree | None", node.get("relation"))
        if relation is not None and node.get("is_from"):
            self.change(relation, INSERTS)
        elif relation is not None:
            self.relations.add(_relation_name(relation))

    def _truncate(self, node: Tree) -> None:
        for relation in cast("list[dict[str, Tree]]", node["relations"]):
            self.change(relation["RangeVar"], TRUNCATES)

    def _with_query(self, node: Tree) -> None:
        self._name_columns(node.get("aliascolnames"))
        self.queries.add(cast(str, node["ctename"]))

    def _lock(self, _node: Tree) -> None:
        self.write_reason = "it locks rows (FOR UPDATE or FOR SHARE)"

    def _into(self, node: Tree) -> None:
        self.write_reason = "it creates a table (SELECT INTO)"
        relation = cast(Tree, node.get("rel", {}))
        self.creates = relation.get("relpersistence") != "t"
        self.into_temporary = is_temporary(relation)

    def _do(self, node: Tree) -> None:
        """A DO block: its text is a constant to the grammar."""
        self.depends_on_constants = True
        for argument in cast("list[dict[str, Tree]]", node.get("args", [])):
            text = cast("dict[str, Tree]", argument["DefElem"].get("arg", {})).get("String", {}).get("sval", "")
            self.creates = self.creates or _DDL.search(str(text)) is not None
            if argument["DefElem"].get("defname") == "as":
                self.blocks.append(str(text))
            elif argument["DefElem"].get("defname") == "language":
                self.language = str(text)

    def _expression(self, node: Tree) -> None:
        implied = IMPLIED_OPERATORS.get(cast(str, node["kind"]))
        if implied is not None:
            self.operators.update(("", name) for name in implied)
        else:
            self.operators.add(name_of(node["name"]))

    def _sublink(self, node: Tree) -> None:
        if "operName" in node:
            self.operators.add(name_of(node["operName"]))
        elif node.get("subLinkType") == "ANY_SUBLINK":
            self.operators.add(("", "="))

    def _sort(self, node: Tree) -> None:
        if "useOp" in node:
            self.operators.add(name_of(node["useOp"]))

    def _case(self, node: Tree) -> None:
        if "arg" in node:
            self.operators.add(("", "="))

    def _join(self, node: Tree) -> None:
        if "usingClause" in node or node.get("isNatural") is True:
            self.operators.add(("", "="))

    def _type(self, node: Tree) -> None:
        if "names" in node:
            self.types.add(name_of(node["names"]))

    def _column(self, node: Tree) -> None:
        fields = cast("list[dict[str, Tree]]", node["fields"])
        if "String" in fields[-1]:
            name = cast(str, fields[-1]["String"].get("sval", ""))
            if len(fields) > 1:
                self.fields.add(name)
            if name in MOVING_COLUMNS:
                self.varies = f"it asks for {name}, which changes while its row does not"

    def _indirection(self, node: Tree) -> None:
        for step in cast("list[dict[str, Tree]]", node["indirection"]):
            if "String" in step:
                name = cast(str, step["String"].get("sval", ""))
                self.fields.add(name)
                # Also one of the name of a type is a call, and so a cast.
                self.casts.add(("", name, ANYTHING))
                if name in FUNCTIONS or name in CONTRIBUTED:
                    # (1::bigint).pg_advisory_lock is a call. None of set_config(): that takes three arguments.
                    self.state_calls.append((0, name, []))

    def _conversion(self, node: Tree) -> None:
        to = cast(Tree, node["typeName"])
        if "names" in to:
            name = name_of(to["names"])
            self.casts.update((*name, source) for source in sources(node["arg"]))

    def _value_function(self, node: Tree) -> None:
        if node["op"] not in SAME_ALL_SESSION:
            words = cast(str, node["op"]).removeprefix("SVFOP_").removesuffix("_N")
            self.varies = f"it asks for the time ({words})"

    def _taken_out(self, _node: Tree) -> None:
        self.varies = "it takes values out of JSON or XML, and a text may say 'today'"

    def _json_function(self, node: Tree) -> None:
        if "output" in node:
            self._taken_out(node)

    def _target(self, node: Tree) -> None:
        if "name" in node:
            self.given_names.add(cast(str, node["name"]))

    def _alias(self, node: Tree) -> None:
        self.given_names.add(cast(str, node.get("aliasname", "")))
        self._name_columns(node.get("colnames"))

    def _name_columns(self, names: object) -> None:
        self.given_names.update(
            name["String"].get("sval", "") for name in cast("list[dict[str, dict[str, str]]]", names or [])
        )

    def _column_definition(self, node: Tree) -> None:
        self.given_names.add(cast(str, node.get("colname", "")))

    def _sample(self, node: Tree) -> None:
        self.varies = "it draws a sample (TABLESAMPLE)"
        schema, name = name_of(node["method"])
        if schema not in ("", "pg_catalog") or name not in SAMPLING_METHODS:
            self.write_reason = f"its sampling method {name} is not known"


_VISITORS: Final = {
    "FuncCall": Found._call,  # noqa: SLF001 - the table of its own methods
    "RangeVar": Found._relation,  # noqa: SLF001
    "CopyStmt": Found._copy,  # noqa: SLF001
    "TruncateStmt": Found._truncate,  # noqa: SLF001
    "CommonTableExpr": Found._with_query,  # noqa: SLF001
    "DoStmt": Found._do,  # noqa: SLF001
    "LockingClause": Found._lock,  # noqa: SLF001
    "intoClause": Found._into,  # noqa: SLF001
    "A_Expr": Found._expression,  # noqa: SLF001
    "SubLink": Found._sublink,  # noqa: SLF001
    "SortBy": Found._sort,  # noqa: SLF001
    "CaseExpr": Found._case,  # noqa: SLF001
    "JoinExpr": Found._join,  # noqa: SLF001
    "typeName": Found._type,  # noqa: SLF001
    "TypeName": Found._type,  # noqa: SLF001
    "ColumnRef": Found._column,  # noqa: SLF001
    "A_Indirection": Found._indirection,  # noqa: SLF001
    "RangeTableSample": Found._sample,  # noqa: SLF001
    "funccall": Found._procedure,  # noqa: SLF001
    "TypeCast": Found._conversion,  # noqa: SLF001
    "SQLValueFunction": Found._value_function,  # noqa: SLF001
    "RangeTableFunc": Found._taken_out,  # noqa: SLF001
    "JsonTable": Found._taken_out,  # noqa: SLF001
    "JsonFuncExpr": Found._json_function,  # noqa: SLF001
    "ResTarget": Found._target,  # noqa: SLF001
    "alias": Found._alias,  # noqa: SLF001
    "join_using_alias": Found._alias,  # noqa: SLF001
    "ColumnDef": Found._column_definition,  # noqa: SLF001
}


def _ways(kind: str, node: Tree) -> str:
    """How an INSERT, UPDATE, DELETE or MERGE may change its relation."""
    if kind == "InsertStmt":
        conflict = cast(Tree, node.get("onConflictClause", {}))
        return INSERTS + UPDATES if conflict.get("action") == "ONCONFLICT_UPDATE" else INSERTS
    if kind == "MergeStmt":
        return INSERTS + UPDATES + DELETES
    return UPDATES if kind == "UpdateStmt" else DELETES


def name_of(parts: object) -> Name:
    """A possibly qualified name: the last part, and the schema before it; a database in front is passed over."""
    names = [part["String"].get("sval", "") for part in cast("list[dict[str, dict[str, str]]]", parts)]
    return (names[-2] if len(names) > 1 else "", names[-1])


def _relation_name(node: Tree) -> Name:
    return cast(str, node.get("schemaname", "")), cast(str, node["relname"])


def is_temporary(relation: Tree) -> bool:
    """Whether a relation that a statement creates is the session's own, by what is written of it."""
    return relation.get("relpersistence") == "t" or is_temporary_schema(cast(str, relation.get("schemaname", "")))


def is_temporary_schema(schema: str) -> bool:
    """pg_temp, or the name that it really has: no other schema may be called so."""
    return schema == "pg_temp" or schema.startswith("pg_temp_")


def constant_of(node: Tree) -> str:
    """A constant's text: {"sval": {"sval": "on"}, "location": 3}."""
    for part in node.values():
        if isinstance(part, dict):
            return str(next(iter(part.values()), ""))
    return ""


def options_of(explain: Tree) -> dict[str, str]:
    """EXPLAIN's options by name; one without a value is on."""
    found: dict[str, str] = {}
    for option in cast("list[dict[str, Tree]]", explain.get("options", [])):
        element = option["DefElem"]
        argument = cast("dict[str, Tree]", element.get("arg", {}))
        value = "true"
        for kind, node in argument.items():
            # 0 is left out of the JSON.
            value = constant_of(node) if kind == "A_Const" else str(next(iter(node.values()), "0"))
        found[str(element["defname"]).lower()] = value.lower()
    return found
