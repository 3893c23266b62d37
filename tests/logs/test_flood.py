"""A storm of one event is cut down, and the rest is counted."""

from middleware.logs.flood import BURST_S, TELL_S, Flood


def flood(rate_max: float) -> Flood:
    one = Flood()
    one.rate_max = rate_max
    return one


def test_a_quiet_event_may_burst_and_a_storm_is_held_to_its_rate() -> None:
    one = flood(10.0)
    written = sum(one.admits("refused", 100.0) for _ in range(1000))
    assert written == 10 * BURST_S
    # A hundred seconds of a thousand a second.
    written = sum(one.admits("refused", 100.0 + i / 1000) for i in range(100_000))
    assert 995 <= written <= 1005


def test_others_are_not_touched() -> None:
    one = flood(1.0)
    while one.admits("refused", 0.0):
        pass
    assert one.admits("lost", 0.0)


def test_all_that_was_left_out_is_counted_once() -> None:
    one = flood(1.0)
    written = sum(one.admits("a", 0.0) for _ in range(50))
    written_b = sum(one.admits("b", 0.0) for _ in range(20))
    assert one.left_out(0.0) == {"a": 50 - written, "b": 20 - written_b}
    assert one.left_out(0.0) == {}
    assert not one.admits("a", 0.1)
    assert one.left_out(0.1) == {}, "it was told just now"
    assert one.left_out(0.1, at_once=True) == {"a": 1}
    assert not one.admits("a", 0.2)
    assert one.left_out(0.1 + TELL_S) == {"a": 1}


def test_without_a_bound_all_is_written() -> None:
    one = flood(0.0)
    assert all(one.admits("a", 0.0) for _ in range(100_000))
    assert one.left_out(100.0) == {}
