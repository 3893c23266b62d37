"""What statements do to the state of their session: a table of statements and what is told of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.facts import StatementFacts
from parser.session_state import STATES, StateEffect
from parser.shapes import FactsTable


def facts_of(text: str) -> StatementFacts:
    return FactsTable().facts_of(text.encode())


def told(effect: StateEffect) -> str:
    """An effect in one line: "settings leaves: SET [search_path] = 'a'"."""
    names = f" [{', '.join([*effect.names, '*'] if effect.any_name else effect.names)}]"
    value = "" if effect.value is None else f" = {effect.value!r}"
    return f"{effect.state} {effect.action}: {effect.statement}{names if names != ' []' else ''}{value}"


def effects(text: str) -> list[str]:
    return [told(effect) for effect in facts_of(text).effects]


DISCARD_ALL = [
    "settings undoes: DISCARD ALL [*]",
    "roles undoes: DISCARD ALL [session_authorization, role]",
    "prepared_statements undoes: DISCARD ALL [*]",
    "listen undoes: DISCARD ALL",
    "advisory_locks undoes: DISCARD ALL",
    "temporary_tables undoes: DISCARD ALL",
    "hold_cursors undoes: DISCARD ALL",
    "sequences undoes: DISCARD ALL",
    "unknown undoes: DISCARD ALL",
]

TABLE: list[tuple[str, list[str]]] = [
    # Settings.
    ("SET work_mem = 1", ["settings leaves: SET [work_mem]"]),
    ("SET SESSION work_mem TO '1MB'", ["settings leaves: SET [work_mem]"]),
    ('SET "Work_Mem" = 1', ["settings leaves: SET [work_mem]"]),
    ("SET DateStyle = iso, dmy", ["settings leaves: SET [datestyle]"]),
    ("SET app.tenant = 'x'", ["settings leaves: SET [app.tenant]"]),
    ('SET "App"."Tenant" = x', ["settings leaves: SET [app.tenant]"]),
    ("SET sort_mem = 64", ["settings leaves: SET [work_mem]"]),
    ("SET work_mem TO DEFAULT", ["settings undoes: RESET [work_mem]"]),
    ("SET work_mem FROM CURRENT", ["settings leaves: SET [work_mem]"]),
    ("SET search_path FROM CURRENT", ["settings leaves: SET [search_path]"]),
    ("SET ROLE a; SET role FROM CURRENT", ["roles leaves: SET ROLE [role]"] * 2),
    ("SET LOCAL work_mem FROM CURRENT", []),
    ("RESET work_mem", ["settings undoes: RESET [work_mem]"]),
    ("RESET app.tenant", ["settings undoes: RESET [app.tenant]"]),
    ("RESET vacuum_mem", ["settings undoes: RESET [maintenance_work_mem]"]),
    ("RESET ALL", ["settings undoes: RESET ALL [*]"]),
    ("SET TIME ZONE 'UTC'", ["settings leaves: SET [timezone]"]),
    ("SET TIME ZONE -3", ["settings leaves: SET [timezone]"]),
    ("SET TIME ZONE INTERVAL '1' HOUR TO MINUTE", ["settings leaves: SET [timezone]"]),
    ("SET TIME ZONE LOCAL", ["settings undoes: RESET [timezone]"]),
    ("RESET TIME ZONE", ["settings undoes: RESET [timezone]"]),
    ("SET NAMES 'utf8'", ["settings leaves: SET [client_encoding]"]),
    ("SET NAMES", ["settings undoes: RESET [client_encoding]"]),
    ("SET XML OPTION DOCUMENT", ["settings leaves: SET [xmloption]"]),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        ["settings leaves: SET SESSION CHARACTERISTICS [default_transaction_read_only]"],
    ),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, NOT DEFERRABLE",
        [
            "settings leaves: SET SESSION CHARACTERISTICS "
            "[default_transaction_isolation, default_transaction_deferrable]"
        ],
    ),
    ("UPDATE pg_settings SET setting = '1' WHERE name = 'x'", ["settings leaves: UPDATE of pg_settings [*]"]),
    ("UPDATE pg_catalog.pg_settings s SET setting = '1'", ["settings leaves: UPDATE of pg_settings [*]"]),
    ("UPDATE s.pg_settings SET setting = '1'", []),
    # The value of search_path, and of no other setting.
    ("SET search_path TO ''", ["settings leaves: SET [search_path] = ''"]),
    ("SET search_path TO a, 'b c', \"D\"", ["settings leaves: SET [search_path] = 'a, b c, D'"]),
    ('SET "Search_Path" = public', ["settings leaves: SET [search_path] = 'public'"]),
    ("SET SCHEMA 'a'", ["settings leaves: SET [search_path] = 'a'"]),
    ("SELECT set_config('Search_Path', '', false)", ["settings leaves: set_config() [search_path] = ''"]),
    ("SELECT set_config('search_path', $1, false)", ["settings leaves: set_config() [search_path]"]),
    ("SELECT set_config('search_path', NULL, false)", ["settings leaves: set_config() [search_path]"]),
    ("RESET search_path", ["settings undoes: RESET [search_path]"]),
    # What ends with the transaction, and what is ours.
    ("SET LOCAL work_mem = 1", []),
    ("SET LOCAL work_mem TO DEFAULT", ["settings undoes: SET LOCAL [work_mem]"]),
    ("SET LOCAL TIME ZONE 'UTC'", []),
    ("SET LOCAL ROLE a", []),
    ("SET LOCAL SESSION AUTHORIZATION a", []),
    ("SET TRANSACTION READ ONLY", []),
    ("SET TRANSACTION SNAPSHOT '0003-1'", []),
    ("SET transaction_isolation = 'serializable'", []),
    ("SELECT set_config('transaction_read_only', 'on', false)", []),
    ("SET CONSTRAINTS ALL DEFERRED", []),
    ("SET pointsman.consistency = 'session'", ["settings leaves: SET [pointsman.consistency]"]),
    ('SET "Pointsman"."Consistency" = session', ["settings leaves: SET [pointsman.consistency]"]),
    ("RESET pointsman.consistency", ["settings undoes: RESET [pointsman.consistency]"]),
    (
        "SELECT set_config('pointsman.consistency', 'session', false)",
        ["settings leaves: set_config() [pointsman.consistency]"],
    ),
    # Roles.
    ("SET ROLE a", ["roles leaves: SET ROLE [role]"]),
    ("SET SESSION ROLE 'a'", ["roles leaves: SET ROLE [role]"]),
    ("SET ROLE NONE", ["roles leaves: SET ROLE [role]"]),
    ("SET role TO a", ["roles leaves: SET ROLE [role]"]),
    ('SET "ROLE" = a', ["roles leaves: SET ROLE [role]"]),
    ("RESET ROLE", ["roles undoes: RESET ROLE [role]"]),
    ("SET role TO DEFAULT", ["roles undoes: RESET ROLE [role]"]),
    ("SET SESSION AUTHORIZATION a", ["roles leaves: SET SESSION AUTHORIZATION [session_authorization, role]"]),
    ("SET session_authorization = a", ["roles leaves: SET SESSION AUTHORIZATION [session_authorization, role]"]),
    ("SET SESSION AUTHORIZATION DEFAULT", ["roles undoes: RESET SESSION AUTHORIZATION [session_authorization, role]"]),
    ("RESET SESSION AUTHORIZATION", ["roles undoes: RESET SESSION AUTHORIZATION [session_authorization, role]"]),
    ("SELECT set_config('ROLE', 'a', false)", ["roles leaves: set_config() [role]"]),
    (
        "SELECT set_config('session_authorization', $1, false)",
        ["roles leaves: set_config() [session_authorization, role]"],
    ),
    # set_config().
    ("SELECT set_config('a.b', 'x', false)", ["settings leaves: set_config() [a.b]"]),
    ("SELECT pg_catalog.Set_Config('A.B', 'x', 'off')", ["settings leaves: set_config() [a.b]"]),
    ("SELECT \"set_config\"(U&'a.b', x, false) FROM t", ["settings leaves: set_config() [a.b]"]),
    ("SELECT set_config('a.b'::text, 'x', false::bool)", ["settings leaves: set_config() [a.b]"]),
    ("SELECT set_config(text 'a.b', 'x', NULL)", ["settings leaves: set_config() [a.b]"]),
    ("SELECT set_config('a.b', 'x', $1)", ["settings leaves: set_config() [a.b]"]),
    ("SELECT set_config('a.b', 'x', NOT false)", ["settings leaves: set_config() [a.b]"]),
    ("SELECT set_config($1, $2, false)", ["settings leaves: set_config() [*]"]),
    ("SELECT set_config('a.' || 'b', 'x', false)", ["settings leaves: set_config() [*]"]),
    ("SELECT set_config('a.b'::varchar(1), 'x', false)", ["settings leaves: set_config() [a.b, *]"]),
    ("SELECT set_config($1, $2, true)", []),
    ("SELECT set_config('a.b', 'x', true)", []),
    ("SELECT set_config('a.b', 'x', ' On ')", []),
    ("SELECT set_config('a.b', 'x', 'tr')", []),
    ("SELECT set_config('a.b', 'x', boolean 't')", []),
    ("SELECT set_config('a.b', 'x', CAST('1' AS bool))", []),
    ("SELECT s.set_config('a.b', 'x', false)", []),
    ("SELECT set_config('a.b', 'x')", []),
    ("SELECT current_setting('a.b')", []),
    # Wherever it stands.
    ("SELECT x FROM (SELECT set_config('a.b', '1', false) x) s", ["settings leaves: set_config() [a.b]"]),
    ("INSERT INTO t VALUES (set_config('a.b', '1', false))", ["settings leaves: set_config() [a.b]"]),
    ("UPDATE t SET a = (SELECT set_config('a.b', '1', false))", ["settings leaves: set_config() [a.b]"]),
    ("WITH x AS (SELECT set_config('a.b', '1', false)) DELETE FROM t", ["settings leaves: set_config() [a.b]"]),
    ("COPY (SELECT set_config('a.b', '1', false)) TO STDOUT", ["settings leaves: set_config() [a.b]"]),
    ("SELECT * FROM set_config('a.b', '1', false)", ["settings leaves: set_config() [a.b]"]),
    ("DECLARE c CURSOR FOR SELECT set_config('a.b', '1', false)", ["settings leaves: set_config() [a.b]"]),
    (
        "SELECT CASE WHEN a THEN set_config('a.b', '1', false) ELSE set_config('a.c', '1', false) END FROM t",
        ["settings leaves: set_config() [a.b]", "settings leaves: set_config() [a.c]"],
    ),
    # Random numbers: the seed outlives SET LOCAL, and cannot be reset.
    ("SET seed TO 0.5", ["random_seed leaves: SET seed"]),
    ("SET SEED = 0.5", ["random_seed leaves: SET seed"]),
    ("SET LOCAL seed = 0.5", ["random_seed leaves: SET seed"]),
    ("SELECT setseed(0.5)", ["random_seed leaves: setseed()"]),
    ("SELECT set_config('seed', '0.5', true)", ["random_seed leaves: set_config()"]),
    ("RESET seed", []),
    ("SELECT random()", []),
    # Notifications.
    ("LISTEN c", ["listen leaves: LISTEN"]),
    ("UNLISTEN c", ["listen undoes: UNLISTEN"]),
    ("UNLISTEN *", ["listen undoes: UNLISTEN"]),
    ("NOTIFY c, 'x'", []),
    ("SELECT pg_notify('c', 'x')", []),
    # Advisory locks.
    ("SELECT pg_advisory_lock(1)", ["advisory_locks leaves: pg_advisory_lock()"]),
    ("SELECT pg_catalog.pg_advisory_lock(1, $1)", ["advisory_locks leaves: pg_advisory_lock()"]),
    ("SELECT pg_advisory_lock_shared(a) FROM t", ["advisory_locks leaves: pg_advisory_lock_shared()"]),
    ("SELECT 1 WHERE pg_try_advisory_lock(1)", ["advisory_locks leaves: pg_try_advisory_lock()"]),
    ("SELECT 1 FROM pg_try_advisory_lock_shared(1)", ["advisory_locks leaves: pg_try_advisory_lock_shared()"]),
    ("SELECT (1::bigint).pg_advisory_lock", ["advisory_locks leaves: pg_advisory_lock()"]),
    ("SELECT pg_advisory_unlock(1)", ["advisory_locks undoes: pg_advisory_unlock()"]),
    ("SELECT pg_advisory_unlock_shared(1, 2)", ["advisory_locks undoes: pg_advisory_unlock_shared()"]),
    ("SELECT pg_advisory_unlock_all()", ["advisory_locks undoes: pg_advisory_unlock_all()"]),
    ("SELECT pg_advisory_lock(1), pg_advisory_lock(2)", ["advisory_locks leaves: pg_advisory_lock()"]),
    (
        "SELECT pg_advisory_lock(1), pg_advisory_unlock(pg_advisory_lock_shared(2))",
        [
            "advisory_locks leaves: pg_advisory_lock()",
            "advisory_locks undoes: pg_advisory_unlock()",
            "advisory_locks leaves: pg_advisory_lock_shared()",
        ],
    ),
    ("SELECT pg_advisory_xact_lock(1)", []),
    ("SELECT pg_try_advisory_xact_lock_shared(1)", []),
    ("SELECT s.pg_advisory_lock(1)", []),
    ("SELECT pg_advisory_lock FROM t", []),
    ("SELECT 'pg_advisory_lock(1)'", []),
    # The temporary schema.
    ("CREATE TEMP TABLE t (a int)", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("CREATE TEMP TABLE t () ON COMMIT DROP", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("CREATE LOCAL TEMPORARY TABLE t ()", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("CREATE TABLE pg_temp.t ()", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ('CREATE TABLE "pg_temp_3".t ()', ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("CREATE FOREIGN TABLE pg_temp.t () SERVER s", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("CREATE TEMP TABLE t AS SELECT 1", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("CREATE TABLE pg_temp.t AS TABLE u", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("SELECT 1 INTO TEMP t", ["temporary_tables leaves: SELECT INTO TEMPORARY TABLE"]),
    ("SELECT 1 INTO pg_temp.t UNION SELECT 2", ["temporary_tables leaves: SELECT INTO TEMPORARY TABLE"]),
    ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", ["temporary_tables leaves: CREATE TEMPORARY VIEW"]),
    ("CREATE TEMP RECURSIVE VIEW v (n) AS SELECT 1", ["temporary_tables leaves: CREATE TEMPORARY VIEW"]),
    ("CREATE TEMP SEQUENCE s", ["temporary_tables leaves: CREATE TEMPORARY SEQUENCE"]),
    ("CREATE SEQUENCE pg_temp.s", ["temporary_tables leaves: CREATE TEMPORARY SEQUENCE"]),
    (
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ["temporary_tables leaves: CREATE TEMPORARY FUNCTION"],
    ),
    ("CREATE TYPE pg_temp.t AS (a int)", ["temporary_tables leaves: CREATE TEMPORARY TYPE"]),
    ("CREATE TYPE pg_temp.t AS ENUM ('a')", ["temporary_tables leaves: CREATE TEMPORARY TYPE"]),
    ("CREATE TYPE pg_temp.t AS RANGE (subtype = int)", ["temporary_tables leaves: CREATE TEMPORARY TYPE"]),
    ("CREATE TYPE pg_temp.t", ["temporary_tables leaves: CREATE TEMPORARY TYPE"]),
    ("CREATE DOMAIN pg_temp.d AS int", ["temporary_tables leaves: CREATE TEMPORARY DOMAIN"]),
    (
        "CREATE AGGREGATE pg_temp.a (int) (sfunc = int4pl, stype = int)",
        ["temporary_tables leaves: CREATE TEMPORARY AGGREGATE"],
    ),
    ("CREATE OPERATOR pg_temp.+ (procedure = f)", ["temporary_tables leaves: CREATE TEMPORARY OPERATOR"]),
    ("CREATE OPERATOR FAMILY pg_temp.f USING btree", ["temporary_tables leaves: CREATE TEMPORARY OPERATOR FAMILY"]),
    (
        "CREATE OPERATOR CLASS pg_temp.c FOR TYPE int USING btree AS OPERATOR 1 <",
        ["temporary_tables leaves: CREATE TEMPORARY OPERATOR CLASS"],
    ),
    ('CREATE COLLATION pg_temp.c FROM "C"', ["temporary_tables leaves: CREATE TEMPORARY COLLATION"]),
    ("CREATE CONVERSION pg_temp.c FOR 'a' TO 'b' FROM f", ["temporary_tables leaves: CREATE TEMPORARY CONVERSION"]),
    ("CREATE STATISTICS pg_temp.s ON a, b FROM t", ["temporary_tables leaves: CREATE TEMPORARY STATISTICS"]),
    (
        "CREATE TEXT SEARCH CONFIGURATION pg_temp.c (copy = simple)",
        ["temporary_tables leaves: CREATE TEMPORARY TEXT SEARCH CONFIGURATION"],
    ),
    (
        "CREATE TEXT SEARCH DICTIONARY pg_temp.d (template = simple)",
        ["temporary_tables leaves: CREATE TEMPORARY TEXT SEARCH DICTIONARY"],
    ),
    (
        "CREATE TEXT SEARCH PARSER pg_temp.p (start = a)",
        ["temporary_tables leaves: CREATE TEMPORARY TEXT SEARCH PARSER"],
    ),
    (
        "CREATE TEXT SEARCH TEMPLATE pg_temp.p (lexize = a)",
        ["temporary_tables leaves: CREATE TEMPORARY TEXT SEARCH TEMPLATE"],
    ),
    ("DROP TABLE t", ["temporary_tables undoes: DROP"]),
    ("DROP FUNCTION IF EXISTS f CASCADE", ["temporary_tables undoes: DROP"]),
    ("DROP OWNED BY a", ["temporary_tables undoes: DROP"]),
    ("DISCARD TEMP", ["temporary_tables undoes: DISCARD TEMP"]),
    ("CREATE TABLE t (a int)", []),
    ("CREATE UNLOGGED TABLE t ()", []),
    ("CREATE TABLE t (LIKE pg_temp.u)", []),
    ("CREATE TABLE t AS SELECT * FROM pg_temp.u", []),
    ("CREATE INDEX ON pg_temp.t (a)", []),
    ("CREATE STATISTICS ON a, b FROM pg_temp.t", []),
    ("SELECT * INTO t FROM pg_temp.u", []),
    ("SELECT * FROM pg_temp.t", []),
    ("INSERT INTO pg_temp.t VALUES (1)", []),
    # Cursors.
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", ["hold_cursors leaves: DECLARE CURSOR WITH HOLD"]),
    ("DECLARE c BINARY SCROLL CURSOR WITH HOLD FOR SELECT 1", ["hold_cursors leaves: DECLARE CURSOR WITH HOLD"]),
    ("CLOSE c", ["hold_cursors undoes: CLOSE"]),
    ("CLOSE ALL", ["hold_cursors undoes: CLOSE"]),
    ("DECLARE c CURSOR FOR SELECT 1", []),
    ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", []),
    ("FETCH NEXT FROM c", []),
    # Prepared statements.
    ("PREPARE P AS SELECT 1", ["prepared_statements leaves: PREPARE [p]"]),
    ('PREPARE "P 1" (int) AS SELECT $1', ["prepared_statements leaves: PREPARE [P 1]"]),
    (
        "PREPARE p AS SELECT set_config('a.b', $1, false)",
        ["prepared_statements leaves: PREPARE [p]", "settings leaves: set_config() [a.b]"],
    ),
    (
        "PREPARE p AS SELECT pg_advisory_unlock(1)",
        ["prepared_statements leaves: PREPARE [p]", "advisory_locks undoes: pg_advisory_unlock()"],
    ),
    (
        "PREPARE p AS SELECT 1 AS a INTO TEMP t",
        ["prepared_statements leaves: PREPARE [p]", "temporary_tables leaves: SELECT INTO TEMPORARY TABLE"],
    ),
    ("PREPARE p AS SELECT lastval()", ["prepared_statements leaves: PREPARE [p]"]),
    ("EXECUTE P", ["prepared_statements uses: EXECUTE [p]"]),
    (
        "EXECUTE p (set_config('a.b', 'x', false))",
        ["prepared_statements uses: EXECUTE [p]", "settings leaves: set_config() [a.b]"],
    ),
    ("EXPLAIN EXECUTE p", ["prepared_statements uses: EXECUTE [p]"]),
    ("EXPLAIN ANALYZE EXECUTE p (1)", ["prepared_statements uses: EXECUTE [p]"]),
    ("CREATE TABLE t AS EXECUTE p (1)", ["prepared_statements uses: EXECUTE [p]"]),
    (
        "CREATE TEMP TABLE t AS EXECUTE p",
        ["temporary_tables leaves: CREATE TEMPORARY TABLE", "prepared_statements uses: EXECUTE [p]"],
    ),
    ("EXPLAIN CREATE TEMP TABLE t AS EXECUTE p", ["prepared_statements uses: EXECUTE [p]"]),
    ("DEALLOCATE p", ["prepared_statements undoes: DEALLOCATE [p]"]),
    ('DEALLOCATE PREPARE "P"', ["prepared_statements undoes: DEALLOCATE [P]"]),
    ("DEALLOCATE ALL", ["prepared_statements undoes: DEALLOCATE ALL [*]"]),
    ("PREPARE TRANSACTION 'p'", []),
    # Sequences.
    ("SELECT lastval()", ["sequences uses: lastval()"]),
    (
        "INSERT INTO t VALUES (currval('s'), pg_catalog.lastval())",
        ["sequences uses: currval()", "sequences uses: lastval()"],
    ),
    ("SELECT nextval('s'), setval('s', 1)", []),
    ("DISCARD SEQUENCES", ["sequences undoes: DISCARD SEQUENCES"]),
    # Code, libraries, everything.
    ("LOAD 'auto_explain'", ["libraries leaves: LOAD"]),
    ("DO $$ BEGIN END $$", ["unknown leaves: DO [*]"]),
    (
        "DO $$ BEGIN PERFORM set_config( 'A.Tenant', 'x', false); EXECUTE 'SET a.b = 1'; SET SESSION c.d TO 2; END $$",
        ["unknown leaves: DO [a.tenant, a.b, c.d, *]"],
    ),
    ("DO 'BEGIN PERFORM set_config(''a.b'', '''', false); END'", ["unknown leaves: DO [a.b, *]"]),
    ("DO 'BEGIN SET a.b = 1; SET a.b = 2; END' LANGUAGE plpgsql", ["unknown leaves: DO [a.b, *]"]),
    (
        "DO 'BEGIN SET LOCAL a.b = 1; SET work_mem = 1; SET pointsman.route = x; END'",
        ["unknown leaves: DO [pointsman.route, *]"],
    ),
    ("CALL p(1)", ["unknown leaves: CALL [*]"]),
    ("CALL p(set_config('a.b', 'x', false))", ["unknown leaves: CALL [*]", "settings leaves: set_config() [a.b]"]),
    ("SELECT dblink_connect('x')", ["unknown leaves: dblink_connect()"]),
    ("SELECT ext.dblink_connect_u('n', 'x')", ["unknown leaves: dblink_connect_u()"]),
    ("this is no statement", ["unknown leaves: a statement that could not be read [*]"]),
    ("DISCARD ALL", DISCARD_ALL),
    ("DISCARD PLANS", []),
    # What is explained runs with ANALYZE alone.
    ("EXPLAIN SELECT set_config('a.b', 'x', false)", []),
    ("EXPLAIN (ANALYZE off) SELECT pg_advisory_lock(1)", []),
    ("EXPLAIN (ANALYZE 0) SELECT pg_advisory_lock(1)", []),
    ("EXPLAIN (ANALYZE, ANALYZE false) SELECT pg_advisory_lock(1)", []),
    ("EXPLAIN (COSTS) CREATE TEMP TABLE t AS SELECT 1", []),
    ("EXPLAIN SELECT lastval()", ["sequences uses: lastval()"]),
    ("EXPLAIN ANALYZE SELECT set_config('a.b', 'x', false)", ["settings leaves: set_config() [a.b]"]),
    ("EXPLAIN (ANALYZE 1) SELECT pg_advisory_lock(1)", ["advisory_locks leaves: pg_advisory_lock()"]),
    ("EXPLAIN (ANALYZE on, COSTS off) SELECT 1 INTO TEMP t", ["temporary_tables leaves: SELECT INTO TEMPORARY TABLE"]),
    ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", ["temporary_tables leaves: CREATE TEMPORARY TABLE"]),
    ("EXPLAIN (ROUTE) SELECT set_config('a.b', 'x', false)", []),
    ("EXPLAIN (ROUTE, ANALYZE) SELECT lastval()", []),
    # What is kept for later does not run.
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN pg_advisory_lock(1)", []),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = 1 AS 'SELECT 1'", []),
    ("CREATE PROCEDURE p() BEGIN ATOMIC SELECT setseed(0); END", []),
    ("CREATE VIEW v AS SELECT set_config('a.b', 'x', false)", []),
    ("CREATE RULE r AS ON UPDATE TO t DO INSTEAD SELECT set_config('a.b', 'x', false)", []),
    ("CREATE TABLE t (a text DEFAULT set_config('a.b', 'x', false))", []),
    ("CREATE DOMAIN d AS int DEFAULT setseed(1)", []),
    ("CREATE SCHEMA s CREATE VIEW v AS SELECT lastval()", []),
    ("CREATE POLICY p ON t USING (pg_try_advisory_lock(1))", []),
    ("ALTER FUNCTION f() SET work_mem = 1", []),
    ("ALTER ROLE a SET work_mem = 1", []),
    ("ALTER DATABASE d RESET ALL", []),
    ("ALTER SYSTEM SET work_mem = 1", []),
    # What ends with its transaction.
    ("BEGIN", []),
    ("COMMIT", []),
    ("ROLLBACK TO s", []),
    ("LOCK TABLE t", []),
    ("SELECT lo_open(1, 2)", []),
    ("SELECT pg_export_snapshot()", []),
    # Nothing at all.
    ("", []),
    ("SELECT 1", []),
    ("SHOW search_path", []),
    ("COPY t FROM STDIN", []),
    ("TRUNCATE t", []),
    ("ALTER TABLE t DROP COLUMN a", []),
    # Several statements.
    ("SET a.b = 1; LISTEN c;", ["settings leaves: SET [a.b]", "listen leaves: LISTEN"]),
    (
        "SET search_path TO a; SET search_path TO b; SET search_path TO a",
        [f"settings leaves: SET [search_path] = '{path}'" for path in "aba"],
    ),
    (
        "BEGIN; SELECT pg_advisory_lock(1); PREPARE p AS SELECT 1; EXECUTE p; COMMIT",
        [
            "advisory_locks leaves: pg_advisory_lock()",
            "prepared_statements leaves: PREPARE [p]",
            "prepared_statements uses: EXECUTE [p]",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_effects(text: str, expected: list[str]) -> None:
    assert effects(text) == expected
    assert facts_of(text).special or not expected


@pytest.mark.parametrize("text", [text for text, _ in TABLE])
def test_comments_and_white_space_change_nothing(text: str) -> None:
    assert effects(f"  /* a */ {text} -- b") == effects(text)


def test_every_class_of_state_is_told_of() -> None:
    assert {line.split()[0] for _, expected in TABLE for line in expected} == set(STATES)


@given(st.lists(st.sampled_from([text for text, _ in TABLE]), min_size=2, max_size=8))
def test_what_a_table_has_read_before_changes_nothing(texts: list[str]) -> None:
    """Texts of one shape, such as set_config('a.b', 'x', true) and set_config('role', 'a', false), among others."""
    table = FactsTable()
    for text in texts:
        assert [told(effect) for effect in table.facts_of(text.encode()).effects] == effects(text)


@pytest.mark.parametrize(
    "texts",
    [
        ["SET search_path TO ''", "SET search_path TO 'a'", "SET search_path TO a", "SET search_path TO 1"],
        ["SET search_path = 1", "SET search_path = 2", "SET search_path = 10", "SET search_path = 20"],
        ["SET statement_timeout = 1", "SET statement_timeout = 2", "SET statement_timeout = 100"],
        [
            "SELECT set_config('a.b', '', true)",
            "SELECT set_config('a.b', '', false)",
            "SELECT set_config('c', '', false)",
        ],
        [
            "SELECT set_config($1, $2, $3)",
            "SELECT set_config('a.b', 'x', true)",
            "SELECT set_config('a.b', 'x', false)",
        ],
        ["EXPLAIN (ANALYZE 0) SELECT setseed(1)", "EXPLAIN (ANALYZE 1) SELECT setseed(1)"],
        ["EXPLAIN (ANALYZE 'off') SELECT setseed(1)", "EXPLAIN (ANALYZE 'on') SELECT setseed(1)"],
        ["EXPLAIN (ROUTE 0) SELECT lastval()", "EXPLAIN (ROUTE 1) SELECT lastval()"],
        ["DO 'BEGIN SET a.b = 1; END'", "DO 'BEGIN SET a.c = 1; END'"],
        ["EXECUTE p1", "EXECUTE p2", "EXECUTE p10"],
        ["PREPARE p AS SELECT set_config('a.b', '', true)", "PREPARE p AS SELECT set_config('a.b', '', false)"],
    ],
)
def test_texts_alike_are_told_apart(texts: list[str]) -> None:
    table = FactsTable()
    for text in [*texts, *reversed(texts)]:
        assert [told(effect) for effect in table.facts_of(text.encode()).effects] == effects(text), text


@pytest.mark.parametrize("setting", ["work_mem", "statement_timeout", "role", "timezone", "app.tenant"])
def test_a_plain_set_holds_for_all_its_values(setting: str) -> None:
    """Only search_path is read for each value anew."""
    table = FactsTable()
    assert table.facts_of(f"SET {setting} = 'a'".encode()) is table.facts_of(f"SET {setting} = 'b'".encode())
    assert not facts_of(f"SET {setting} = 'a'").depends_on_constants
