"""A part of `make oracle`'s statements through a running Pointsman, in the forms that clients use."""

import random
from collections.abc import Iterator

import pytest

from middleware.sandbox import Sandbox
from tests.oracle.endpoint import Heard, Through, judge, through, try_through
from tests.oracle.forms import Composer, Form
from tests.oracle.journal import Entries
from tests.oracle.judge import Outcome
from tests.oracle.report import one_line
from tests.oracle.routed import Judge
from tests.oracle.schema import oracle_database
from tests.oracle.statement import Statement, Where
from tests.oracle.trial import Kind

COUNT = 400
SEED = random.randrange(2**32)

READ = Statement("SELECT 1", Where.STANDBY, "a read")
WRITE = Statement("INSERT INTO marks VALUES (1)", Where.PRIMARY, "a write")
PARSED = Entries({}, {})


@pytest.fixture(scope="module")
def database(cluster: Sandbox) -> Iterator[str]:
    with oracle_database(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def asking(cluster: Sandbox, database: str) -> Iterator[Through]:
    with through(cluster, database, SEED) as one:
        yield one


@pytest.mark.integration
def test_no_statement_is_misrouted_in_any_form(cluster: Sandbox, database: str, asking: Through) -> None:
    tally = try_through(asking, Judge(cluster, database).decide, COUNT, SEED, lambda: None)
    for kind in (Kind.MISROUTED, Kind.DISPUTED, Kind.STAYED):
        told = [f"{one_line(finding.statement.sql)} [{finding.reason}]: {finding.harm}" for finding in tally.of(kind)]
        assert not told, f"{kind.value}, seed {SEED}"
    assert tally.count(Kind.ROUTED) > COUNT / 10
    assert tally.count(Kind.KEPT) > COUNT / 10


@pytest.mark.parametrize(
    ("form", "asked", "log", "heard", "kinds"),
    [
        (Form.SINGLE, [WRITE], Entries({1: ["db1"]}, {}), Heard((), ()), [Kind.KEPT]),
        (Form.SINGLE, [WRITE], Entries({1: ["db2"]}, {}), Heard((), ()), [Kind.MISROUTED]),
        (Form.SINGLE, [WRITE], Entries({}, {1: ["db2"]}), Heard((Outcome("42601"),), ()), [Kind.MISROUTED]),
        (Form.SINGLE, [WRITE], Entries({}, {1: ["db1"]}), Heard((Outcome("42601"),), ()), [Kind.FAILED]),
        (Form.FLUSHED, [WRITE], Entries({}, {1: ["db2"]}), Heard((Outcome("42601"),), ()), [Kind.FAILED]),
        (Form.FLUSHED, [WRITE], Entries({}, {1: ["db2"]}), Heard((Outcome("25006"),), ()), [Kind.MISROUTED]),
        (Form.SINGLE, [WRITE], Entries({1: ["db1", "db1"]}, {}), Heard((), ()), [Kind.MISROUTED]),
        (Form.SINGLE, [WRITE], PARSED, Heard((), ()), [Kind.DISPUTED]),
        (Form.SINGLE, [READ], Entries({1: ["db2"]}, {}), Heard((), ("db2",)), [Kind.ROUTED]),
        (Form.SINGLE, [READ], Entries({1: ["db2"]}, {}), Heard((), ("db1",)), [Kind.MISROUTED]),
        (Form.SINGLE, [READ], Entries({1: ["db1"]}, {}), Heard((), ()), [Kind.STAYED]),
        (Form.SINGLE, [READ], Entries({1: ["db2"]}, {1: ["db2"]}), Heard((Outcome("22012"),), ()), [Kind.DISPUTED]),
        (Form.SINGLE, [READ], Entries({1: ["db2"]}, {}), Heard((), (), "the peer closed"), [Kind.DISPUTED]),
        (Form.SEVERAL, [WRITE] * 2, Entries({1: ["db1"], 2: ["db2"]}, {}), Heard((), ()), [Kind.KEPT, Kind.MISROUTED]),
        (Form.PIPELINE, [READ, WRITE], Entries({1: ["db1"], 2: ["db1"]}, {}), Heard((), ()), [Kind.KEPT, Kind.KEPT]),
        (Form.PIPELINE, [READ, WRITE], Entries({1: ["db2"]}, {}), Heard((), ()), [Kind.MISROUTED, Kind.DISPUTED]),
        (Form.BATCHES, [WRITE, READ], Entries({1: ["db1"], 2: ["db1"]}, {}), Heard((), ()), [Kind.KEPT, Kind.KEPT]),
        (Form.BATCHES, [READ, WRITE], Entries({1: ["db1"], 2: ["db1"]}, {}), Heard((), ()), [Kind.STAYED, Kind.KEPT]),
    ],
)  # fmt: skip
def test_what_is_seen_is_judged(
    form: Form, asked: list[Statement], log: Entries, heard: Heard, kinds: list[Kind]
) -> None:
    conversation = Composer(1).compose(form, asked)
    assert [finding.kind for finding in judge(conversation, heard, log, "db1")] == kinds
