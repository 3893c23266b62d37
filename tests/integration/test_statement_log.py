"""Slow statements in the log, and sampled ones: by their shape, with where and how long they ran."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import errors

from middleware.sandbox import Sandbox
from middleware.wire.frontend import Query
from tests.integration.test_logs import LITERAL, logged
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SLEEPS = "SELECT pg_sleep(%s), %s::text"


def test_a_slow_statement_is_told_by_its_shape(cluster: Sandbox, tmp_path: Path) -> None:
    routes = [{"name": "reports", "application_name": "report"}]
    with logged(cluster, tmp_path, log_min_duration=0.2, routes=routes) as it, it.connect("report") as client:
        client.execute("SELECT 1")
        client.execute(f"SELECT pg_sleep(0.3), '{LITERAL}' AS secret FROM generate_series(1, 1)")
        told = it.line("slow_statement")
        assert told["statement"] == "SELECT pg_sleep($1), $2 AS secret FROM generate_series($3, $4)"
        assert 0.3 <= told["duration_s"] < 5
        assert told["wait_s"] < 5
        assert (told["rows"], told["failed"], told["rule"]) == (1, False, "reports")
        assert (told["user"], told["database"]) == (it.endpoint.user, it.endpoint.database)
        assert told["application_name"] == "report"
        assert told["process_id"] == client.info.backend_pid
        assert (told["target"] == "primary") == (told["node"] == cluster.primary.name) == ("why" in told)
        assert "text" not in told
        client.execute(SLEEPS, (0.3, LITERAL))
        eventually(lambda: len(it.lines("slow_statement")) == 2)
        assert it.lines("slow_statement")[1]["statement"] == "SELECT pg_sleep($1), $2::text"
        with pytest.raises(errors.DivisionByZero):
            client.execute("SELECT 1 / (count(*)::int - 1) FROM pg_sleep(0.3)")
        failed = it.line("slow_statement", failed=True)
        assert failed["rows"] == 0
        client.execute("SELECT pg_sleep(0.3), txid_current()")
        writes = it.line("slow_statement", statement="SELECT pg_sleep($1), txid_current()")
        assert (writes["target"], writes["node"]) == ("primary", cluster.primary.name)
        assert writes["why"]
        assert LITERAL not in it.text()
        assert "0.3" not in "".join(line["statement"] for line in it.lines("slow_statement"))


def test_one_whose_client_has_gone_is_told(cluster: Sandbox, tmp_path: Path) -> None:
    ends = {"breaks": 20, "closes": 1.5, "late": 20}
    settings = {"log_min_duration": 0.5, "admin_users": ["app"]}
    with logged(cluster, tmp_path, **settings) as it, contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(it.raw(name)) for name in ends}
        for name, client in clients.items():
            client.send(Query(f"SELECT pg_sleep({ends[name]}), '{LITERAL}' AS {name}".encode()).encode())
        clients["closes"].half_close()
        time.sleep(0.7)
        clients["breaks"].reset()
        told = it.line("slow_statement", application_name="breaks")
        assert (told["failed"], told["unanswered"], told["rows"]) == (True, True, 0)
        assert told["statement"] == "SELECT pg_sleep($1), $2 AS breaks"
        assert 0.5 <= told["duration_s"] < 20
        # One that has only said that it sends no more is answered.
        answered = it.line("slow_statement", application_name="closes")
        assert (answered["failed"], "unanswered" in answered) == (False, False)
        assert answered["duration_s"] >= 1.5
        # One that is sent away is not.
        with psycopg.connect(it.endpoint.conninfo(), dbname="pointsman", autocommit=True) as console:
            console.execute(f"KILL_CLIENT {it.line('login', application_name='late')['process_id']}".encode())
        assert it.line("slow_statement", application_name="late")["unanswered"]
        assert LITERAL not in it.text()


def test_what_is_fast_is_not_told_and_a_rule_may_have_its_own_bound(cluster: Sandbox, tmp_path: Path) -> None:
    routes = [
        {"application_name": "strict", "log_min_duration": 0},
        {"application_name": "never", "log_min_duration": -1},
    ]
    with logged(cluster, tmp_path, log_min_duration=5, routes=routes) as it:
        for name in ("strict", "never", "other"):
            with it.connect(name) as client:
                client.execute(SLEEPS, (0.1, ""))
        assert it.line("slow_statement")["application_name"] == "strict"


def test_off_nothing_is_told(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path) as it, it.connect("any") as client:
        client.execute(SLEEPS, (0.1, ""))
        client.close()
        it.gone("any")
        assert not it.lines("slow_statement")
        assert not it.lines("sampled_statement")


def test_each_of_a_pipeline_has_its_own_time_and_shape(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, log_min_duration=0) as it, it.connect("pipe") as client:
        with client.pipeline() as pipeline:
            for number in range(3):
                client.execute(f"SELECT pg_sleep(0.2) AS n{number}")
                pipeline.sync()
        eventually(lambda: len(it.lines("slow_statement", application_name="pipe")) >= 3)
        told = [line for line in it.lines("slow_statement", application_name="pipe") if "AS n" in line["statement"]]
        assert [line["statement"] for line in told] == [f"SELECT pg_sleep($1) AS n{number}" for number in range(3)]
        assert all(0.15 < line["duration_s"] < 0.5 for line in told)


def test_prepared_statements_and_parts_of_batches(cluster: Sandbox, tmp_path: Path) -> None:
    """asyncpg parses and describes first, and executes later: the time is that of the second part."""

    async def ask(dsn: str) -> None:
        client = await asyncpg.connect(dsn, server_settings={"application_name": "asyncpg"})
        statement = await client.prepare("SELECT $1::text, pg_sleep($2)")
        await asyncio.sleep(0.5)
        for _ in range(2):
            await statement.fetch(LITERAL, 0.3)
        await client.close()

    with logged(cluster, tmp_path, log_min_duration=0.25) as it:
        endpoint = it.endpoint
        where = f"{endpoint.host}:{endpoint.port}/{endpoint.database}"
        asyncio.run(ask(f"postgresql://{endpoint.user}:{endpoint.password}@{where}"))
        it.gone("asyncpg")
        told = it.lines("slow_statement")
        assert [line["statement"] for line in told] == ["SELECT $1::text, pg_sleep($2)"] * 2
        assert all(0.3 <= line["duration_s"] < 0.75 for line in told)
        assert [line["rows"] for line in told] == [1, 1]
        assert LITERAL not in it.text()


def test_the_time_it_waited_for_a_server_is_told_apart(cluster: Sandbox, tmp_path: Path) -> None:
    settings = {"default_pool_size": 1, "consistency": "primary"}
    with logged(cluster, tmp_path, log_min_duration=0.2, **settings) as it:
        with it.connect("first") as first, it.connect("second") as second:
            first.execute("BEGIN")
            first.execute("SELECT 1")
            waits = threading.Thread(target=lambda: second.execute(SLEEPS, (0.3, "")))
            waits.start()
            time.sleep(0.6)
            first.execute("COMMIT")
            waits.join()
        told = it.line("slow_statement", application_name="second")
        assert told["wait_s"] > 0.4
        assert 0.3 <= told["duration_s"] < 0.6


def test_some_are_told_by_chance(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, log_sample_rate=0.2, log={"event_rate_max": 0}) as it, it.connect("one") as client:
        for _ in range(400):
            client.execute(f"SELECT '{LITERAL}'")
        client.close()
        it.gone("one")
        told = it.lines("sampled_statement")
        # Of 400 with one fifth each: beyond these only once in ten million runs.
        assert 40 <= len(told) <= 125
        assert {line["statement"] for line in told} == {"SELECT $1"}
        assert not it.lines("slow_statement")


def test_statements_are_told_as_they_were_sent_only_where_that_is_asked_for(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, log_min_duration=0, log_statement_text="on") as it, it.connect("text") as client:
        client.execute(f"SELECT '{LITERAL}'")
        told = it.line("slow_statement")
        assert told["text"] == f"SELECT '{LITERAL}'"
        assert told["statement"] == "SELECT $1"
        client.execute("SELECT %s", (LITERAL,), prepare=True)
        client.execute("SELECT %s", ("b",), prepare=True)
        eventually(lambda: len(it.lines("slow_statement", text="SELECT $1")) == 2)


def test_hostile_text_is_one_line(cluster: Sandbox, tmp_path: Path) -> None:
    hostile = 'SELECT 1 AS "a\nb\x1b[31m\u202e"'
    with logged(cluster, tmp_path, log_min_duration=0, log_statement_text="on") as it, it.connect("x") as client:
        client.execute(hostile.encode())
        assert it.line("slow_statement")["text"] == hostile


def test_without_digests(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, log_min_duration=0, digests_max=0) as it, it.connect("none") as client:
        client.execute("SELECT 1 AS a")
        with psycopg.Connection.pipeline(client):
            client.execute("SELECT 2 AS b")
        it.line("slow_statement", statement="SELECT $1 AS a")
        it.line("slow_statement", statement="SELECT $1 AS b")
