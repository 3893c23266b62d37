"""A server's meter: what is counted of exchanges whose moments are known."""

import msgspec
import pytest

from middleware.reports import BUCKETS_S
from middleware.session import digests
from middleware.session.digests import Digest
from middleware.session.expected import HIDDEN, HIDDEN_LAST, SYNC, SYNC_UNSEEN
from middleware.session.meter import Meter
from middleware.session.server import ServerSession
from middleware.session.tally import NOBODY, Tally, Timing, Timings
from middleware.wire.backend import CommandComplete, DataRow, ErrorResponse, ReadyForQuery

IDLE = ReadyForQuery(b"I").encode()
OPEN = ReadyForQuery(b"T").encode()
ERROR = ErrorResponse(((b"S", b"ERROR"), (b"V", b"ERROR"), (b"C", b"22012"), (b"M", b"division by zero"))).encode()


class Lent:
    """A server session that is lent at 10, after a wait of 2, and what is counted of it."""

    def __init__(self) -> None:
        self.session = ServerSession(10, {})
        self.tally = Tally(Timings())
        self.session.meter.taken(self.tally, 10.0, 2.0)

    def answers(self, now: float, *replies: bytes) -> None:
        self.session.meter.now = now
        self.session.feed(b"".join(replies))

    def counted(self) -> tuple[int, int, int, float, float]:
        one = self.tally
        return one.queries, one.xacts, one.errors, one.query_s, one.xact_s


def test_a_query_of_its_own() -> None:
    lent = Lent()
    lent.session.expected.append(SYNC)
    lent.answers(11.0, DataRow((b"1",)).encode())
    assert lent.counted() == (0, 0, 0, 0, 0)
    lent.answers(13.0, CommandComplete(b"SELECT 1").encode(), IDLE)
    assert lent.counted() == (1, 1, 0, 3, 3)
    lent.session.meter.left(14.0, goes_on=False, unanswered=0)
    assert lent.counted() == (1, 1, 0, 3, 3)
    assert (lent.tally.assignments, lent.tally.wait_s) == (1, 2)
    timings = lent.tally.timings
    assert (timings.wait.sum_s, timings.query.sum_s, timings.checkout.sum_s) == (2, 3, 4)
    assert lent.session.meter.tally is NOBODY


def test_a_transaction_counts_its_pauses_and_its_queries_do_not() -> None:
    lent = Lent()
    meter = lent.session.meter
    for asked, answered, status in ((10.0, 11.0, OPEN), (15.0, 17.0, OPEN), (20.0, 21.0, IDLE)):
        if not meter.began:
            meter.asked(asked)
        lent.session.expected.append(SYNC)
        lent.answers(answered, status)
    assert lent.counted() == (3, 1, 0, 4, 11)


def test_of_answers_that_come_together_the_first_has_the_time() -> None:
    lent = Lent()
    lent.session.expected.extend((SYNC, SYNC, SYNC))
    lent.answers(12.0, IDLE, IDLE)
    assert lent.counted() == (2, 2, 0, 2, 2)
    lent.answers(15.0, IDLE)
    assert lent.counted() == (3, 3, 0, 5, 5)
    assert sum(lent.tally.timings.query.counts) == 3


def test_what_is_asked_on_our_own_account_is_no_query() -> None:
    lent = Lent()
    lent.session.expected.extend((HIDDEN, SYNC))
    lent.answers(12.0, ERROR, IDLE, IDLE)
    # The settings that go in front are in its time, and their errors in nobody's.
    assert lent.counted() == (1, 1, 0, 2, 2)
    lent.session.expected.append(HIDDEN)
    lent.answers(15.0, IDLE)
    assert lent.counted() == (1, 1, 0, 2, 2)


def test_a_batch_with_an_exchange_of_ours_behind_it_is_one_query() -> None:
    lent = Lent()
    lent.session.expected.extend((SYNC_UNSEEN, HIDDEN_LAST))
    lent.answers(12.0, CommandComplete(b"SET").encode(), IDLE)
    assert lent.counted() == (0, 0, 0, 0, 0)
    lent.answers(13.0, IDLE)
    assert lent.counted() == (1, 1, 0, 3, 3)


def test_what_goes_on_elsewhere_counts_there_and_its_time_here() -> None:
    lent = Lent()
    lent.session.expected.append(SYNC)
    lent.answers(11.0, OPEN)
    lent.session.expected.append(HIDDEN)
    lent.answers(12.0, IDLE)
    lent.session.meter.left(12.0, goes_on=True, unanswered=0)
    assert lent.counted() == (1, 0, 0, 1, 2)


def test_a_server_that_is_lost_leaves_what_it_owed_as_queries() -> None:
    lent = Lent()
    lent.session.expected.extend((SYNC, SYNC))
    lent.session.meter.left(16.0, goes_on=False, unanswered=lent.session.unanswered())
    assert lent.counted() == (2, 1, 0, 6, 6)
    again = Lent()
    again.session.expected.append(SYNC)
    again.session.meter.left(16.0, goes_on=True, unanswered=again.session.unanswered())
    assert again.counted() == (0, 0, 0, 6, 6)


