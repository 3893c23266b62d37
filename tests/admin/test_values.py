"""Values of each type in text and in binary, as PostgreSQL sends them: drivers' own readers take them apart."""

import datetime as dt
from decimal import Decimal

import psycopg.adapt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import Format

from middleware.admin.table import OIDS, Column, ColumnType, Value
from middleware.admin.values import described, encoded

READERS = psycopg.adapt.Transformer()


def read(kind: ColumnType, value: Value, form: int) -> object:
    """What a driver makes of it."""
    [data] = encoded((Column("x", kind),), (form,), (value,))
    return None if data is None else READERS.get_loader(OIDS[kind], Format(form)).load(data)


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "größe", "größe"),
        ("text", "", ""),
        ("text", "a\0b", "a?b"),
        ("text", "a\udce9b", "a?b"),
        ("text", None, None),
        ("bool", True, True),
        ("bool", False, False),
        ("int4", -5, -5),
        ("int4", 1 << 40, (1 << 31) - 1),
        ("int4", -(1 << 40), -(1 << 31)),
        ("int8", 1 << 40, 1 << 40),
        ("float8", 0.1, 0.1),
        ("float8", 1e300, 1e300),
        ("float8", 3, 3.0),
        ("numeric", 0, Decimal(0)),
        ("numeric", 10_000, Decimal(10_000)),
        ("numeric", 123_456_789_012_345_678_901, Decimal("123456789012345678901")),
        ("numeric", -0.0625, Decimal("-0.0625")),
        ("numeric", 1e-7, Decimal("0.0000001")),
        ("bytea", None, None),
        ("text[]", "{}", []),
        ("timestamptz", 0.0, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
        ("timestamptz", 1_795_813_200.123456, dt.datetime(2026, 11, 27, 21, 0, 0, 123456, dt.UTC)),
    ],
)
def test_values(kind: ColumnType, value: Value, expected: object, form: int) -> None:
    assert read(kind, value, form) == expected


@given(st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_the_same_in_binary(number: float) -> None:
    assert read("numeric", number, 1) == read("numeric", number, 0) == Decimal(repr(number))


@given(st.floats(0, 4e9))
def test_any_moment_is_the_same_in_binary(moment: float) -> None:
    text, binary = read("timestamptz", moment, 0), read("timestamptz", moment, 1)
    assert isinstance(text, dt.datetime)
    assert isinstance(binary, dt.datetime)
    assert abs(text - binary) <= dt.timedelta(microseconds=1)


def test_formats_are_for_all_columns_or_one_each() -> None:
    columns = Column("a", "int4"), Column("b", "bool")
    assert encoded(columns, (), (1, True)) == (b"1", b"t")
    assert encoded(columns, (1,), (1, True)) == (b"\0\0\0\1", b"\1")
    assert encoded(columns, (0, 1), (1, True)) == (b"1", b"\1")
    assert [one.format for one in described(columns, (0, 1))] == [0, 1]
    assert [(one.name, one.type_oid, one.type_size) for one in described(columns, ())] == [(b"a", 23, 4), (b"b", 16, 1)]
