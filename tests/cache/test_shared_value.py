"""Keys that show nothing and tell all apart, and values that are whole or none."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.cache.request import Scope, query_key
from middleware.cache.shared_value import PREFIX, Shared, pack, shared_key, unpack

READY = b"Z\0\0\0\x05I"
ROW = b"T\0\0\0\x1a\0\1x\0" + b"\0" * 18
ROWS = b"D\0\0\0\x0b\0\1\0\0\0\x01" + b"7"
DONE = b"C\0\0\0\x0d" + b"SELECT 1\0"
WHOLE = ROW + ROWS + DONE + READY
KEY = PREFIX + b"0" * 64
QUESTION = b"Q\0\0\0\x0dSELECT 1\0"


def scope(serial: int = 1, user: bytes = b"app", database: bytes = b"db", **settings: bytes) -> Scope:
    return Scope(serial, user, database, tuple((name.encode(), value) for name, value in settings.items()))


def of(one: Scope, question: bytes = QUESTION, place: tuple[int, int] = (7, 1), fingerprint: str = "f") -> bytes:
    return shared_key(*place, fingerprint, one, query_key(one, question))


def test_all_that_an_answer_depends_on_is_told_apart() -> None:
    keys = [
        of(scope()),
        of(scope(), b"Q\0\0\0\x0dSELECT 2\0"),
        of(scope(user=b"other")),
        of(scope(database=b"other")),
        of(scope(user=b"db", database=b"app")),
        of(scope(TimeZone=b"UTC")),
        of(scope(TimeZone=b"Europe/Berlin")),
        of(scope(DateStyle=b"UTC")),
        of(scope(TimeZone=b"UTC", DateStyle=b"ISO")),
        of(scope(TimeZoneUTC=b"")),
        of(scope(), place=(8, 1)),
        of(scope(), place=(7, 2)),
        of(scope(), place=(71, 1)),
        of(scope(), fingerprint="g"),
    ]
    for one, other in itertools.combinations(keys, 2):
        assert one != other


def test_what_each_worker_counts_for_itself_is_no_part_of_it() -> None:
    assert of(scope(serial=1)) == of(scope(serial=99))


def test_it_shows_nothing_of_the_question() -> None:
    key = of(scope(TimeZone=b"UTC"), b"Q\0\0\0\x20SELECT 'a secret'\0")
    assert key.startswith(PREFIX)
    assert set(key[len(PREFIX) :]) <= set(b"0123456789abcdef")


def test_a_value_is_read_as_it_was_written() -> None:
    assert unpack(KEY, pack(KEY, 1 << 60, 1 << 61, 0.25, b"Q", WHOLE)) == Shared(1 << 60, 1 << 61, 0.25, b"Q", WHOLE)


def test_a_value_under_another_key_is_none() -> None:
    value = pack(KEY, 1, 1, 0.0, b"Q", WHOLE)
    assert unpack(PREFIX + b"1" * 64, value) is None


def test_a_value_that_was_cut_or_changed_anywhere_is_none() -> None:
    value = pack(KEY, 1, 1, 0.0, b"Q", WHOLE)
    for end in range(len(value)):
        assert unpack(KEY, value[:end]) is None
    assert unpack(KEY, value + b"\0") is None
    for at in range(len(value)):
        for change in (1, 128):
            assert unpack(KEY, value[:at] + bytes((value[at] ^ change,)) + value[at + 1 :]) is None


@pytest.mark.parametrize(
    ("pattern", "whole"),
    [
        (b"Q", WHOLE[:-1]),
        (b"Q", b""),
        (b"Q", b"E\0\0\0\x06X\0" + READY),
        (b"Q", ROW + b"D\xff\xff\xff\xff" + DONE + READY),
        (b"\0\1\2", WHOLE),
        (b"", WHOLE),
        (b"BE" * 40, WHOLE),
    ],
)
def test_a_good_checksum_over_what_is_no_answer_is_not_enough(pattern: bytes, whole: bytes) -> None:
    assert unpack(KEY, pack(KEY, 1, 1, 0.0, pattern, whole)) is None


@pytest.mark.parametrize("cost_s", [-1.0, float("inf"), float("nan")])
def test_nor_is_one_over_times_that_are_none(cost_s: float) -> None:
    assert unpack(KEY, pack(KEY, 1, 1, cost_s, b"Q", WHOLE)) is None


@given(st.binary(max_size=200))
def test_anything_at_all_is_read_without_an_error(value: bytes) -> None:
    assert unpack(KEY, value) is None
    assert unpack(KEY, b"PMQC" + value) is None
