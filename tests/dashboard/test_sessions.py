"""Sessions and failed logins: what holds, for how long, and how many."""

from middleware.web.sessions import (
    ADDRESSES_MAX,
    FAILURES_MAX,
    FAILURES_MAX_ALL,
    IDLE_S,
    LIFETIME_S,
    SESSIONS_MAX,
    WINDOW_S,
    Attempts,
    Sessions,
    same,
)


def test_a_session_is_found_by_its_token_alone() -> None:
    sessions = Sessions()
    token, other = sessions.begin("secret", 0.0), sessions.begin("secret", 0.0)
    found = sessions.find(token, "secret", 1.0)
    assert found is not None
    assert found is not sessions.find(other, "secret", 1.0)
    assert sessions.find(token + "x", "secret", 1.0) is None
    assert sessions.find("", "secret", 1.0) is None
    assert found.has(found.csrf)
    assert not found.has("")
    assert not found.has(token)
    assert not found.has("ümlaut")


def test_a_session_ends_by_time_and_when_nobody_uses_it() -> None:
    sessions = Sessions()
    token = sessions.begin("secret", 0.0)
    step = IDLE_S - 1
    now = 0.0
    while now + step < LIFETIME_S:
        now += step
        assert sessions.find(token, "secret", now) is not None
    assert sessions.find(token, "secret", LIFETIME_S) is None
    idle = sessions.begin("secret", 0.0)
    assert sessions.find(idle, "secret", IDLE_S) is None
    # And not again, whatever the clock says then.
    assert sessions.find(idle, "secret", 1.0) is None


def test_a_session_ends_with_its_password_and_by_logging_out() -> None:
    sessions = Sessions()
    token = sessions.begin("secret", 0.0)
    assert sessions.find(token, "another", 1.0) is None
    assert sessions.find(token, "secret", 1.0) is None
    token = sessions.begin("secret", 0.0)
    sessions.end(token)
    assert sessions.find(token, "secret", 1.0) is None


def test_there_are_so_many_sessions_and_what_was_used_longest_ago_goes() -> None:
    sessions = Sessions()
    tokens = [sessions.begin("secret", float(number)) for number in range(SESSIONS_MAX)]
    assert sessions.find(tokens[0], "secret", 100.0) is not None
    sessions.begin("secret", 101.0)
    assert sessions.find(tokens[0], "secret", 102.0) is not None
    assert sessions.find(tokens[1], "secret", 102.0) is None


def test_an_address_waits_after_some_failures_and_others_do_not() -> None:
    attempts = Attempts()
    for number in range(FAILURES_MAX):
        assert attempts.wait_s("10.0.0.1", float(number)) == 0
        attempts.failed("10.0.0.1", float(number))
    assert attempts.wait_s("10.0.0.1", 5.0) == WINDOW_S - 5
    assert attempts.wait_s("10.0.0.2", 5.0) == 0
    # One more as soon as the first is out of the window.
    assert attempts.wait_s("10.0.0.1", WINDOW_S) == 0
    attempts.failed("10.0.0.1", WINDOW_S)
    assert attempts.wait_s("10.0.0.1", WINDOW_S) == 1.0


def test_who_gets_in_has_a_clean_sheet() -> None:
    attempts = Attempts()
    for _ in range(FAILURES_MAX - 1):
        attempts.failed("10.0.0.1", 0.0)
    attempts.succeeded("10.0.0.1")
    attempts.failed("10.0.0.1", 1.0)
    assert attempts.wait_s("10.0.0.1", 1.0) == 0


def test_many_addresses_together_wait_too_and_take_no_memory() -> None:
    attempts = Attempts()
    for number in range(FAILURES_MAX_ALL):
        attempts.failed(f"10.0.0.{number}", 0.0)
    assert attempts.wait_s("10.9.9.9", 1.0) == WINDOW_S - 1
    for number in range(2 * ADDRESSES_MAX):
        attempts.failed(f"10.1.{number}", 2.0)
    assert len(attempts._by_address) == ADDRESSES_MAX


def test_only_the_password_is_the_password() -> None:
    assert same("secret", "secret")
    assert not same("secret ", "secret")
    assert not same("", "secret")
    # None is set: nothing fits.
    assert not same("", "")
    assert same("pässwörd\udcff", "pässwörd\udcff")
