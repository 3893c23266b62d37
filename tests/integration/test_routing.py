"""Reads are served by standbys, all else by the primary: asked of PostgreSQL itself."""

import contextlib
import json
from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WHO = "SELECT current_setting('cluster_name')"

Who = Callable[[str], str]


def asking(client: psycopg.Connection) -> Who:
    def who(sql: str) -> str:
        row = client.execute(sql).fetchone()
        assert row is not None
        return str(row[0])

    return who


def reads_on_a_standby(client: psycopg.Connection) -> bool:
    return asking(client)(WHO) != "db1"


def test_reads_go_to_standbys_and_all_else_to_the_primary(cluster: Sandbox, endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        who = asking(client)
        client.execute("CREATE TABLE IF NOT EXISTS routing (a int)")
        # The catalog is loaded when a database's first client comes, and again after DDL; until then all goes to the
        # primary, as do reads that no standby is fresh enough for.
        eventually(lambda: who(f"{WHO} FROM (SELECT count(*) FROM routing) AS x") != "db1")
        assert who("INSERT INTO routing VALUES (1) RETURNING current_setting('cluster_name')") == "db1"
        assert who(f"{WHO} FROM routing FOR UPDATE") == "db1"
        assert who("SELECT current_setting('cluster_name') || pg_backend_pid() || pg_is_in_recovery()").startswith(
            "db1"
        )
        with client.transaction():
            assert who(WHO) == "db1"
        eventually(lambda: who(WHO) != "db1")
    cluster.query("DROP TABLE routing")


def test_clients_are_spread_over_the_standbys(endpoint: Endpoint) -> None:
    def nodes() -> set[str]:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(psycopg.connect(endpoint.conninfo(), autocommit=True)) for _ in range(8)]
            return {asking(client)(WHO) for client in clients}

    # New clients each time: who has read on a standby stays there, and the other may have become fresh only then.
    eventually(lambda: nodes() == {"db2", "db3"})


def test_a_read_only_transaction_stays_on_a_standby(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        client.read_only = True
        eventually(lambda: asking(client)(WHO) != "db1")
        for _ in range(3):
            with client.transaction():
                first = asking(client)(WHO)
                assert first != "db1"
                client.execute("DECLARE c CURSOR FOR SELECT generate_series(1, 10)")
                assert client.execute("FETCH 3 FROM c").fetchall() == [(1,), (2,), (3,)]
                assert asking(client)(WHO) == first
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), client.transaction():
                    client.execute("CREATE TABLE never (a int)")
                assert asking(client)(WHO) == first


