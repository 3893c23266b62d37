"""What the log is told of openings that fail."""

from middleware.pool.failures import ERRORS_MAX, WHO_MAX, Failures


def test_each_failure_is_told_once_until_it_is_over() -> None:
    one = Failures()
    told = [one.failed(b"bad", b"u", "no database"), one.failed(b"good", b"u", "refused")]
    assert told == [True, True]
    for _ in range(3):
        # Its success says nothing of another's failure, nor the other way round.
        assert not one.failed(b"bad", b"u", "no database")
        one.succeeded(b"good", b"u")
    assert [one.failed(b"bad", b"u", "refused"), one.failed(b"bad", b"u", "refused")] == [True, False]
    assert [one.succeeded(b"bad", b"u"), one.succeeded(b"bad", b"u")] == [True, False]
    assert one.failed(b"bad", b"u", "no database")


def test_it_remembers_so_many_and_no_more() -> None:
    one = Failures()
    for number in range(WHO_MAX + 1):
        assert one.failed(b"%d" % number, b"u", "no database")
    assert one.failed(b"0", b"u", "no database")
    assert not one.failed(b"%d" % WHO_MAX, b"u", "no database")
    told = [one.failed(b"varied", b"u", f"error {number}") for number in range(ERRORS_MAX + 5)]
    assert told == [True] * ERRORS_MAX + [False] * 5
