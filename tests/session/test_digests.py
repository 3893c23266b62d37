"""Digests: what is counted for which, who goes at the bound, and that no constant is in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.session.digests import (
    SHARING_MAX,
    UNTOLD,
    DatabaseDigests,
    Digest,
    Digests,
    together,
)
from parser.shapes import FactsTable, table_for

SECRET = "hunter2"


def digests(count_max: int = 10) -> tuple[FactsTable, Digests, DatabaseDigests]:
    table = FactsTable()
    all_of_them = Digests(count_max, table)
    return table, all_of_them, DatabaseDigests("d", all_of_them)


def test_texts_of_one_shape_are_one_and_of_another_database_another() -> None:
    table, all_of_them, ours = digests()
    one = ours.of(table.facts_of(b"SELECT a FROM t WHERE b = 1"))
    assert ours.of(table.facts_of(b"SELECT a FROM t WHERE b = 22")) is one
    assert ours.of(table.facts_of(b"SELECT a FROM t WHERE b = 'x'  -- a comment")) is one
    assert DatabaseDigests("e", all_of_them).of(table.facts_of(b"SELECT a FROM t WHERE b = 1")) is not one
    assert (one.database, one.shape, len(all_of_them)) == ("d", "SELECT a FROM t WHERE b = $1", 2)


def test_what_is_counted() -> None:
    table, _, ours = digests()
    one = ours.of(table.facts_of(b"SELECT 1"))
    one.sent(2, on_primary=True)
    one.sent(1, on_primary=False)
    one.hit()
    one.answered(0.5, 7, failed=False)
    one.answered(0.25, 0, failed=True)
    report = one.report()
    assert (report.calls, report.on_primary, report.on_standbys, report.hits) == (4, 2, 1, 1)
    assert (report.rows, report.errors, report.total_s, report.max_s) == (7, 1, 0.75, 0.5)


def test_at_the_bound_those_go_that_were_used_least_of_late() -> None:
    table, all_of_them, ours = digests(count_max=20)

    def used(name: str, calls: int) -> Digest:
        one = ours.of(table.facts_of(f"SELECT {name} FROM t".encode()))
        one.sent(calls, on_primary=True)
        return one

    names = [f"c{'x' * number}" for number in range(20)]
    for number, name in enumerate(names):
        used(name, 1 if number == 7 else 10)
    kept = used(names[0], 1)
    used("another", 1)
    assert len(all_of_them) == 20
    assert f"SELECT {names[7]} FROM t" not in {one.shape for one in all_of_them.all()}
    assert used(names[0], 0) is kept
    # Once busy, and for long no more: what is new goes past it in the end.
    for _ in range(30):
        for name in names[1:]:
            used(name, 10)
        used("y" * 5, 1)
        all_of_them._evict(1)
    assert kept not in all_of_them.all()
    # Who counts for one that has gone does no harm, and finds a new one next time.
    assert used(names[0], 1) is not kept


def test_facts_of_one_text_each_do_not_pile_up() -> None:
    table, all_of_them, ours = digests(count_max=5)
    for number in range(100):
        ours.of(table.facts_of(f"SET statement_timeout = {number}".encode()))
    assert [one.shape for one in all_of_them.all()] == ["SET statement_timeout"]
    assert len(ours._known) <= 11


def test_how_many_there_may_be_can_be_changed() -> None:
    table, all_of_them, ours = digests(count_max=10)
    facts = [table.facts_of(f"SELECT {name} FROM t".encode()) for name in "abcdefgh"]
    for number, each in enumerate(facts):
        ours.of(each).sent(number, on_primary=True)
    all_of_them.resize(3)
    assert [digest.shape for digest in all_of_them.all()] == [f"SELECT {name} FROM t" for name in "fgh"]
    all_of_them.resize(0)
    assert all_of_them.all() == []
    assert ours.of(facts[7]) is UNTOLD
    all_of_them.resize(5)
    assert ours.of(facts[0]).shape == "SELECT a FROM t"
    assert len(all_of_them) == 1


def one(shape: str, aside: bool = False) -> Digest:
    return Digest("d", shape, aside)


def test_several_of_a_batch_share_its_time_but_transaction_control() -> None:
    begin, insert, update, commit = one("BEGIN", True), one("INSERT"), one("UPDATE"), one("COMMIT", True)
    found = UNTOLD
    for digest in (begin, insert, insert, update, commit):
        found = together(found, digest)
    found.answered(2.0, 5, failed=True)
    assert [digest.total_s for digest in (begin, insert, update, commit)] == [0, 1, 1, 0]
    assert [digest.rows for digest in (begin, insert, update, commit)] == [0, 0, 5, 0]
    assert [digest.errors for digest in (begin, insert, update, commit)] == [0, 0, 1, 0]
    assert together(together(UNTOLD, begin), commit) is commit


def test_how_many_share_is_bounded() -> None:
    found = UNTOLD
    many = [one(str(number)) for number in range(SHARING_MAX + 5)]
    for digest in many:
        found = together(found, digest)
    found.answered(float(SHARING_MAX), 3, failed=False)
    assert sum(digest.total_s for digest in many) == SHARING_MAX
    assert many[-1].rows == 3


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'hunter2'",
        "SELECT * FROM t WHERE a = E'hunter2' OR b = U&'hunter2' UESCAPE '!' OR c = $tag$hunter2$tag$",
        "ALTER ROLE r PASSWORD 'hunter2'",
        "CREATE USER u PASSWORD 'hunter2'",
        "CREATE SUBSCRIPTION s CONNECTION 'password=hunter2' PUBLICATION p",
        "DO $$ BEGIN PERFORM 'hunter2'; END $$",
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $f$ SELECT 'hunter2' $f$",
        "COPY t FROM '/hunter2'",
        "COPY t FROM PROGRAM 'hunter2'",
        "COMMENT ON TABLE t IS 'hunter2'",
        "NOTIFY channel, 'hunter2'",
        "EXECUTE p('hunter2')",
        "PREPARE p AS SELECT 'hunter2'",
        "PREPARE TRANSACTION 'hunter2'",
        "CREATE TABLE t (a text DEFAULT 'hunter2')",
        "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (password 'hunter2')",
        "SET application_name = 'hunter2'",
        "SET application_name TO hunter2",
        "SELECT set_config('a.b', 'hunter2', false)",
        "SELECT 1 /* hunter2 */",
        "SELECT 1 -- hunter2",
        "SELECT 1; SELECT 'hunter2'",
        "SELEKT 'hunter2'",
        "SELECT 'hunter2",
        "EXPLAIN (ROUTE) SELECT 'hunter2'",
        "DECLARE c CURSOR FOR SELECT 'hunter2'",
        "CALL p('hunter2')",
        "SELECT b'101' || 'hunter2' /*+ primary */",
        "SET pointsman.route = 'hunter2'",
    ],
)
def test_no_constant_is_in_a_digest(text: str) -> None:
    for table in (FactsTable(), table_for(("hunter",))):
        for _ in range(2):
            found = Digests(10, table).find("d", table.facts_of(text.encode()))
            assert SECRET not in found.shape
            assert found.shape


@given(st.text(alphabet="SELECTselect '$-/*;\\\"1axUE&\n", max_size=40), st.sampled_from(["'", "E'", "$x$", "U&'"]))
def test_no_constant_is_in_a_digest_of_whatever_text(rest: str, quote: str) -> None:
    """Around a string that is closed, or is not."""
    closing = "$x$" if quote == "$x$" else "'"
    for text in (f"SELECT {quote}{SECRET}{closing} {rest}", f"SELECT {quote}{rest}{SECRET}{closing}"):
        table = FactsTable()
        shape = Digests(10, table).find("d", table.facts_of(text.encode())).shape
        # What stands outside of all quotes is a name.
        assert SECRET not in shape or "'" in rest or "$" in rest


def test_other_facts_of_the_same_text_have_the_same_shape() -> None:
    """After primary_queries has changed, all is read anew by another table."""
    table, all_of_them, ours = digests()
    one = ours.of(table.facts_of(b"SELECT a FROM t WHERE b = 1"))
    other = table_for(("FROM t",))
    all_of_them.use(other)
    assert ours.of(other.facts_of(b"SELECT a FROM t WHERE b = 2")) is one
