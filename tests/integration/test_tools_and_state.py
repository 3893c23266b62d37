"""PostgreSQL's own tools in transaction mode: the same output as on a connection of their own, and nothing left behind.

They run as people run them, while other clients take turns on the same few servers.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from middleware.sandbox import Sandbox
from tests.integration.conftest import Shared

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("crowd")]

SCHEMA: Final = r"""
CREATE SCHEMA sales;
CREATE TYPE sales.state AS ENUM ('open', 'paid');
CREATE DOMAIN sales.amount AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE SEQUENCE sales.numbers START 41 INCREMENT 2;
CREATE TABLE sales.customer (id serial PRIMARY KEY, name text NOT NULL, since timestamptz, data bytea, weight float8);
COMMENT ON TABLE sales.customer IS 'who buys: Ärger, Öl und ß';
CREATE TABLE sales.bill (
    number int PRIMARY KEY DEFAULT nextval('sales.numbers'),
    customer int NOT NULL REFERENCES sales.customer,
    total sales.amount, state sales.state DEFAULT 'open', lasts interval, made date
);
CREATE INDEX bill_made ON sales.bill (made) WHERE state = 'open';
CREATE TABLE sales.part (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE sales.part_2024 PARTITION OF sales.part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE VIEW sales.unpaid AS
    SELECT c.name, b.* FROM sales.bill b JOIN sales.customer c ON c.id = b.customer WHERE b.state = 'open';
CREATE MATERIALIZED VIEW sales.totals AS SELECT customer, sum(total) FROM sales.bill GROUP BY customer;
CREATE FUNCTION sales.touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.made := coalesce(NEW.made, '2024-02-29'); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT ON sales.bill FOR EACH ROW EXECUTE FUNCTION sales.touch();
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
COMMENT ON FUNCTION twice(int) IS 'doubles';
CREATE PROCEDURE tidy() LANGUAGE sql AS 'DELETE FROM sales.bill WHERE false';
CREATE TABLE plain (id int GENERATED ALWAYS AS IDENTITY, doc jsonb);
GRANT SELECT (name) ON sales.customer TO pointsman;
ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON plain USING (true);
INSERT INTO sales.customer (name, since, data, weight)
    SELECT 'Käufer ' || n, timestamptz '2024-03-31 01:30+00' + n * interval '1 hour', decode(md5(n::text), 'hex'),
        n / 3e0
    FROM generate_series(1, 300) n;
INSERT INTO sales.bill (customer, total, lasts)
    SELECT id, id * 1.11, id * interval '1 day 2 hours -3 seconds' FROM sales.customer;
INSERT INTO sales.part VALUES (1, '2024-05-01'), (2, '2024-06-01');
INSERT INTO plain (doc) VALUES ('{"a": [1, null]}');
SELECT lo_create(700001), lo_put(700001, 0, decode(repeat('00ff5c', 9000), 'hex')), lo_create(700002);
COMMENT ON LARGE OBJECT 700001 IS 'large';
"""
"""Something of each kind; the values are written differently under other settings of the session."""

DUMPS: Final = {
    "plain": [],
    "schema only": ["--schema-only"],
    "inserts, clean": ["--inserts", "--rows-per-insert=50", "--clean", "--if-exists"],
    "other encoding": ["--encoding=LATIN1"],
    "quoted": ["--quote-all-identifiers", "--lock-wait-timeout=5000"],
    "serializable": ["--serializable-deferrable", "--enable-row-security"],
    "one schema": ["--schema=sales", "--large-objects"],
    "custom": ["--format=custom"],
    "two jobs": ["--format=directory", "--jobs=2"],
}
RESTORES: Final = {"plain": [], "two jobs": ["--jobs=2"], "one transaction": ["--single-transaction"]}

DESCRIPTIONS: Final = r"""
\d
\d+ sales.bill
\d sales.unpaid
\d sales.part
\d public.plain
\dt *.*
\dt+ sales.*
\dv sales.*
\dm sales.*
\df
\df+ twice
\sf twice
\sv sales.unpaid
\dn+
\du
\l
\dp sales.*
\ds sales.*
\di sales.*
\dT sales.*
\dD sales.*
\dd
\dy
\dx
\dl
\dc
\drds
\ddp
\dF
\do sales.*
"""

SESSION: Final = r"""
\timing off
\set limit 3
SELECT name, since, weight, lasts, data FROM sales.unpaid JOIN sales.customer USING (name) LIMIT :limit;
\encoding LATIN1
\encoding
SELECT 'Ärger' AS "Öl", name FROM sales.customer LIMIT 1;
\encoding UTF8
SELECT name FROM sales.customer LIMIT 1;
\x
\pset null '(null)'
SELECT * FROM sales.customer WHERE id = $1 \bind 7 \g
\x
\set AUTOCOMMIT off
INSERT INTO plain (doc) VALUES ('1') RETURNING doc;
SAVEPOINT one;
SELECT 1 / 0;
ROLLBACK TO one;
SELECT count(*) FROM plain;
ROLLBACK;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT nowhere;
SELECT count(*) FROM plain;
COMMIT;
\copy (SELECT name, lasts FROM sales.unpaid ORDER BY number LIMIT 3) TO STDOUT WITH (FORMAT csv, HEADER)
\set FETCH_COUNT 100
SELECT number, total FROM sales.bill ORDER BY number;
\unset FETCH_COUNT
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 3) n
\gexec
SELECT 5 AS five \gset
SELECT :five;
SELECT since FROM sales.customer WHERE id = 1 \gdesc
\lo_list
\errverbose
"""


@pytest.fixture(autouse=True)
def _schema(shared: Shared) -> None:
    shared.make(SCHEMA)


def run(cluster: Sandbox, program: str, *arguments: str, given: str = "", encoding: str = "UTF-8") -> tuple[str, str]:
    """What it writes to stdout and stderr."""
    answer = subprocess.run(
        [str(cluster.program(program)), *arguments],
        input=given.encode(encoding),
        capture_output=True,
        check=True,
        timeout=60,
        env={"LC_ALL": "C", "PGCLIENTENCODING": "UTF8"} if program == "psql" else {"LC_ALL": "C"},
    )
    # A dump guards its psql commands with a word that is another one each time.
    output = re.sub(rb"(?m)^\\(un)?restrict .*$", b"", answer.stdout)
    return output.decode(errors="surrogateescape"), answer.stderr.decode(errors="surrogateescape")


def dump(cluster: Sandbox, url: str, directory: Path, *options: str) -> tuple[str, str]:
    """A dump as SQL, whatever its format, and what was said on stderr."""
    if not any("--format" in option for option in options):
        return run(cluster, "pg_dump", *options, url)
    output, said = run(cluster, "pg_dump", *options, f"--file={directory / 'dump'}", url)
    assert output == ""
    return run(cluster, "pg_restore", "--file=-", str(directory / "dump"))[0].partition("\nSET ")[2], said


@pytest.fixture
def made(request: pytest.FixtureRequest, shared: Shared) -> Iterator[str]:
    """An empty database of the user's."""
    shared.cluster.query(f"CREATE DATABASE made OWNER {shared.cluster.user}", database="postgres")
    shared.cluster.wait_for_replay()
    yield "made"
    shared.cluster.query("DROP DATABASE made WITH (FORCE)", database="postgres")
    shared.cluster.wait_for_replay()


