"""The phases of a transaction, and what takes it to another node: what no conversation can reach, or too slowly."""

from typing import Final

import pytest

from middleware.relay.transaction import ENDED, FIXED, FRESH, NONE, READ, Transaction
from middleware.session.batch import Batch
from parser.facts import UNREAD
from parser.shapes import FactsTable
from routing.catalog import Catalog
from routing.router import Router

TEXTS: Final = FactsTable()

PHASES: Final = (
    ("", NONE),
    ("SELECT 1", NONE),
    ("COMMIT", ENDED),
    ("SAVEPOINT a", NONE),
    ("SET TRANSACTION READ ONLY", NONE),
    ("BEGIN", FRESH),
    ("BEGIN; SET TRANSACTION READ ONLY", FRESH),
    ("BEGIN; SET TRANSACTION READ ONLY; SELECT 1", READ),
    ("BEGIN; SELECT 1; SELECT 1", READ),
    ("BEGIN; SELECT 1; SET TRANSACTION READ ONLY", FIXED),
    ("BEGIN; SELECT 1; BEGIN", FIXED),
    ("BEGIN; BEGIN", FIXED),
    ("BEGIN; SAVEPOINT a", FIXED),
    ("BEGIN; SAVEPOINT a; SELECT 1", FIXED),
    ("BEGIN; SET LOCAL work_mem = '1MB'", FIXED),
    ("BEGIN; DECLARE c CURSOR FOR SELECT 1", FIXED),
    ("BEGIN; INSERT INTO t VALUES (1)", FIXED),
    ("BEGIN; COMMIT AND CHAIN", FIXED),
    ("BEGIN; COMMIT", ENDED),
    ("BEGIN; INSERT INTO t VALUES (1); ROLLBACK", ENDED),
    ("BEGIN; COMMIT; SELECT 1", ENDED),
    ("BEGIN; COMMIT; BEGIN", FIXED),
)


COMMITS: Final = (
    ("BEGIN; INSERT INTO t VALUES (1)", False),
    ("BEGIN; INSERT INTO t VALUES (1); ROLLBACK", False),
    ("BEGIN; INSERT INTO t VALUES (1); ABORT", False),
    ("BEGIN; INSERT INTO t VALUES (1); ROLLBACK AND CHAIN", False),
    ("BEGIN; INSERT INTO t VALUES (1); ROLLBACK TO SAVEPOINT a", False),
    ("BEGIN; INSERT INTO t VALUES (1); COMMIT", True),
    ("BEGIN; INSERT INTO t VALUES (1); END", True),
    ("BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN", True),
    ("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'a'", True),
    ("BEGIN; COMMIT; BEGIN", True),
    ("BEGIN; ROLLBACK; INSERT INTO t VALUES (1)", True),
    ("BEGIN; ROLLBACK; SELECT 1", False),
)


def batch(*texts: str) -> Batch:
    made = Batch(0)
    for text in texts:
        made.add_facts(TEXTS.facts_of(text.encode()))
    return made


def after(script: str) -> Transaction:
    """What is known after these statements, one at a time."""
    transaction = Transaction()
    for text in script.split("; ") if script else ():
        facts = TEXTS.facts_of(text.encode())
        transaction.note(facts, reads=not facts.write_reason)
    return transaction


@pytest.fixture
def router() -> Router:
    made = Router()
    made.set_catalog(Catalog("app", 1), 1.0, 1.0)
    return made


@pytest.mark.parametrize(("script", "phase"), PHASES)
def test_phases(script: str, phase: int) -> None:
    assert after(script).phase == phase


@pytest.mark.parametrize(
    ("modes", "begins"),
    [
        ("", "BEGIN"),
        (" READ ONLY", "BEGIN READ ONLY"),
        (" ISOLATION LEVEL REPEATABLE READ, READ WRITE", "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE"),
        ("; SET TRANSACTION READ ONLY", "BEGIN READ ONLY"),
        ("; SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "BEGIN ISOLATION LEVEL READ UNCOMMITTED"),
        (
            " READ ONLY; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        ),
    ],
)
def test_it_begins_again_as_it_was(modes: str, begins: str) -> None:
    assert after(f"BEGIN{modes}").begin() == begins.encode()


@pytest.mark.parametrize(
    "script", ["BEGIN READ ONLY; SELECT 1", "BEGIN; SELECT 1", "BEGIN; SAVEPOINT a", "BEGIN READ ONLY; SAVEPOINT a"]
)
def test_what_has_run_in_it_holds_it(router: Router, script: str) -> None:
    """Unless it is for reads until the first write."""
    assert after(script).to_primary(batch("LISTEN x"), router) is None


@pytest.mark.parametrize(("script", "begins"), [("BEGIN; SELECT 1", b"BEGIN"), ("BEGIN; SAVEPOINT a", None)])
def test_reads_until_the_first_write(router: Router, script: str, begins: bytes | None) -> None:
    transaction = after(script)
    transaction.until_write = True
    assert transaction.to_primary(batch("INSERT INTO t VALUES (1)"), router) == begins
    assert transaction.to_primary(batch("VALUES (1)"), router) is None
    assert transaction.to_primary(batch("COMMIT"), router) is None


@pytest.mark.parametrize(
    ("script", "texts", "begins"),
    [
        ("BEGIN", ["SET TRANSACTION READ ONLY"], b"BEGIN"),
        ("BEGIN", ["SET TRANSACTION READ ONLY", "SELECT 1"], None),
        ("BEGIN", ["SET TRANSACTION READ WRITE"], None),
        ("BEGIN", ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"], None),
        ("BEGIN; SELECT 1", ["SET TRANSACTION READ ONLY"], None),
        ("", ["SET TRANSACTION READ ONLY"], None),
    ],
)
def test_to_a_standby(script: str, texts: list[str], begins: bytes | None) -> None:
    assert after(script).to_standby(batch(*texts)) == begins


@pytest.mark.parametrize("script", ["BEGIN READ ONLY", "BEGIN READ ONLY; SELECT 1", "BEGIN READ ONLY; SAVEPOINT a"])
def test_what_goes_beyond_its_end_goes_elsewhere(router: Router, script: str) -> None:
    assert after(script).to_primary(batch("COMMIT", "SELECT 1"), router) == b"BEGIN READ ONLY"
    assert after(script).to_primary(batch("COMMIT; SELECT 1"), router) == b"BEGIN READ ONLY"
    assert after(script).to_primary(batch("SELECT 1", "COMMIT"), router) is None


@pytest.mark.parametrize(("script", "commits"), COMMITS)
def test_whether_something_may_have_been_committed(script: str, commits: bool) -> None:
    assert after(script).commits is commits


def test_a_string_that_ends_it_may_have_committed() -> None:
    transaction = after("BEGIN")
    transaction.note(TEXTS.facts_of(b"COMMIT; SELECT 1"), reads=False)
    assert transaction.commits


def test_what_could_not_be_read_may_have_committed() -> None:
    transaction = after("BEGIN")
    transaction.note(UNREAD, reads=False)
    assert transaction.commits
