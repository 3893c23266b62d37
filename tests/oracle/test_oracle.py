"""A part of `make oracle` that fits into the tests: hand-written statements, and some composed at random."""

import random
from collections.abc import Iterator

import pytest

from middleware.sandbox import Sandbox
from tests.oracle.corpus import corpus, sample
from tests.oracle.generate import Generator
from tests.oracle.judge import Nodes
from tests.oracle.report import one_line
from tests.oracle.routed import Judge
from tests.oracle.schema import oracle_database
from tests.oracle.statement import Statement, Where
from tests.oracle.trial import Kind, Tally, try_all

pytestmark = pytest.mark.integration

GENERATED = 300
STAYED_MAX = 0.06
"""Of a sample in which what provokes is over-represented; `make oracle` tells the share of all."""


@pytest.fixture(scope="module")
def database(cluster: Sandbox) -> Iterator[str]:
    with oracle_database(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def nodes(cluster: Sandbox, database: str) -> Iterator[Nodes]:
    with Nodes(cluster, database) as both:
        yield both


@pytest.fixture(scope="module")
def judge(cluster: Sandbox, database: str) -> Judge:
    return Judge(cluster, database)


def test_no_hand_written_statement_is_misrouted(judge: Judge, nodes: Nodes) -> None:
    tally = try_all(judge.decide, nodes, sample(), lambda: None)
    assert not told(tally, Kind.MISROUTED)
    assert not told(tally, Kind.DISPUTED)
    assert tally.share_stayed() <= STAYED_MAX, told(tally, Kind.STAYED)


def test_no_generated_statement_is_misrouted(judge: Judge, nodes: Nodes) -> None:
    seed = random.randrange(2**32)
    tally = try_all(judge.decide, nodes, Generator(seed).statements(GENERATED), lambda: None)
    assert not told(tally, Kind.MISROUTED), f"seed {seed}"
    assert not told(tally, Kind.DISPUTED), f"seed {seed}"


def test_decisions_do_not_hang_on_what_was_asked_before(cluster: Sandbox, database: str) -> None:
    asked = [(statement.sql, statement.user) for statement in [*corpus(), *Generator(1).statements(GENERATED)]]
    forwards, backwards = Judge(cluster, database), Judge(cluster, database)
    one = {question: forwards.decide(*question)[0] for question in asked}
    other = {question: backwards.decide(*question)[0] for question in reversed(asked)}
    assert not [question for question in asked if one[question] != other[question]]


@pytest.mark.parametrize(
    ("sql", "harm"),
    [
        ("SELECT nextval('mark')", "fails on a standby"),
        ("SELECT count(*) FROM fleeting", "fails on a standby"),
        ("INSERT INTO marks VALUES (1)", "fails on a standby"),
        ("SELECT pg_is_in_recovery()", "rows differ"),
        ("SELECT last_value FROM pg_sequences WHERE sequencename = 'numbered_id_seq'", "rows differ"),
        ("SELECT pg_advisory_lock(1)", "leaves an advisory lock"),
        ("SELECT set_config('work_mem', '8MB', false)", "leaves a setting"),
        ("SET oracle.probe = 'x'", "leaves a setting"),
        ("PREPARE read AS SELECT 1", "leaves a prepared statement"),
        ("DECLARE c CURSOR FOR SELECT 1", "leaves a cursor"),
        ("SELECT txid_current()", "fails on a standby"),
        ("COPY marks FROM STDIN", "fails on a standby"),
        ("SELECT 1; SELECT nextval('mark')", "fails on a standby"),
    ],
)
def test_the_judge_sees_harm(nodes: Nodes, sql: str, harm: str) -> None:
    assert nodes.judge(Statement(sql, Where.JUDGED, "")).harm.startswith(harm)


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "TABLE plain", "COPY plain TO STDOUT", "SELECT 1 / 0", "SELECT 1; SELECT 2", ""]
)
def test_the_judge_sees_none_in_a_read(nodes: Nodes, sql: str) -> None:
    assert nodes.judge(Statement(sql, Where.JUDGED, "")).harm == ""


def test_the_judge_goes_on_after_a_lost_connection(nodes: Nodes) -> None:
    assert nodes.judge(Statement("SELECT pg_terminate_backend(pg_backend_pid())", Where.JUDGED, "", user="postgres"))
    assert nodes.judge(Statement("SELECT 1", Where.JUDGED, "", user="postgres")).harm == ""


def told(tally: Tally, kind: Kind) -> list[str]:
    """Findings of a kind, in words."""
    return [
        f"{one_line(finding.statement.sql)} [{finding.statement.group}]: {finding.harm or finding.reason}"
        for finding in tally.of(kind)
    ]
