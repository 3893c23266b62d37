"""The database of `schema`, made worse while routing watches: what was harmless must stay on the primary from now on.

Made afterwards, since some of it is so rare, and so hard to tell from the ordinary, that routing may well keep more on
the primary than it must. It shows as well that a catalog read again is one acted upon.
"""

from typing import Final, NamedTuple

from tests.oracle.schema import CLERK
from tests.oracle.statement import APP, SUPERUSER, Statement, Where

_OPERATOR_CLASS: Final = """
-- Operators that no text shows: IN, CASE, NULLIF and JOIN USING mean "=", sorting and DISTINCT an operator class.
CREATE TYPE public.odd AS (v int);
GRANT USAGE ON TYPE public.odd TO app;
CREATE FUNCTION public.vol_eq(a odd, b odd) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(1) > 0 AND a.v = b.v; END$$;
CREATE FUNCTION public.vol_lt(a odd, b odd) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(1) > 0 AND a.v < b.v; END$$;
CREATE FUNCTION public.vol_le(a odd, b odd) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(1) > 0 AND a.v <= b.v; END$$;
CREATE FUNCTION public.vol_gt(a odd, b odd) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(1) > 0 AND a.v > b.v; END$$;
CREATE FUNCTION public.vol_ge(a odd, b odd) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(1) > 0 AND a.v >= b.v; END$$;
CREATE FUNCTION public.vol_cmp(a odd, b odd) RETURNS int LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(a.v) - b.v; END$$;
CREATE FUNCTION public.vol_like(a odd, b text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
    $$BEGIN RETURN public.vol_sql(1) > 0; END$$;
CREATE OPERATOR public.= (LEFTARG = odd, RIGHTARG = odd, FUNCTION = vol_eq, COMMUTATOR = OPERATOR(public.=));
CREATE OPERATOR public.< (LEFTARG = odd, RIGHTARG = odd, FUNCTION = vol_lt, COMMUTATOR = OPERATOR(public.>));
CREATE OPERATOR public.<= (LEFTARG = odd, RIGHTARG = odd, FUNCTION = vol_le, COMMUTATOR = OPERATOR(public.>=));
CREATE OPERATOR public.> (LEFTARG = odd, RIGHTARG = odd, FUNCTION = vol_gt);
CREATE OPERATOR public.>= (LEFTARG = odd, RIGHTARG = odd, FUNCTION = vol_ge);
CREATE OPERATOR public.~~ (LEFTARG = odd, RIGHTARG = text, FUNCTION = vol_like);
CREATE OPERATOR CLASS public.odd_ops DEFAULT FOR TYPE odd USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 vol_cmp(odd, odd);
CREATE TABLE public.odds (o odd, n int);
INSERT INTO public.odds VALUES (ROW(1), 1), (ROW(2), 2);
GRANT SELECT ON public.odds TO app;
"""

_CHANGES: Final = f"""
CREATE OR REPLACE FUNCTION honest_plpgsql(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS
    $$BEGIN INSERT INTO public.marks VALUES (n); RETURN n; END$$;
ALTER FUNCTION honest_immutable(int) VOLATILE;
CREATE OR REPLACE FUNCTION honest_immutable(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(n)$$;
CREATE FUNCTION abs(n text) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(1)$$;
CREATE OR REPLACE VIEW honest_view AS SELECT id, owner, vol_sql(id) AS v FROM plain;
ALTER TABLE parts_a SET UNLOGGED;
ALTER DOMAIN loose ADD CHECK (vol_true(VALUE));
ALTER TABLE detail ENABLE ROW LEVEL SECURITY;
ALTER TABLE detail FORCE ROW LEVEL SECURITY;
CREATE POLICY watch ON detail USING (vol_true(id));
ALTER TABLE risks RENAME TO dangers;
CREATE VIEW risks AS SELECT vol_sql(1) AS risk;
CREATE FUNCTION owner(row_ numbered) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(1)$$;
CREATE FUNCTION mood(n int) RETURNS mood LANGUAGE sql VOLATILE AS $$SELECT vol_sql(n); SELECT 'calm'::mood$$;
CREATE CAST (int AS mood) WITH FUNCTION mood(int);
GRANT SELECT ON ALL TABLES IN SCHEMA public, other TO {CLERK};
"""