def test_serializable_transactions_stay_on_the_primary(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        eventually(lambda: asking(client)(WHO) != "db1")
        client.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
        assert asking(client)(WHO) == "db1"
        client.execute("COMMIT")


def test_a_client_that_has_a_temporary_table_reads_on_the_primary(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        eventually(lambda: asking(client)(WHO) != "db1")
        client.execute("CREATE TEMP TABLE mine (a int)")
        assert {asking(client)(WHO) for _ in range(5)} == {"db1"}


def test_a_client_can_ask_for_the_primary_and_say_what_its_reads_may_miss(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        who = asking(client)
        eventually(lambda: who(WHO) != "db1")
        assert who(f"/* pointsman: primary */ {WHO}") == "db1"
        client.execute("SET pointsman.route = 'primary'")
        assert who(WHO) == "db1"
        client.execute("RESET pointsman.route")
        eventually(lambda: who(WHO) != "db1")
        client.execute("SET pointsman.consistency = 'primary'")
        assert who(WHO) == "db1"
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=r'invalid value for .*consistency": "x"'):
            client.execute("SET pointsman.consistency = x")
        with pytest.raises(psycopg.errors.UndefinedObject, match=r'parameter "pointsman\.color"'):
            client.execute("SET pointsman.color = x")
    with pytest.raises(psycopg.OperationalError, match=r'parameter "pointsman\.consistency": "none"'):
        psycopg.connect(endpoint.conninfo(), options="-c pointsman.consistency=none")
    with psycopg.connect(endpoint.conninfo(), options="-c pointsman.route=primary", autocommit=True) as client:
        assert asking(client)(WHO) == "db1"


def test_a_client_that_asks_for_a_standby_gets_one_for_all_it_does(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True, options="-c pointsman.route=standby") as client:
        assert asking(client)(WHO) != "db1"
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            client.execute("CREATE TABLE never (a int)")
        with client.transaction():
            assert asking(client)(WHO) != "db1"
        client.execute("SET pointsman.route = 'auto'")
        with client.transaction():
            assert asking(client)(WHO) == "db1"


def test_a_view_that_turns_volatile_is_not_read_on_a_standby_again(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        client.execute("CREATE SEQUENCE turning_seq")
        client.execute("CREATE VIEW turning AS SELECT 1::bigint AS a")
        with psycopg.connect(endpoint.conninfo(), autocommit=True) as reader:
            eventually(lambda: asking(reader)("SELECT current_setting('cluster_name') FROM turning") != "db1")
            client.execute("CREATE OR REPLACE VIEW turning AS SELECT nextval('turning_seq') AS a")
            for _ in range(50):
                reader.execute("SELECT a FROM turning")
        client.execute("DROP VIEW turning; DROP SEQUENCE turning_seq")


def test_explain_route_tells_the_decision_and_all_it_rests_on(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        eventually(partial(reads_on_a_standby, client))
        lines = [row[0] for row in client.execute("EXPLAIN (ROUTE) SELECT lower('X'), nextval('s')").fetchall()]
        assert lines[:2] == ["Route to primary", "  Because it calls nextval(), which is volatile"]
        assert "  ->  it calls lower(): harmless on a standby" in lines
        assert "  ->  node db1, primary: takes it" in lines
        # The extended protocol, and a prepared statement.
        for prepare in (False, True):
            cursor = client.execute("EXPLAIN (ROUTE) SELECT 1", prepare=prepare, binary=True)
            assert cursor.fetchall()[0] == ("Route to standby",)
        assert cursor.description is not None
        assert cursor.description[0].name == "QUERY PLAN"
        row = client.execute("EXPLAIN (ROUTE, FORMAT JSON) SELECT 1").fetchone()
        assert row is not None
        assert json.loads(row[0])[0]["target"] == "standby"
        with client.transaction():
            assert client.execute("EXPLAIN (ROUTE) SELECT 2").fetchall()[1] == (
                "  Because it is part of a transaction",
            )
        # Off is off: then the option is PostgreSQL's to refuse.
        with pytest.raises(psycopg.errors.SyntaxError, match="unrecognized EXPLAIN option"):
            client.execute("EXPLAIN (ROUTE off) SELECT 1")


def test_a_client_can_be_told_where_its_statements_go(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        told: list[str | None] = []
        client.add_notice_handler(lambda diagnostic: told.append(diagnostic.message_primary))
        eventually(partial(reads_on_a_standby, client))
        node = asking(client)(WHO)
        assert asking(client)("SHOW pointsman.last_route").startswith(f"{node}: it only reads")
        client.execute("SET pointsman.notice_route = on")
        client.execute("SELECT 1 FOR UPDATE")
        assert told[-1] == "statement routed to db1: it locks rows (FOR UPDATE or FOR SHARE)"
        client.execute("SET pointsman.notice_route = off")
        told.clear()
        client.execute("SELECT 1 FOR UPDATE")
        assert told == []


def test_a_prepared_question_about_routing_is_answered_anew(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        question = "SHOW pointsman.last_route"
        for _ in range(2):
            client.execute("/* pointsman: primary */ SELECT 1")
            row = client.execute(question, prepare=True).fetchone()
            assert row == ("db1: a comment in it asks for the primary",)
            client.execute("/* pointsman: standby */ SELECT 1")
            row = client.execute(question, prepare=True).fetchone()
            assert row is not None
            assert ": a comment in it asks for a standby" in row[0]
            # Behind an error it is skipped, and so is what was sent for it.
            with client.pipeline() as pipeline:
                failing = client.execute("SELECT 1 / 0 /* pointsman: primary */")
                client.execute(question, prepare=True)
                with pytest.raises(psycopg.errors.DivisionByZero):
                    pipeline.sync()
            assert failing.statusmessage is None


def test_databases_that_do_not_exist_do_not_drive_out_those_that_do(endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        eventually(partial(reads_on_a_standby, client))
        for number in range(120):
            with pytest.raises(psycopg.OperationalError, match="does not exist"):
                psycopg.connect(endpoint._replace(database=f"absent_{number}").conninfo())
        eventually(partial(reads_on_a_standby, client))
