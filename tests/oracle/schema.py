"""A database with everything that hides a write, or a dependence on the node, behind the look of a read.

Names that say `vol` write: they move the sequence `mark` or fill the table `marks`, so that a standby refuses them.
Names that say `sly` do the same and are declared stable or immutable. Names that say `honest` only read.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from middleware.sandbox import Sandbox

CLERK: Final = "oracle_clerk"
"""A role that owns nothing, is subject to row security, and has a schema of its own name on its search path."""

AS_SUPERUSER: Final = f"""
CREATE SCHEMA other AUTHORIZATION app;
CREATE SCHEMA "Odd Schema" AUTHORIZATION app;
CREATE SCHEMA {CLERK} AUTHORIZATION app;
GRANT CREATE ON SCHEMA public TO app;
GRANT USAGE ON SCHEMA other, "Odd Schema", {CLERK} TO {CLERK};

-- Operators and casts of an extension, all of them immutable, where there is one.
DO $$BEGIN CREATE EXTENSION vector; EXCEPTION WHEN OTHERS THEN NULL; END$$;

-- Nothing reads a foreign table here: its wrapper has no handler. Where it may be read nobody can tell.
CREATE FOREIGN DATA WRAPPER empty_wrapper;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER empty_wrapper;
CREATE FOREIGN TABLE distant (id int) SERVER elsewhere;
GRANT USAGE ON FOREIGN SERVER elsewhere TO app;
GRANT SELECT ON distant TO app, {CLERK};
"""

TABLES: Final = """
CREATE SEQUENCE mark;
CREATE SEQUENCE "Odd Seq";
CREATE TABLE marks (n int);

CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE plain (
    id int PRIMARY KEY, owner text NOT NULL, amount numeric(10, 2), made timestamptz, tags text[], doc jsonb,
    feeling mood, active boolean DEFAULT true
);
INSERT INTO plain
SELECT n, 'owner' || n % 3, n * 1.5, timestamptz '2024-01-01 00:00:00+00' + n * interval '1 day', ARRAY['a', 'b' || n],
       jsonb_build_object('n', n, 'list', jsonb_build_array(n, n + 1)), 'calm', n % 2 = 0
  FROM generate_series(1, 12) n;
CREATE INDEX plain_owner ON plain (lower(owner));
CREATE TABLE detail (id int PRIMARY KEY, plain_id int REFERENCES plain, note text, "order" int);
INSERT INTO detail SELECT n, 1 + n % 12, 'note ' || n, n FROM generate_series(1, 30) n;
CREATE TABLE "Odd Table" ("Id" int, "select" text);
INSERT INTO "Odd Table" VALUES (1, 'one'), (2, 'two');
CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY, note text);
INSERT INTO numbered (note) VALUES ('one'), ('two');
CREATE TABLE serially (id serial, note text);
INSERT INTO serially (note) VALUES ('one');
CREATE TABLE risks (id int, risk int);
INSERT INTO risks VALUES (1, 1);
CREATE TABLE other.plain (id int, owner text);
INSERT INTO other.plain VALUES (1, 'other');

