"""What mutated streams have found, each by itself: a client is answered as PostgreSQL answers, and nothing else."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from middleware.wire.fields import Message
from middleware.wire.frontend import (
    PORTAL,
    Bind,
    CopyData,
    CopyFail,
    Describe,
    Execute,
    Flush,
    Parse,
    Query,
    Sync,
)
from tests.wirefuzz import broken
from tests.wirefuzz.broken import BrokenPostgres, Saboteur
from tests.wirefuzz.corpus import startup
from tests.wirefuzz.mutate import Ending, Input
from tests.wirefuzz.stage import Stage

SYNC = Sync()
NAMED = Parse(b"q", b"select 'q'")
USED = (Bind(b"", b"q"), Execute())
UNNAMED = Parse(b"", b"select 5")


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as one:
        yield one
        assert one.faults == []


def encoded(*messages: Message | str | bytes) -> bytes:
    stream = b""
    for one in messages:
        if isinstance(one, bytes):
            stream += one
        else:
            stream += (Query(one.encode()) if isinstance(one, str) else one).encode()
    return stream


def said(*writes: tuple[Message | str | bytes, ...], **more: Any) -> Input:
    """What a client sends in these writes, each when all before it is answered."""
    return Input("found", (startup(),), tuple(encoded(*messages) for messages in writes), **more)


def answers(stage: Stage, *writes: tuple[Message | str | bytes, ...]) -> list[str]:
    client = stage.play(said(*writes))
    return client.words(client.welcomed())


def test_a_violation_behind_what_waits_is_the_clients_own(stage: Stage) -> None:
    words = answers(stage, ("prepare p as select 1", "prepare r as select 2", b"Q\xff\0\0\x04"))
    assert words[-1] == "!08P01 FATAL"


def test_the_rest_of_copy_data_that_is_dropped_is_no_message(stage: Stage) -> None:
    rows = CopyData(b"x" * 100 + encoded("select 'smuggled'")).encode()
    assert answers(stage, (rows[:50],), (rows[50:], "select 1")) == [
        "RowDescription",
        "Da6fbfd",
        "CommandComplete",
        "ZI",
    ]


def test_no_server_gets_the_rest_of_what_is_dropped(stage: Stage) -> None:
    rows = CopyData(b"x" * 100 + encoded("select 'smuggled'")).encode()
    words = answers(stage, ("begin",), (Execute(b"none"), Flush()), (rows[:50],), (rows[50:], SYNC), ("rollback",))
    assert words == ["CommandComplete", "ZT", "!34000", "ZE", "CommandComplete", "ZI"]


def test_a_server_whose_copy_was_disturbed_is_lent_to_nobody(stage: Stage) -> None:
    words = answers(stage, ("copy t from stdin",), (CopyData(b"bad\n"), Describe(PORTAL)))
    assert words[:3] == ["CopyInResponse", "!22P02", "ZI"]
    assert words[-1] == "!08P01 FATAL"


def test_what_has_failed_a_copy_may_be_malformed_too(stage: Stage) -> None:
    words = answers(stage, ("copy t from stdin",), (CopyData(b"bad\n"), b"P\0\0\0\x09x\0y\0\0"), (NAMED, *USED, SYNC))
    assert words[-1] == "!08P01 FATAL"


def test_a_query_behind_a_copy_that_failed_is_skipped(stage: Stage) -> None:
    copy = (Parse(b"", b"copy t from stdin"), Bind(), Execute())
    words = answers(stage, (*copy, CopyFail(b"no more"), "select 1", SYNC), ("select 2",))
    assert words[2:5] == ["CopyInResponse", "!57014", "ZI"]
    assert len(words) == 9


@pytest.mark.parametrize("before", [(), ("select 1",)], ids=["alone", "behind another"])
def test_names_mean_nothing_behind_deallocate_all(stage: Stage, before: tuple[str, ...]) -> None:
    words = answers(stage, (NAMED, SYNC), (*before, "deallocate all", *USED, SYNC))
    assert words[-3:] == ["ZI", "!26000", "ZI"]


def test_a_parse_that_was_skipped_does_not_take_the_next_one_with_it(stage: Stage) -> None:
    failing = (Execute(b"none"), UNNAMED, SYNC)
    words = answers(stage, ("begin", "rollback"), (*failing, UNNAMED, Flush()), (Bind(), Execute(), SYNC))
    assert words[-4:-1] == ["BindComplete", words[-3], "CommandComplete"]


def test_what_is_left_for_the_primary_is_skipped_behind_an_error(stage: Stage) -> None:
    # A standby is there by then. It refuses the first; the second, for the primary, is behind it in the same batch.
    answers(stage, ("select 1",))
    written = (Parse(b"", b"insert into t values (1)"), Bind(), Execute())
    assert answers(stage, (Describe(PORTAL), Flush(), *written, SYNC)) == ["!34000", "ZI"]


def test_a_name_holds_no_zero(stage: Stage) -> None:
    assert answers(stage, (b"C\0\0\0\x09Sno\0\0", SYNC)) == ["!08P01 FATAL"]
    assert answers(stage, (b"D\0\0\0\x09Sno\0\0", SYNC)) == ["!08P01 FATAL"]


class Says(Saboteur):
    """Lets backends say a thing later, behind one of their answers; or nothing any more."""

    def __init__(self, at: int, later: bytes = b"") -> None:
        super().__init__()
        self._place, self._later = at, later
        self._count = 0

    def arm(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def says(self, data: bytes, backend: BrokenPostgres) -> bytes:
        if self._rng is None:
            return data
        self._count += 1
        if self._later and self._count - 1 == self._place:
            backend.say_later(self._later)
        return b"" if not self._later and self._count > self._place else data


def broken_server(one: Input) -> Input:
    return one._replace(login=(startup(database="broken"),), sabotage=1, legal_login=False)


def test_the_end_of_a_client_that_is_blocked_is_noticed(stage: Stage) -> None:
    stage.saboteur = Says(1)
    writes = ("prepare p as select 1",), ("select 2",), ("prepare r as select 3",), ("select 4",), ("select 5",)
    stage.play(broken_server(said(*writes, ending=Ending.DROP)))


@pytest.mark.parametrize(
    "later", [encoded(broken.UNASKED[0]), broken.UNASKED[2], broken.UNASKED[0][:7]], ids=["row", "ready", "half a row"]
)
def test_an_idle_server_that_says_what_nobody_asked_for_is_closed(stage: Stage, later: bytes) -> None:
    stage.saboteur = Says(1, later)
    stage.play(broken_server(said(("select 'victim'",))))
    idle = [
        server
        for pool in stage.relay.pools._pools.values()
        for server, _ in pool.plan.idle
        if pool.database == b"broken"
    ]
    # That of the bystander, who came before it said so, or none.
    assert len(idle) <= 1