_AFTER_CHANGES: Final = (
    "SELECT honest_plpgsql(3)",
    "SELECT honest_immutable(3)",
    "SELECT abs('3'::text)",
    "SELECT * FROM honest_view",
    "SELECT * FROM nested_honest_view",
    "SELECT * FROM parts",
    "SELECT * FROM parts_a",
    "SELECT 5::loose",
    "SELECT takes_loose(5)",
    "SELECT * FROM detail",
    "SELECT count(*) FROM plain JOIN detail ON detail.plain_id = plain.id",
    "SELECT risk FROM risks",
    "SELECT n.owner FROM numbered n",
    "SELECT 1::mood",
    "SELECT CAST(id AS mood) FROM plain",
)

_OPERATORS: Final = (
    "SELECT a.o = b.o FROM odds a, odds b",
    "SELECT n FROM odds WHERE o = ROW(1)::odd",
    "SELECT n FROM odds WHERE o <= ROW(1)::odd",
    "SELECT n FROM odds WHERE o IN (ROW(1)::odd, ROW(3)::odd)",
    "SELECT n FROM odds WHERE o = ANY (ARRAY[ROW(1)::odd])",
    "SELECT n FROM odds WHERE o IN (SELECT o FROM odds)",
    "SELECT n FROM odds WHERE (o, n) = (ROW(1)::odd, 1)",
    "SELECT n FROM odds WHERE o BETWEEN ROW(1)::odd AND ROW(2)::odd",
    "SELECT n FROM odds WHERE o IS DISTINCT FROM ROW(1)::odd",
    "SELECT n FROM odds WHERE o LIKE '(1)'",
    "SELECT nullif(o, ROW(1)::odd) FROM odds",
    "SELECT CASE o WHEN ROW(1)::odd THEN 1 END FROM odds",
    "SELECT a.n FROM odds a JOIN odds b USING (o)",
    "SELECT a.n FROM odds a NATURAL JOIN odds b",
    "SELECT greatest(o, ROW(1)::odd) FROM odds",
    "SELECT n FROM odds ORDER BY o",
    "SELECT n FROM odds ORDER BY o USING >",
    "SELECT DISTINCT o FROM odds",
    "SELECT o FROM odds GROUP BY o",
    "SELECT count(DISTINCT o) FROM odds",
    "SELECT array_agg(n ORDER BY o) FROM odds",
    "SELECT rank() OVER (ORDER BY o) FROM odds",
    "SELECT o FROM odds UNION SELECT o FROM odds",
    "SELECT o FROM odds INTERSECT SELECT o FROM odds",
    "SELECT ARRAY[a.o] = ARRAY[b.o] FROM odds a, odds b",
    "SELECT array_position(array_agg(o), ROW(2)::odd) FROM odds",
    "SELECT ROW(a.o, 1) < ROW(b.o, 2) FROM odds a, odds b",
    "SELECT a = b FROM odds a, odds b",
)

_SPARED: Final = (
    "SELECT * FROM stored",
    "TABLE fenced",
    'SELECT honest_stable(1), "Honest Odd"(1)',
    "SELECT 1::paired",
)

_SEARCH_PATH: Final = f"ALTER ROLE {CLERK} SET search_path = other, public"


class Stage(NamedTuple):
    """Changes, and what they make of some statements."""

    name: str
    user: str
    changes: str
    statements: list[Statement]


def stages() -> list[Stage]:
    """In the order in which they are to be made: each stays."""
    changed = [Statement(sql, Where.PRIMARY, "after a change of the catalog") for sql in _AFTER_CHANGES]
    spared = [Statement(sql, Where.STANDBY, "spared by the changes") for sql in _SPARED]
    operators = [Statement(sql, Where.PRIMARY, "an operator that no text shows") for sql in _OPERATORS]
    other_path = [Statement("SELECT spin(1)", Where.PRIMARY, "a role's search_path", user=CLERK)]
    return [
        Stage("changed", APP, _CHANGES, changed + spared),
        Stage("search_path", SUPERUSER, _SEARCH_PATH, other_path),
        Stage("operators", SUPERUSER, _OPERATOR_CLASS, operators),
    ]