class Watched(Digest):
    """What is told of its end."""

    def __init__(self) -> None:
        super().__init__("", "")
        self.told: list[tuple[str, float, bool]] = []

    def answered(self, took_s: float, rows: int, failed: bool) -> None:
        self.told.append(("answered", took_s, failed))

    def lost(self, took_s: float, goes_on: bool) -> None:
        self.told.append(("lost", took_s, goes_on))


@pytest.mark.skipif(
    not digests.__file__.endswith(".py"), reason="a compiled class has no subclass in Python, such as Watched"
)
@pytest.mark.parametrize("goes_on", [False, True])
def test_what_is_not_answered_hears_how_long_it_took(goes_on: bool) -> None:
    lent = Lent()
    calls = [Watched() for _ in range(3)]
    lent.session.expected.extend((SYNC, SYNC, SYNC))
    lent.session.meter.calls.extend(calls)
    lent.answers(11.0, IDLE)
    lent.session.meter.left(16.0, goes_on=goes_on, unanswered=2)
    # The last had not begun.
    assert [call.told for call in calls] == [
        [("answered", 1.0, False)],
        [("lost", 5.0, goes_on)],
        [("lost", 0.0, goes_on)],
    ]
    assert lent.session.meter.calls == []


def test_an_open_transaction_that_is_left_was_one() -> None:
    lent = Lent()
    lent.session.expected.append(SYNC)
    lent.answers(11.0, OPEN)
    lent.session.meter.left(15.0, goes_on=False, unanswered=0)
    assert lent.counted() == (1, 1, 0, 1, 5)


def test_a_part_that_was_passed_over_leaves_nothing_behind() -> None:
    lent = Lent()
    lent.session.expected.append(SYNC_UNSEEN)
    lent.answers(11.0, IDLE)
    lent.session.meter.left(15.0, goes_on=False, unanswered=0)
    assert lent.counted() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("tag", "rows"),
    [
        (b"SELECT 1", 1),
        (b"INSERT 0 120", 120),
        (b"COPY 1234567", 1_234_567),
        (b"UPDATE 0", 0),
        (b"BEGIN", 0),
        (b"CREATE TABLE", 0),
        (b"7", 7),
        (b"", 0),
    ],
)
def test_rows_are_those_of_the_tags_wherever_they_are_cut(tag: bytes, rows: int) -> None:
    data = CommandComplete(tag).encode() * 2 + ERROR + IDLE
    for cut in range(len(data)):
        lent = Lent()
        digest = Digest("d", "s")
        lent.session.meter.calls.append(digest)
        lent.session.expected.append(SYNC)
        lent.answers(11.0, data[:cut])
        lent.answers(12.0, data[cut:])
        assert (digest.rows, digest.errors, digest.total_s) == (2 * rows, 1, 2)
        assert lent.counted()[:3] == (1, 1, 1)


def test_each_ready_for_query_is_for_the_next_call() -> None:
    lent = Lent()
    first, second = Digest("d", "1"), Digest("d", "2")
    lent.session.meter.calls.extend((first, second))
    lent.session.expected.extend((SYNC, SYNC))
    lent.answers(11.0, CommandComplete(b"SELECT 3").encode(), IDLE, ERROR, IDLE)
    assert [(one.rows, one.errors, one.total_s) for one in (first, second)] == [(3, 0, 1), (0, 1, 0)]
    assert lent.session.meter.calls == []


def test_what_is_no_clients_is_told_to_nobody() -> None:
    session = ServerSession(10, {})
    before = msgspec.json.encode({name: getattr(NOBODY, name) for name in ("queries", "xacts")})
    session.expected.append(HIDDEN)
    session.feed(IDLE)
    assert msgspec.json.encode({name: getattr(NOBODY, name) for name in ("queries", "xacts")}) == before
    assert isinstance(session.meter, Meter)


@pytest.mark.parametrize("index", range(len(BUCKETS_S)))
def test_a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed(index: int) -> None:
    timing = Timing()
    timing.observe(BUCKETS_S[index])
    timing.observe(BUCKETS_S[index] * 1.0001)
    expected = [0] * (len(BUCKETS_S) + 1)
    expected[index] = expected[index + 1] = 1
    assert timing.counts == expected
    timing.observe(BUCKETS_S[-1] * 100)
    assert timing.counts[-1] >= 1
    assert timing.histogram().sum_s == pytest.approx(BUCKETS_S[index] * 2.0001 + BUCKETS_S[-1] * 100)


def test_timings_add_up() -> None:
    one, other = Timing(), Timing()
    one.observe(0.2)
    other.observe(0.2)
    other.observe(5.0)
    one.add(other)
    assert sum(one.counts) == 3
    assert one.sum_s == pytest.approx(5.4)