def test_pg_dump_says_nothing_more(shared: Shared, tmp_path: Path) -> None:
    """It repeats what the server has to say when it is asked to be verbose."""
    said = {way: dump(shared.cluster, url, tmp_path, "--verbose")[1] for way, url in shared.urls().items()}
    assert "reading triggers" in said["direct"]
    assert said["pointsman"] == said["direct"]


@pytest.mark.parametrize("options", DUMPS.values(), ids=DUMPS)
def test_pg_dump(shared: Shared, tmp_path: Path, options: list[str]) -> None:
    dumps = {}
    for way, url in shared.urls().items():
        (tmp_path / way).mkdir()
        dumps[way] = dump(shared.cluster, url, tmp_path / way, *options)
    assert "CREATE TABLE" in dumps["direct"][0].replace('"', "")
    assert dumps["pointsman"] == dumps["direct"]


@pytest.mark.parametrize("options", RESTORES.values(), ids=RESTORES)
def test_pg_restore(shared: Shared, made: str, tmp_path: Path, options: list[str]) -> None:
    direct = shared.urls()["direct"]
    file = str(tmp_path / "dump")
    run(shared.cluster, "pg_dump", "--format=custom", f"--file={file}", shared.urls()["pointsman"])
    said = run(shared.cluster, "pg_restore", *options, f"--dbname={shared.urls(made)['pointsman']}", file)
    assert said == ("", "")
    before = dump(shared.cluster, direct, tmp_path)
    assert dump(shared.cluster, shared.urls(made)["direct"], tmp_path) == before
    assert dump(shared.cluster, shared.urls(made)["pointsman"], tmp_path) == before
    shared.assert_pristine(made)


def test_a_plain_dump_in_psql(shared: Shared, made: str, tmp_path: Path) -> None:
    script, _ = dump(shared.cluster, shared.urls()["direct"], tmp_path)
    quiet = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", str(tmp_path / "rows"))
    assert run(shared.cluster, "psql", *quiet, shared.urls(made)["pointsman"], given=script) == ("", "")
    assert dump(shared.cluster, shared.urls(made)["direct"], tmp_path)[0] == script
    shared.assert_pristine(made)


@pytest.mark.parametrize("commands", [DESCRIPTIONS, SESSION], ids=["descriptions", "session"])
def test_psql(shared: Shared, commands: str) -> None:
    heard = {
        way: run(shared.cluster, "psql", "-X", "-v", "VERBOSITY=verbose", url, given=commands)
        for way, url in shared.urls().items()
    }
    assert heard["pointsman"] == heard["direct"]


def test_psql_one_by_one(shared: Shared) -> None:
    """A description is a session of its own, as people have it with -c."""
    for command in (r"\d", r"\d+ sales.bill", r"\df+", r"\l", r"\du"):
        heard = {way: run(shared.cluster, "psql", "-X", "-c", command, url) for way, url in shared.urls().items()}
        assert heard["direct"][1] == ""
        assert heard["pointsman"] == heard["direct"]


@pytest.mark.parametrize(
    "program", [["vacuumdb", "--analyze", "--table=sales.bill"], ["reindexdb", "--table=sales.bill"]]
)
def test_maintenance(shared: Shared, program: list[str]) -> None:
    heard = {way: run(shared.cluster, *program, url) for way, url in shared.urls().items()}
    assert heard["pointsman"] == heard["direct"]
