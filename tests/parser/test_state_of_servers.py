"""What a server has after a statement must be what the statement's text said it may leave."""

import asyncio
from typing import Any

import asyncpg
import pytest

from middleware.sandbox import Sandbox
from parser.session_state import (
    CURSORS,
    LEAVES,
    LISTEN,
    LOCKS,
    PREPARED,
    ROLES,
    SEED,
    SETTINGS,
    TEMPORARY,
)
from parser.shapes import FactsTable

ASK = {
    # Those of the transaction are no settings, and custom ones are not listed.
    SETTINGS: """SELECT concat(string_agg(name || setting, ',' ORDER BY name), current_setting('a.b', true))
        FROM pg_settings WHERE source = 'session' AND name !~ '^transaction_'""",
    ROLES: "SELECT session_user || ' ' || current_setting('role')",
    PREPARED: "SELECT count(*) FROM pg_prepared_statements",
    LISTEN: "SELECT count(*) FROM pg_listening_channels()",
    LOCKS: "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    TEMPORARY: "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass "
    "AND refobjid = pg_my_temp_schema() AND deptype = 'n'",
    CURSORS: "SELECT count(*) FROM pg_cursors WHERE is_holdable AND name <> ''",
}
"""What tells the state of a session, class by class."""

AFTER_SEED = 0.9851677175347999
"""What random() answers first after setseed(0.5)."""

LEFT = [
    ("SET work_mem = '5MB'", {SETTINGS}),
    ("SET sort_mem = 5120", {SETTINGS}),
    ("SET a.b = x", {SETTINGS}),
    ("BEGIN; SET LOCAL a.b = x; SET a.b FROM CURRENT; COMMIT", {SETTINGS}),
    ("SET TIME ZONE INTERVAL '1' HOUR TO MINUTE", {SETTINGS}),
    ("SET SCHEMA 'a'", {SETTINGS}),
    ("SET NAMES 'latin1'", {SETTINGS}),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", {SETTINGS}),
    ("SELECT set_config('A.B', 'x', NULL)", {SETTINGS}),
    ("SELECT set_config('a' || '.b', 'x', 'f')", {SETTINGS}),
    ("EXPLAIN (ANALYZE 1) SELECT set_config('a.b', 'x', false)", {SETTINGS}),
    ("UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'", {SETTINGS}),
    ("SET ROLE pg_monitor", {ROLES}),
    ('SET "ROLE" = pg_monitor', {ROLES}),
    ("SELECT set_config('Role', 'pg_monitor', false)", {ROLES}),
    ("SET SESSION AUTHORIZATION app", {ROLES}),
    ("PREPARE p AS SELECT 1", {PREPARED}),
    ("LISTEN c", {LISTEN}),
    ("SELECT pg_advisory_lock(1)", {LOCKS}),
    ("SELECT (1::bigint).pg_try_advisory_lock_shared", {LOCKS}),
    ("EXPLAIN ANALYZE SELECT pg_advisory_lock(1, 2)", {LOCKS}),
    ("CREATE TEMP TABLE t ()", {TEMPORARY}),
    ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", {TEMPORARY}),
    ("SELECT 1 INTO pg_temp.t UNION SELECT 2", {TEMPORARY}),
    ("CREATE TEMP RECURSIVE VIEW v (n) AS SELECT 1", {TEMPORARY}),
    ("CREATE SEQUENCE pg_temp.s", {TEMPORARY}),
    ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", {TEMPORARY}),
    ("CREATE TYPE pg_temp.e AS ENUM ('a')", {TEMPORARY}),
    ("CREATE TYPE pg_temp.r AS RANGE (subtype = int)", {TEMPORARY}),
    ("CREATE DOMAIN pg_temp.d AS int", {TEMPORARY}),
    ("CREATE AGGREGATE pg_temp.a (int) (sfunc = int4pl, stype = int)", {TEMPORARY}),
    ("CREATE OPERATOR pg_temp.<<>> (procedure = int4pl, leftarg = int, rightarg = int)", {TEMPORARY}),
    ("CREATE OPERATOR FAMILY pg_temp.f USING btree", {TEMPORARY}),
    ('CREATE COLLATION pg_temp.c FROM "C"', {TEMPORARY}),
    ("CREATE TEXT SEARCH CONFIGURATION pg_temp.c (copy = simple)", {TEMPORARY}),
    ("CREATE TEXT SEARCH DICTIONARY pg_temp.d (template = simple)", {TEMPORARY}),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", {CURSORS}),
    ("SELECT setseed(0.5)", {SEED}),
    ("SET seed = 0.5", {SEED}),
    ("BEGIN; SET LOCAL seed = 0.5; ROLLBACK", {SEED}),
    ("BEGIN; SELECT set_config('seed', '0.5', true); COMMIT", {SEED}),
    ("SET a.b = x; LISTEN c; SELECT pg_advisory_lock(1)", {SETTINGS, LISTEN, LOCKS}),
]

NOT_LEFT = [
    "BEGIN; SET LOCAL work_mem = '5MB'; COMMIT",
    "BEGIN; SET transaction_isolation = 'serializable'; COMMIT",
    "BEGIN; SELECT set_config('work_mem', '5MB', ' On '); COMMIT",
    "BEGIN; SELECT set_config('a.b', 'x', 'tr'); SELECT set_config('role', 'pg_monitor', bool '1'); COMMIT",
    "BEGIN; SET LOCAL ROLE pg_monitor; COMMIT",
    "BEGIN; SET LOCAL work_mem FROM CURRENT; COMMIT",
    "EXPLAIN SELECT set_config('a.b', 'x', false), pg_advisory_lock(1), setseed(0.5)",
    "EXPLAIN (ANALYZE 0) CREATE TEMP TABLE t AS SELECT 1",
    "CREATE TABLE IF NOT EXISTS kept (a text DEFAULT set_config('a.b', 'x', false)); DROP TABLE kept",
    "CREATE VIEW kept_view AS SELECT pg_try_advisory_lock(1); DROP VIEW kept_view",
    "SELECT pg_advisory_xact_lock(1)",
    "BEGIN; SELECT lo_open(lo_create(700100), 131072), pg_export_snapshot(), lo_unlink(700100); COMMIT",
    "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT",
    "NOTIFY c",
]


async def states_left(cluster: Sandbox, text: str) -> set[str]:
    """The classes of which a session has something after a text that it had not before."""
    connection: Any = await asyncpg.connect(cluster.url(user="postgres"), statement_cache_size=0)
    try:
        before = {state: await connection.fetchval(query) for state, query in ASK.items()}
        await connection.execute(text)
        # Asked for first: what makes the statements for the other questions must not be in the way.
        left = {SEED} if await connection.fetchval("SELECT random()") == AFTER_SEED else set()
        return left | {state for state, query in ASK.items() if await connection.fetchval(query) != before[state]}
    finally:
        await connection.close()


def told_to_be_left(text: str) -> set[str]:
    return {effect.state for effect in FactsTable().facts_of(text.encode()).effects if effect.action == LEAVES}


@pytest.mark.parametrize(("text", "left"), LEFT)
def test_what_a_server_has_was_told(cluster: Sandbox, text: str, left: set[str]) -> None:
    assert asyncio.run(states_left(cluster, text)) == left
    assert told_to_be_left(text) == left


@pytest.mark.parametrize("text", NOT_LEFT)
def test_what_is_not_told_is_not_left(cluster: Sandbox, text: str) -> None:
    assert asyncio.run(states_left(cluster, text)) == set()
    assert told_to_be_left(text) == set()
