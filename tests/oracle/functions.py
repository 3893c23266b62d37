"""Every function, aggregate and window function there is, called with a small value for each argument.

Enumerated when it runs, so that a new version's functions are asked about too. Each becomes one statement, and is
either routed to the primary, or called on both nodes with equal outcome, or named in `known_functions` with a reason.
"""

from typing import Final, NamedTuple

from middleware.sandbox import Sandbox
from tests.oracle.examples import EXAMPLES
from tests.oracle.known_functions import DEPENDS, DIFFERS, READS, STAYS, TELLS
from tests.oracle.literals import literal
from tests.oracle.statement import SUPERUSER, Statement, Where

_QUERY: Final = """
SELECT n.nspname, p.proname, p.prokind, p.provolatile, coalesce(a.aggkind, ''), coalesce(a.aggnumdirectargs, 0),
       p.provariadic <> 0,
       array_to_string(ARRAY(SELECT CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN format_type(t.oid, NULL)
                                         WHEN t.typtype = 'p' THEN t.typname
                                         ELSE quote_ident(tn.nspname) || '.' || quote_ident(t.typname) END
                               FROM unnest(p.proargtypes) WITH ORDINALITY AS u(id, place)
                               JOIN pg_type t ON t.oid = u.id JOIN pg_namespace tn ON tn.oid = t.typnamespace
                              ORDER BY u.place), '|'),
       CASE WHEN n.nspname = 'pg_catalog' THEN quote_ident(p.proname)
            ELSE quote_ident(n.nspname) || '.' || quote_ident(p.proname) END
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
 WHERE p.prokind IN ('f', 'a', 'w')
 ORDER BY n.nspname, p.proname, p.oid
"""


class Function(NamedTuple):
    """One row of pg_proc."""

    schema: str
    name: str
    kind: str
    volatile: bool
    aggregate_kind: str
    direct_arguments: int
    variadic: bool
    argument_types: tuple[str, ...]
    written: str
    """The name as SQL writes it."""

    def call(self, arguments: list[str]) -> str:
        listed = ", ".join(arguments)
        if self.kind == "w":
            return f"SELECT {self.written}({listed}) OVER (ORDER BY v) FROM (VALUES (1), (2)) AS t(v)"
        if self.aggregate_kind in ("o", "h"):
            direct, sorted_by = arguments[: self.direct_arguments], arguments[self.direct_arguments :]
            if self.aggregate_kind == "h":
                # A hypothetical row: as many values as there are columns to sort by.
                direct, sorted_by = ["1"], ["v"]
            return (
                f"SELECT {self.written}({', '.join(direct)}) WITHIN GROUP (ORDER BY {', '.join(sorted_by)}) "
                "FROM (VALUES (1), (2)) AS t(v)"
            )
        return f"SELECT {self.written}({listed})"


def functions(cluster: Sandbox, database: str) -> list[Function]:
    """All of the database, those of our schema and of extensions included."""
    return [
        Function(
            schema, name, kind, volatility == "v", aggregate_kind, int(direct), variadic == "t",
            tuple(types.split("|")) if types else (), written,
        )
        for schema, name, kind, volatility, aggregate_kind, direct, variadic, types, written in cluster.query(
            _QUERY, database=database
        )
    ]  # fmt: skip


def calls(known: list[Function]) -> list[Statement]:
    """A call of each, by a superuser: what others may not call cannot be judged through them. Then the examples."""
    statements = []
    for function in known:
        variadic = "VARIADIC " if function.variadic and function.argument_types[-1] != '"any"' else ""
        arguments = [literal(name.strip('"') if name == '"any"' else name) for name in function.argument_types]
        if variadic:
            arguments[-1] = variadic + arguments[-1]
        statements.append(_asked(function, function.call(arguments)))
    by_name = {function.name: function for function in known}
    for example in EXAMPLES:
        named = by_name.get(example.partition("(")[0])
        if named is not None:
            statements.append(_asked(named, f"SELECT {example}"))
    return statements


def _asked(function: Function, sql: str) -> Statement:
    """What is known of a call before the nodes are asked."""
    name = function.name
    if function.schema not in ("pg_catalog", "information_schema"):
        return _own(function, sql)
    if reason := STAYS.reason(name):
        return Statement(sql, Where.PRIMARY, reason, user=SUPERUSER, callable=False)
    if reason := TELLS.reason(name) or DEPENDS.reason(name):
        return Statement(sql, Where.EITHER, reason, user=SUPERUSER, varies=True)
    if reason := DIFFERS.reason(name):
        return Statement(sql, Where.JUDGED, reason, user=SUPERUSER, varies=True)
    if function.volatile and not READS.reason(name):
        # It may do anything: called only when routing says that it is harmless.
        return Statement(sql, Where.EITHER, "volatile", user=SUPERUSER)
    return Statement(sql, Where.JUDGED, "answers alike", user=SUPERUSER)


def _own(function: Function, sql: str) -> Statement:
    """Ours say by their names what they do; an extension's are judged."""
    writes = function.name.lower().startswith(("vol_", "vol ", "sly_"))
    where = Where.PRIMARY if writes else Where.EITHER if function.volatile else Where.JUDGED
    return Statement(sql, where, "a schema's own", user=SUPERUSER)
