"""Transactions, savepoints, errors on purpose, and rows of one's own."""

from typing import Final

from tests.statefuzz.phrase import SAVEPOINTS, Phrase, Speaker, Weighted, fixed

BEGIN: Final = (
    "BEGIN",
    "BEGIN",
    "START TRANSACTION",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN READ ONLY",
)


def _savepoint(by: Speaker) -> Phrase:
    return Phrase("SAVEPOINT", f"SAVEPOINT {by.rng.choice(SAVEPOINTS)}")


def _rollback_to(by: Speaker) -> Phrase:
    return Phrase("ROLLBACK TO", f"ROLLBACK TO {by.rng.choice(SAVEPOINTS)}")


def _release(by: Speaker) -> Phrase:
    return Phrase("RELEASE", f"RELEASE {by.rng.choice(SAVEPOINTS)}")


def _write(by: Speaker) -> Phrase:
    number = by.rng.randint(1, 9)
    text = by.rng.choice(
        (
            f"INSERT INTO {by.table} VALUES ({number})",
            f"INSERT INTO {by.table} SELECT generate_series(1, {number})",
            f"UPDATE {by.table} SET n = n + {number} WHERE n < 5",
            f"DELETE FROM {by.table} WHERE n > 3 RETURNING 1",
            f"DELETE FROM {by.table}",
        )
    )
    return Phrase("write", text)


def _read(by: Speaker) -> Phrase:
    return Phrase("read", f"SELECT count(*), sum(n) FROM {by.table}")


ENDS: Final[Weighted] = (
    (fixed("COMMIT", "COMMIT", "COMMIT", "END"), 12),
    (fixed("ROLLBACK", "ROLLBACK", "ROLLBACK", "ABORT"), 6),
    (fixed("AND CHAIN", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", occupies=True), 2),
)

WITHIN: Final[Weighted] = (
    (_savepoint, 5),
    (_rollback_to, 3),
    (_release, 2),
    (fixed("SET TRANSACTION", "SET TRANSACTION READ ONLY", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"), 1),
)

RECOVERY: Final[Weighted] = (
    (fixed("ROLLBACK", "ROLLBACK"), 6),
    (_rollback_to, 5),
    (fixed("COMMIT", "COMMIT"), 2),
)
"""From a failed transaction."""

BEGINNINGS: Final[Weighted] = ((fixed("BEGIN", *BEGIN, occupies=True), 1),)

ERRORS: Final[Weighted] = (
    (fixed("error", "SELECT 1/0", "SELECT * FROM nosuch", "SELEC 1", "SELECT 'x'::int"), 3),
    (_rollback_to, 1),
)

ROWS: Final[Weighted] = ((_write, 3), (_read, 4))
