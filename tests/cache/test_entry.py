"""The answers that can be made of one that is kept, byte for byte, and which are kept at all."""

import pytest

from middleware.cache.counts import Counts
from middleware.cache.entry import Entry, well_formed

READY = b"Z\0\0\0\x05I"
PARSED, BOUND, CLOSED = b"1\0\0\0\x04", b"2\0\0\0\x04", b"3\0\0\0\x04"
PARAMETERS = b"t\0\0\0\x0a\0\1\0\0\0\x17"
ROW = b"T\0\0\0\x1a\0\1x\0" + b"\0" * 18
NONE = b"n\0\0\0\x04"
ROWS = b"D\0\0\0\x0b\0\1\0\0\0\x01" + b"7" + b"D\0\0\0\x0a\0\1\xff\xff\xff\xff"
DONE = b"C\0\0\0\x0d" + b"SELECT 2\0"


def entry(whole: bytes, pattern: bytes) -> Entry:
    return Entry(whole, pattern, (0,), 0, 1, 0.0, 0.0, 0.0, 0.1, Counts().digest("db", "SELECT"), 20)


GOOD = [
    (b"Q", ROW + ROWS + DONE + READY),
    (b"Q", ROW + DONE + READY),
    (b"BE", BOUND + ROWS + DONE + READY),
    (b"PBDE", PARSED + BOUND + ROW + ROWS + DONE + READY),
    (b"PBDE", PARSED + BOUND + NONE + DONE + READY),
    (b"PdBDEC", PARSED + PARAMETERS + ROW + BOUND + ROW + ROWS + DONE + CLOSED + READY),
    (b"BE", BOUND + ROWS + b"s\0\0\0\x04" + READY),
    (b"dBECC", PARAMETERS + NONE + BOUND + DONE + CLOSED + CLOSED + READY),
]


@pytest.mark.parametrize(("pattern", "whole"), GOOD)
def test_an_answer_of_rows_alone_is_well_formed(pattern: bytes, whole: bytes) -> None:
    assert well_formed(whole, pattern)
    assert entry(whole, pattern).answer(pattern) == whole


@pytest.mark.parametrize(("pattern", "whole"), GOOD)
def test_no_part_of_it_is(pattern: bytes, whole: bytes) -> None:
    for end in range(len(whole)):
        assert not well_formed(whole[:end], pattern)
    assert not well_formed(whole + READY, pattern)


ERROR = b"E\0\0\0\x06" + b"X\0"
NOTICE = b"N\0\0\0\x06" + b"X\0"
STATUS = b"S\0\0\0\x08" + b"a\0b\0"


@pytest.mark.parametrize("message", [ERROR, NOTICE, STATUS, b"I\0\0\0\x04", b"A\0\0\0\x04", BOUND])
@pytest.mark.parametrize(("pattern", "whole"), GOOD)
def test_nor_is_it_with_anything_beside_it(pattern: bytes, whole: bytes, message: bytes) -> None:
    position = 0
    while position < len(whole):
        assert not well_formed(whole[:position] + message + whole[position:], pattern)
        position += 1 + int.from_bytes(whole[position + 1 : position + 5], "big")


ALL = PARSED + PARAMETERS + ROW + BOUND + ROW + ROWS + DONE + CLOSED + READY
OTHER = [
    (b"BE", BOUND + ROWS + DONE + READY),
    (b"BDE", BOUND + ROW + ROWS + DONE + READY),
    (b"PBE", PARSED + BOUND + ROWS + DONE + READY),
    (b"dBE", PARAMETERS + ROW + BOUND + ROWS + DONE + READY),
    (b"BECC", BOUND + ROWS + DONE + CLOSED + CLOSED + READY),
]


@pytest.mark.parametrize(("pattern", "whole"), OTHER)
def test_another_batch_of_the_same_key_gets_the_parts_that_are_its_own(pattern: bytes, whole: bytes) -> None:
    assert entry(ALL, b"PdBDEC").answer(pattern) == whole


def test_one_that_was_parsed_serves_what_is_prepared() -> None:
    kept = entry(PARSED + BOUND + ROW + ROWS + DONE + READY, b"PBDE")
    assert kept.answer(b"BDE") == BOUND + ROW + ROWS + DONE + READY
    assert entry(ALL, b"PdBDEC").answer(b"dBDEC") == ALL[len(PARSED) :]


def test_what_is_not_there_is_not_made_up() -> None:
    kept = entry(BOUND + ROWS + DONE + READY, b"BE")
    assert kept.answer(b"BDE") == b""
    assert kept.answer(b"dBE") == b""
    assert kept.answer(b"PBE") == PARSED + BOUND + ROWS + DONE + READY
