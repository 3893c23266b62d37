"""The bytes of an answer: PostgreSQL's, those of the read that fills the cache, and those from the cache."""

import time
from collections.abc import Mapping
from typing import Final

import msgspec
import pytest

from tests.differential.raw_client import Address
from tests.identity.conftest import Asked as Peers
from tests.identity.exchanges import ODD, PLAIN, SIMPLE, Asked, Exchange, ways
from tests.identity.served import word
from tests.identity.statements import BY_TYPE, EVERY_TYPE, FAILING, PARAMETERS, ROWS, UNCACHED
from tests.identity.wire import ByteClient, told

pytestmark = pytest.mark.integration

TRIES: Final = 20
PAUSE_S: Final = 0.1
"""A standby that is not known to be fresh, and a catalog that is read anew, keep an answer from being kept at first."""
FEW: Final = {way: PLAIN[way] for way in ("unnamed, portal described", "named before")}
"""Enough for a type by itself."""
KEPT: Final[Mapping[str, Asked]] = (
    {"every type": EVERY_TYPE}
    | {f"type {name}": asked for name, asked in BY_TYPE.items()}
    | {f"rows: {name}": asked for name, asked in ROWS.items()}
    | {f"parameters: {name}": asked for name, asked in PARAMETERS.items()}
)


def marked(asked: Asked) -> tuple[Asked, str]:
    """The same with a word in it by which it is found in a log, and which makes it another statement to the cache."""
    unlike_all = word()
    return msgspec.structs.replace(asked, sql=f"{asked.sql} /* {unlike_all} */"), unlike_all


def answer(address: Address, exchange: Exchange) -> bytes:
    """On a connection of its own."""
    with ByteClient(address) as client:
        before = client.exchange(exchange.before) if exchange.before else b""
        return before + client.exchange(exchange.send, exchange.number)


def assert_same(expected: bytes, got: bytes, what: str) -> None:
    if got != expected:
        assert told(got) == told(expected), what
        raise AssertionError(f"{what}: the same messages by other bytes")


@pytest.mark.parametrize("name", KEPT)
def test_the_same_from_the_cache(peers: Peers, name: str) -> None:
    choices = (SIMPLE, FEW if name.startswith("type ") else PLAIN)
    for way, _ in ways(KEPT[name], choices):
        asked, unlike_all = marked(KEPT[name])
        exchange = dict(ways(asked, choices))[way]
        expected = answer(peers.direct, exchange)
        before = peers.served.times(unlike_all)
        assert before > 0, "the log tells nothing"
        assert_same(expected, answer(peers.cached, exchange), f"{way}: first")
        assert peers.served.times(unlike_all) > before, f"{way}: no server was asked"
        for _ in range(TRIES):
            asked_before = peers.served.times(unlike_all)
            assert_same(expected, answer(peers.cached, exchange), f"{way}: again")
            if peers.served.times(unlike_all) == asked_before:
                break
            time.sleep(PAUSE_S)
        else:
            raise AssertionError(f"{way}: a server was asked again and again")


@pytest.mark.parametrize("name", ["every type", "rows: some", "rows: none", "rows: no columns", "parameters: binary"])
def test_whichever_way_it_was_read_first(peers: Peers, name: str) -> None:
    """The same statement in all ways: what one has left may answer the next, with or without its descriptions."""
    first, _ = marked(KEPT[name])
    second, _ = marked(KEPT[name])
    for asked, reverse in ((first, False), (second, True)):
        exchanges = list(ways(asked, (SIMPLE, PLAIN, ODD)))
        for way, exchange in reversed(exchanges) if reverse else exchanges:
            expected = answer(peers.direct, exchange)
            assert_same(expected, answer(peers.cached, exchange), f"{way}: first")
            assert_same(expected, answer(peers.cached, exchange), f"{way}: again")


@pytest.mark.parametrize("name", FAILING)
def test_errors_are_told_each_time(peers: Peers, name: str) -> None:
    for way, _ in ways(FAILING[name], (SIMPLE, PLAIN)):
        asked, unlike_all = marked(FAILING[name])
        exchange = dict(ways(asked, (SIMPLE, PLAIN)))[way]
        if exchange.before and name not in ("parameter", "parameter is missing") and "division" not in name:
            # What cannot be parsed has no statement to be used afterwards.
            continue
        expected = answer(peers.direct, exchange)
        lines = peers.served.times(unlike_all)
        for when in ("first", "again", "and again"):
            before = peers.served.times(unlike_all)
            assert_same(expected, answer(peers.cached, exchange), f"{way}: {when}")
            if name != "parameter is missing":
                assert peers.served.times(unlike_all) > before, f"{way}: {when}: no server was asked"
        assert lines


@pytest.mark.parametrize("name", UNCACHED)
def test_what_is_not_kept(peers: Peers, name: str) -> None:
    asked, unlike_all = marked(UNCACHED[name])
    for way, exchange in ways(asked, (SIMPLE, {"unnamed": PLAIN["unnamed"]})):
        expected = answer(peers.direct, exchange)
        for when in ("first", "again"):
            before = peers.served.times(unlike_all)
            assert_same(expected, answer(peers.cached, exchange), f"{way}: {when}")
            assert peers.served.times(unlike_all) > before, f"{way}: {when}: no server was asked"


def test_one_connection_again_and_again(peers: Peers) -> None:
    """Hits between what a server answers: the session of the client is none the wiser."""
    asked, _ = marked(PARAMETERS["binary"])
    exchange = dict(ways(asked, (PLAIN,)))["unnamed, both described, binary"]
    expected = answer(peers.direct, exchange)
    failing = dict(ways(FAILING["division by zero"], (PLAIN,)))["unnamed, text"]
    error = answer(peers.direct, failing)
    with ByteClient(peers.cached) as client:
        for _ in range(5):
            assert_same(expected, client.exchange(exchange.send), "again")
            assert_same(error, client.exchange(failing.send), "an error")
        assert_same(expected * 20, client.exchange(exchange.send * 20, 20), "twenty at once")
        assert_same(error + expected + error, client.exchange(failing.send + exchange.send + failing.send, 3), "mixed")


def test_of_whatever_length(peers: Peers) -> None:
    """What a message says of its own length is no part of what it asks."""
    kept: list[int] = []
    for length in range(256):
        asked, unlike_all = marked(Asked(ROWS["one"].sql + " " * length, 2))
        exchange = dict(ways(asked, (SIMPLE,)))["simple"]
        with ByteClient(peers.cached) as client:
            client.exchange(exchange.send)
            for _ in range(3 if kept else 1000):
                # Until the first is kept: the cache has only just begun, perhaps.
                before = peers.served.times(unlike_all)
                client.exchange(exchange.send)
                if peers.served.times(unlike_all) == before:
                    kept.append(length)
                    break
    assert kept == list(range(256))