CREATE UNLOGGED TABLE fleeting (id int);
INSERT INTO fleeting VALUES (1), (2);
CREATE TABLE parts (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
INSERT INTO parts VALUES (1, 'a'), (2, 'b');
CREATE TABLE mixed_parts (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE mixed_parts_a PARTITION OF mixed_parts FOR VALUES IN ('a');
CREATE UNLOGGED TABLE mixed_parts_b PARTITION OF mixed_parts FOR VALUES IN ('b');
INSERT INTO mixed_parts VALUES (1, 'a'), (2, 'b');
CREATE TABLE deep_parts (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE deep_parts_a PARTITION OF deep_parts FOR VALUES IN ('a') PARTITION BY LIST (id);
CREATE UNLOGGED TABLE deep_parts_a1 PARTITION OF deep_parts_a FOR VALUES IN (1);
CREATE TABLE far_parts (id int, kind text) PARTITION BY LIST (kind);
CREATE TABLE far_parts_a PARTITION OF far_parts FOR VALUES IN ('a');
CREATE FOREIGN TABLE far_parts_b PARTITION OF far_parts FOR VALUES IN ('b') SERVER elsewhere;
CREATE UNLOGGED TABLE fleeting_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (id int);
CREATE TABLE elder (id int);
CREATE UNLOGGED TABLE elder_child () INHERITS (elder);
INSERT INTO elder VALUES (1);
INSERT INTO elder_child VALUES (2);
"""

FUNCTIONS: Final = """
CREATE FUNCTION vol_sql(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT (nextval('public.mark') * 0)::int + n$$;
CREATE FUNCTION vol_plpgsql(n int) RETURNS int LANGUAGE plpgsql VOLATILE AS
    $$BEGIN INSERT INTO marks VALUES (n); RETURN n; END$$;
CREATE FUNCTION vol_named(n int DEFAULT 1, m int DEFAULT 2) RETURNS int LANGUAGE sql VOLATILE AS
    $$SELECT vol_sql(n + m)$$;
CREATE FUNCTION vol_many(VARIADIC n int[]) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT vol_sql(n[1])$$;
CREATE FUNCTION vol_rows(n int) RETURNS SETOF int LANGUAGE sql VOLATILE AS $$SELECT vol_sql(n)$$;
CREATE FUNCTION vol_table(n int) RETURNS TABLE (id int, note text) LANGUAGE sql VOLATILE AS
    $$SELECT vol_sql(n), 'note'$$;
CREATE FUNCTION vol_true(n int) RETURNS boolean LANGUAGE sql VOLATILE AS $$SELECT vol_sql(n) IS NOT NULL$$;
CREATE FUNCTION "Vol Odd"(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT vol_sql(n)$$;
CREATE FUNCTION "Odd Schema".vol_far(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(n)$$;
CREATE FUNCTION vol_new(n int) RETURNS int LANGUAGE sql VOLATILE BEGIN ATOMIC SELECT vol_sql(n); END;

CREATE FUNCTION honest_stable(n int) RETURNS int LANGUAGE sql STABLE AS
    $$SELECT n + (SELECT count(*) FROM public.plain)::int * 0$$;
CREATE FUNCTION honest_immutable(n int) RETURNS int LANGUAGE sql IMMUTABLE AS $$SELECT n + 1$$;
CREATE FUNCTION honest_plpgsql(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN RETURN (SELECT max(id) FROM public.plain WHERE id <= n); END$$;
CREATE FUNCTION honest_atomic(n int) RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT n + 1; END;
CREATE FUNCTION honest_rows(n int) RETURNS SETOF int LANGUAGE sql STABLE AS $$SELECT generate_series(1, n)$$;
CREATE FUNCTION honest_true(n int) RETURNS boolean LANGUAGE sql STABLE AS $$SELECT n > 0$$;
CREATE FUNCTION "Honest Odd"(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT n$$;

CREATE FUNCTION sly_stable(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN PERFORM nextval('public.mark'); RETURN n; END$$;
CREATE FUNCTION sly_sql(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT (nextval('public.mark') * 0)::int + n$$;
CREATE FUNCTION sly_atomic(n int) RETURNS int LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT (nextval('public.mark') * 0)::int + n; END;
CREATE FUNCTION sly_immutable(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN PERFORM nextval('public.mark'); RETURN n; END$$;
CREATE FUNCTION sly_wrapper(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT public.vol_sql(n)$$;
CREATE FUNCTION sly_operator(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN RETURN n OPERATOR(public.@~) n; END$$;
CREATE FUNCTION sly_fleeting(n int) RETURNS int LANGUAGE sql STABLE AS
    $$SELECT n + count(*)::int FROM public.fleeting$$;
CREATE FUNCTION sly_dynamic(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN EXECUTE 'SELECT next' || 'val(''public.mark'')'; RETURN n; END$$;

CREATE FUNCTION sly_quoted(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN RETURN public."Vol Odd"(n); END$$;
CREATE FUNCTION sly_unicode(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN RETURN public.U&"vol\\005fsql"(n); END$$;
CREATE FUNCTION sly_setting(n int) RETURNS int LANGUAGE sql STABLE AS
    $$SELECT n + length(current_setting('transaction_read_only'))$$;
CREATE FUNCTION sly_node(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT n + pg_is_in_recovery()::int$$;
CREATE FUNCTION sly_sequence(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$BEGIN RETURN (SELECT last_value FROM public.mark); END$$;
CREATE FUNCTION defaulted(n int DEFAULT vol_sql(1)) RETURNS int LANGUAGE sql STABLE AS $$SELECT n$$;

CREATE FUNCTION twin(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT n$$;
CREATE FUNCTION twin(n text) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT vol_sql(1)$$;
CREATE FUNCTION spin(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT n$$;
CREATE FUNCTION other.spin(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(n)$$;
CREATE FUNCTION rate(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT n$$;
CREATE FUNCTION oracle_clerk.rate(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(n)$$;
-- initcap(text) is built in; now() is found in pg_catalog first, unless the call says public.
CREATE FUNCTION initcap(n int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(n)$$;
CREATE FUNCTION public.now() RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(1)$$;

CREATE FUNCTION risk(row_ plain) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(1)$$;
CREATE FUNCTION tame(row_ plain) RETURNS int LANGUAGE sql STABLE AS $$SELECT (row_).id + 1$$;

CREATE PROCEDURE work(n int) LANGUAGE sql AS $$INSERT INTO marks VALUES (n)$$;
"""

HIDDEN_CALLS: Final = """
CREATE FUNCTION vol_pair(a int, b int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(a + b)$$;
CREATE FUNCTION honest_pair(a int, b int) RETURNS int LANGUAGE sql STABLE AS $$SELECT a + b$$;
CREATE FUNCTION vol_prefix(a int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(a)$$;
CREATE OPERATOR @~ (LEFTARG = int, RIGHTARG = int, FUNCTION = vol_pair);
CREATE OPERATOR @~ (RIGHTARG = int, FUNCTION = vol_prefix);
CREATE OPERATOR @! (LEFTARG = int, RIGHTARG = int, FUNCTION = honest_pair);
CREATE OPERATOR other.@! (LEFTARG = int, RIGHTARG = int, FUNCTION = vol_pair);

CREATE TYPE marked AS (v int);
CREATE FUNCTION vol_to_marked(n int) RETURNS marked LANGUAGE sql VOLATILE AS
    $$SELECT ROW(public.vol_sql(n))::public.marked$$;
CREATE CAST (int AS marked) WITH FUNCTION vol_to_marked(int) AS IMPLICIT;
CREATE FUNCTION takes_marked(m marked) RETURNS int LANGUAGE sql STABLE AS $$SELECT m.v$$;
CREATE TYPE paired AS (v int);
CREATE FUNCTION honest_to_paired(n int) RETURNS paired LANGUAGE sql STABLE AS $$SELECT ROW(n)::public.paired$$;
CREATE CAST (int AS paired) WITH FUNCTION honest_to_paired(int);

CREATE FUNCTION vol_add(a int, b int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(a + b)$$;
CREATE FUNCTION honest_add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS $$SELECT a + b$$;
CREATE FUNCTION vol_final(a int) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT public.vol_sql(a)$$;
CREATE AGGREGATE vol_sum(int) (SFUNC = vol_add, STYPE = int, INITCOND = '0');
CREATE AGGREGATE vol_ending_sum(int) (SFUNC = honest_add, STYPE = int, FINALFUNC = vol_final, INITCOND = '0');
CREATE AGGREGATE vol_moving_sum(int) (
    SFUNC = honest_add, STYPE = int, INITCOND = '0',
    MSFUNC = vol_add, MINVFUNC = vol_add, MSTYPE = int, MINITCOND = '0'
);
CREATE AGGREGATE honest_sum(int) (SFUNC = honest_add, STYPE = int, INITCOND = '0');

CREATE DOMAIN tight AS int CHECK (vol_true(VALUE));
CREATE DOMAIN tighter AS tight CHECK (VALUE > 0);
CREATE DOMAIN loose AS int CHECK (VALUE > 0);
CREATE TYPE holder AS (v tight);
CREATE TYPE span AS RANGE (subtype = int);
CREATE TABLE domained (id int, v tight);
INSERT INTO domained VALUES (1, 1);
CREATE FUNCTION takes_tight(n tight) RETURNS int LANGUAGE sql STABLE AS $$SELECT n::int$$;
CREATE FUNCTION gives_tight(n int) RETURNS tight LANGUAGE sql STABLE AS $$SELECT n$$;
CREATE FUNCTION gives_loose(n int) RETURNS loose LANGUAGE sql STABLE AS $$SELECT n$$;
CREATE TYPE tight_range AS RANGE (subtype = tight);
CREATE FUNCTION vol_pair_true(a int, b int) RETURNS boolean LANGUAGE sql VOLATILE AS
    $$SELECT public.vol_sql(a + b) IS NOT NULL$$;
CREATE OPERATOR ~@ (LEFTARG = int, RIGHTARG = int, FUNCTION = vol_pair_true);
CREATE FUNCTION sly_cast(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$BEGIN RETURN (n::public.marked).v; END$$;
CREATE FUNCTION sly_check(n int) RETURNS int LANGUAGE sql STABLE AS $$SELECT n::public.tight::int$$;
CREATE FUNCTION sly_variable(n int) RETURNS int LANGUAGE plpgsql STABLE AS
    $$DECLARE v public.tight := n; BEGIN RETURN v; END$$;
CREATE FUNCTION takes_loose(n loose) RETURNS int LANGUAGE sql STABLE AS $$SELECT n::int$$;

CREATE TABLE guarded (id int, owner text);
INSERT INTO guarded VALUES (1, 'a'), (2, 'b');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY watch ON guarded USING (vol_true(id));
CREATE TABLE watched (id int);
INSERT INTO watched VALUES (1);
ALTER TABLE watched ENABLE ROW LEVEL SECURITY;
CREATE POLICY watch ON watched USING (vol_true(id));
CREATE TABLE fenced (id int, owner text);
INSERT INTO fenced VALUES (1, 'app'), (2, 'oracle_clerk');
ALTER TABLE fenced ENABLE ROW LEVEL SECURITY;
ALTER TABLE fenced FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON fenced USING (owner = current_user);
"""

VIEWS: Final = """
CREATE VIEW vol_view AS SELECT id, vol_sql(id) AS v FROM plain;
CREATE VIEW nested_view AS SELECT id, v FROM vol_view;
CREATE VIEW deep_view AS SELECT (SELECT max(v) FROM nested_view) AS id;
CREATE VIEW operator_view AS SELECT id, id @~ 1 AS v FROM plain;
CREATE VIEW cast_view AS SELECT id, (id::marked).v AS v FROM plain;
CREATE VIEW domain_view AS SELECT id, id::tight AS v FROM plain;
CREATE VIEW aggregate_view AS SELECT vol_sum(id) AS id FROM plain;
CREATE VIEW fleeting_view AS SELECT id FROM fleeting;
CREATE VIEW parts_view AS SELECT id FROM mixed_parts;
CREATE VIEW guarded_view AS SELECT id FROM guarded;
CREATE VIEW invoker_view WITH (security_invoker = true) AS SELECT id FROM guarded;
CREATE VIEW sly_view AS SELECT id, sly_stable(id) AS v FROM plain;
CREATE VIEW from_view AS SELECT id FROM vol_table(1);
CREATE VIEW node_view AS SELECT 1 AS id, pg_is_in_recovery() AS standby;
CREATE VIEW public.pg_tables AS SELECT vol_sql(1) AS id;
CREATE VIEW sequence_view AS SELECT last_value AS id FROM mark;
CREATE VIEW setting_view AS SELECT length(current_setting('transaction_read_only')) AS id;
CREATE VIEW "Odd View" AS SELECT vol_sql(1) AS id;

CREATE VIEW honest_view AS SELECT id, owner, honest_stable(id) AS v FROM plain;
CREATE VIEW nested_honest_view AS SELECT id, v, lower(owner) AS owner FROM honest_view WHERE id > 1;
CREATE VIEW clock_view AS SELECT id, now() AS at FROM plain;
CREATE VIEW catalog_view AS SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace;

CREATE MATERIALIZED VIEW stored AS SELECT id, amount FROM plain;
CREATE MATERIALIZED VIEW vol_stored AS SELECT id, vol_sql(id) AS v FROM plain;
CREATE UNIQUE INDEX ON stored (id);

SELECT lo_from_bytea(424242, 'large');
"""

AFTERWARDS: Final = f"""
GRANT SELECT ON ALL TABLES IN SCHEMA public, other TO {CLERK};
GRANT INSERT ON marks TO {CLERK};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {CLERK};
"""


@contextmanager
def oracle_database(cluster: Sandbox, name: str = "oracle") -> Iterator[str]:
    """A database of this kind with the role that goes with it, replayed on all standbys; dropped in the end."""
    cluster.passwords[CLERK] = secrets.token_hex(12)
    cluster.query(
        f"DROP DATABASE IF EXISTS {name} WITH (FORCE);\n"
        f"CREATE DATABASE {name} OWNER {cluster.user};\n"
        f"CREATE ROLE {CLERK} LOGIN PASSWORD '{cluster.passwords[CLERK]}';\n",
        database="postgres",
    )
    try:
        cluster.query(AS_SUPERUSER, database=name)
        cluster.query(TABLES + FUNCTIONS + HIDDEN_CALLS + VIEWS + AFTERWARDS, user=cluster.user, database=name)
        cluster.query("VACUUM;\nANALYZE plain, detail, parts", database=name)
        cluster.wait_for_replay()
        yield name
    finally:
        cluster.query(f"DROP DATABASE {name} WITH (FORCE);\nDROP ROLE {CLERK};\n", database="postgres")
        del cluster.passwords[CLERK]
