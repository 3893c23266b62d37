"""The statements whose answers are compared, and what they are about."""

from typing import Final

from tests.identity.exchanges import Asked
from tests.identity.types import COLUMNS, column, create

INT4: Final = 23
TEXT_OID: Final = 25
TIMESTAMPTZ: Final = 1184

SET_UP: Final = (
    create()
    + """
CREATE TABLE identity_rows (n integer PRIMARY KEY, word text, at timestamptz);
INSERT INTO identity_rows SELECT n, 'word ' || n, '2024-01-01 00:00Z'::timestamptz + n * interval '1 h'
    FROM generate_series(1, 500) n;
CREATE TABLE identity_long (id integer PRIMARY KEY, body text);
INSERT INTO identity_long SELECT n, repeat(chr(96 + n), 100000) FROM generate_series(1, 8) n;
CREATE TABLE identity_many (n integer PRIMARY KEY, word text);
INSERT INTO identity_many SELECT n, 'row ' || n FROM generate_series(1, 60000) n;
CREATE FUNCTION identity_notice(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
$$BEGIN RAISE NOTICE 'of %', $1; RETURN $1; END$$;
CREATE TABLE identity_zoned (n integer, at timetz);
INSERT INTO identity_zoned VALUES (1, '12:34:56+15:59'), (2, '00:00-07'), (3, NULL);
CREATE SCHEMA identity_other;
CREATE TABLE identity_other.identity_rows (n integer PRIMARY KEY, word text, at timestamptz);
INSERT INTO identity_other.identity_rows VALUES (1, 'another', NULL);
ANALYZE;
"""
)
COLUMNS_MOST: Final = 1600

EVERY_TYPE: Final = Asked("SELECT * FROM identity_types ORDER BY id", len(COLUMNS) + 1)
BY_TYPE: Final = {
    name: Asked(
        f"SELECT {column(name)}, id FROM identity_types ORDER BY id", 2
    )  # one column, so that a fault has a name
    for name in COLUMNS
}

ROWS: Final = {
    "some": Asked("SELECT n, word, at FROM identity_rows WHERE n <= 3 ORDER BY n", 3),
    "many": Asked("SELECT n, word, at FROM identity_rows ORDER BY n", 3),
    "one": Asked("SELECT word, n FROM identity_rows WHERE n = 7", 2),
    "none": Asked("SELECT n, word FROM identity_rows WHERE n < 0", 2),
    "no columns": Asked("SELECT FROM identity_rows WHERE n <= 3", 0),
    "no columns, no rows": Asked("SELECT FROM identity_rows WHERE n < 0", 0),
    "columns without names": Asked("SELECT 1, 'x', NULL, n FROM identity_rows WHERE n = 1", 4),
    "columns of one name": Asked('SELECT n, n, n AS "a ""ä" FROM identity_rows WHERE n = 1', 3),
    "as many columns as can be": Asked(
        "SELECT " + ", ".join(f"n c{number}" for number in range(COLUMNS_MOST)) + " FROM identity_rows WHERE n < 3",
        COLUMNS_MOST,
    ),
    "long rows": Asked("SELECT id, body FROM identity_long WHERE id <= 3 ORDER BY id", 2),
    "aggregates": Asked("SELECT count(*), avg(n), min(word), sum(n) FROM identity_rows", 4),
    "WITH": Asked("WITH w AS (SELECT n FROM identity_rows) SELECT max(n), 'x' FROM w", 2),
    "VALUES": Asked("VALUES (1, 'a'), (2, NULL)", 2),
    "TABLE": Asked("TABLE identity_rows", 3),
    "UNION": Asked("SELECT n FROM identity_rows WHERE n < 3 UNION ALL SELECT id FROM identity_types ORDER BY 1", 1),
}
PARAMETERS: Final = {
    "text": Asked("SELECT n, word FROM identity_rows WHERE n = $1", 2, (b"7",), (), (INT4,)),
    "binary": Asked("SELECT n, word FROM identity_rows WHERE n = $1", 2, (b"\x00\x00\x00\x07",), (1,), (INT4,)),
    "untyped": Asked("SELECT n, word FROM identity_rows WHERE n = $1", 2, (b"7",)),
    "mixed": Asked(
        "SELECT $2::text, n FROM identity_rows WHERE n = $1", 2, (b"\x00\x00\x00\x07", b"\xc3\xa4"), (1, 0), (INT4, 0)
    ),
    "NULL": Asked("SELECT n, word, $1::text FROM identity_rows WHERE n = 1", 3, (None,), (), (TEXT_OID,)),
    "empty": Asked("SELECT n, word, $1::text FROM identity_rows WHERE n = 1", 3, (b"",), (), (TEXT_OID,)),
    "given back": Asked("SELECT $1, n FROM identity_rows WHERE n = 1", 2, (b"x",), (0,), (TEXT_OID,)),
    "a moment": Asked(
        "SELECT n, at FROM identity_rows WHERE at = $1", 2, (b"2024-01-01 07:00+00",), (), (TIMESTAMPTZ,)
    ),
    "long": Asked("SELECT n, length($1) FROM identity_rows WHERE n = 1", 2, (b"y" * 20_000,), (), (TEXT_OID,)),
}
"""How parameters are given."""

FAILING: Final = {
    "division by zero": Asked("SELECT 1 / (n - 1) FROM identity_rows ORDER BY n", 1),
    "division by zero, behind rows": Asked("SELECT 1 / (n - 400) FROM identity_rows", 1),
    "no such table": Asked("SELECT * FROM identity_missing", 1),
    "no such column": Asked("SELECT missing FROM identity_rows", 1),
    "syntax": Asked("SELECT FROM FROM identity_rows", 1),
    "input": Asked("SELECT 'x'::integer FROM identity_rows", 1),
    "parameter": Asked("SELECT n FROM identity_rows WHERE n = $1", 1, (b"x",), (), (INT4,)),
    "parameter is missing": Asked("SELECT n FROM identity_rows WHERE n = $1", 1, (), (), (INT4,)),
}
"""They end with an error, each time anew."""

UNCACHED: Final = {
    "now()": Asked("SELECT now() - now(), n FROM identity_rows WHERE n = 1", 2),
    "random()": Asked("SELECT random() * 0, n FROM identity_rows WHERE n = 1", 2),
    "catalog": Asked("SELECT relname FROM pg_class WHERE relname = 'identity_rows'", 1),
    "locking": Asked("SELECT n FROM identity_rows WHERE n = 1 FOR SHARE", 1),
    "a column that depends on the day": Asked("SELECT n, at FROM identity_zoned ORDER BY n", 2),
    "a notice": Asked("SELECT identity_notice(n) FROM identity_rows WHERE n <= 2", 1),
    "large": Asked("SELECT n, word FROM identity_many ORDER BY n", 2),
    "an error in SQL": FAILING["division by zero"],
}
"""A server is asked each time."""
