"""What drivers make of the answers: the same from PostgreSQL, from the read that fills the cache, and from there."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from tests.differential.raw_client import Address
from tests.identity.conftest import Asked as Peers
from tests.identity.served import word
from tests.identity.types import COLUMNS, column

pytestmark = pytest.mark.integration

SESSIONS: Final = (
    {"timezone": "UTC", "datestyle": "ISO, MDY", "extra_float_digits": "1", "bytea_output": "hex"},
    {"timezone": "Asia/Tokyo", "datestyle": "ISO, DMY", "extra_float_digits": "0", "bytea_output": "escape"},
)
NOT_PYTHONS: Final = ("date", "timestamp", "timestamptz", "interval", "datemultirange", "timestamptz[]", "time")
"""psycopg cannot represent the extremes of these: they are asked for as text."""
NO_BINARY: Final = ('"char"',)
"""psycopg takes these bytes for UTF-8."""


def _columns() -> Mapping[str, str]:
    """SELECT lists: each type by itself."""
    lists = {}
    for name in COLUMNS:
        shown = column(name)
        lists[name] = f"{shown}::text" if name in NOT_PYTHONS else shown
    return lists


BATTERY: Final = {
    **{name: f"SELECT {shown} FROM identity_types WHERE id <= $1 ORDER BY id" for name, shown in _columns().items()},
    "moments": "SELECT at, n, word FROM identity_rows WHERE n < $1 ORDER BY n",
    "none": "SELECT n, word FROM identity_rows WHERE n < -$1::integer",
    "aggregates": "SELECT count(*), avg(n), sum(n), min(at), array_agg(word) FROM identity_rows WHERE n > $1",
}
ARGUMENT: Final = 100

TRIES: Final = 15
PAUSE_S: Final = 0.3

Answers = dict[str, str]


def marked_battery(unlike_all: str) -> dict[str, str]:
    """Each with a word of its own, that begins alike."""
    return {name: f"{sql} /* {unlike_all}{number:02} */" for number, (name, sql) in enumerate(BATTERY.items())}


def url(address: Address) -> str:
    return f"postgresql://{address.user}:{address.password}@{address.host}:{address.port}/{address.database}"


def psycopg_answers(address: Address, settings: Mapping[str, str], battery: Mapping[str, str], **how: Any) -> Answers:
    """By psycopg; `how` is said to each execute."""
    answers: Answers = {}
    options = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
    with psycopg.connect(
        url(address), autocommit=True, options=options, cursor_factory=psycopg.RawCursor, prepare_threshold=None
    ) as connection:
        for name, sql in battery.items():
            binary = how.get("binary", False) and name not in NO_BINARY
            cursor = connection.cursor(binary=binary)
            if how.get("simple"):
                cursor.execute(sql.replace("$1", str(ARGUMENT)).encode(), prepare=False)
            else:
                cursor.execute(sql.encode(), (ARGUMENT,), prepare=how.get("prepare"))
            assert cursor.description is not None
            answers[name] = repr((cursor.statusmessage, cursor.description, cursor.fetchall()))
    return answers


async def asyncpg_answers(
    address: Address, settings: Mapping[str, str], battery: Mapping[str, str], **how: Any
) -> Answers:
    """By asyncpg, which reads binary."""
    answers: Answers = {}
    connection = await asyncpg.connect(url(address), server_settings=dict(settings), **how)
    try:
        for name, sql in battery.items():
            rows = await connection.fetch(sql, ARGUMENT)
            answers[name] = repr([[(column, _shown(value)) for column, value in row.items()] for row in rows])
    finally:
        await connection.close()
    return answers


def _shown(value: Any) -> Any:
    """A value whose repr tells all of it."""
    if isinstance(value, asyncpg.Path | asyncpg.Polygon):
        return type(value).__name__, list(value), getattr(value, "is_closed", None)
    return value


async def _of_psycopg(address: Address, settings: Mapping[str, str], battery: Mapping[str, str], **how: Any) -> Answers:
    return await asyncio.to_thread(psycopg_answers, address, settings, battery, **how)


Ask = Callable[[Address, Mapping[str, str], Mapping[str, str]], Awaitable[Answers]]
DRIVERS: Final[Mapping[str, Ask]] = {
    "psycopg, simple": lambda *given: _of_psycopg(*given, simple=True),
    "psycopg, text": _of_psycopg,
    "psycopg, binary": lambda *given: _of_psycopg(*given, binary=True),
    "psycopg, prepared": lambda *given: _of_psycopg(*given, prepare=True, binary=True),
    "asyncpg": asyncpg_answers,
    "asyncpg, no cache": lambda *given: asyncpg_answers(*given, statement_cache_size=0),
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_values(peers: Peers, driver: str) -> None:
    unlike_all = word()
    battery = marked_battery(unlike_all)
    # Between Parse and Bind it has a server, and what comes before that has answered goes there.
    most = len(battery) * len(SESSIONS) // 10 if driver == "asyncpg, no cache" else 0
    asyncio.run(_compare(peers, DRIVERS[driver], battery, unlike_all, most))


async def _compare(peers: Peers, ask: Ask, battery: Mapping[str, str], unlike_all: str, most: int) -> None:
    expected = [await ask(peers.direct, settings, battery) for settings in SESSIONS]
    assert expected[0] != expected[1], "the settings make no difference"
    for settings, rightly in zip(SESSIONS, expected, strict=True):
        assert await ask(peers.cached, settings, battery) == rightly
    assert all(_asked(peers, battery, unlike_all).values()), "the log tells nothing"
    for _ in range(TRIES):
        before = _asked(peers, battery, unlike_all)
        for settings, rightly in zip(SESSIONS, expected, strict=True):
            assert await ask(peers.cached, settings, battery) == rightly
        again = _asked(peers, battery, unlike_all) - before
        if again.total() <= most:
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(f"servers were asked again: {again}")


def _asked(peers: Peers, battery: Mapping[str, str], unlike_all: str) -> Counter[str]:
    """How often servers have executed each statement. asyncpg has one that it does not know described every time."""
    return Counter({name: peers.served.executed(f"{unlike_all}{number:02}") for number, name in enumerate(battery)})
