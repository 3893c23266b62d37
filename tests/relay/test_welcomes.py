"""What clients are told at their logins, without a server being asked for each."""

from middleware.relay.welcomes import KINDS_MAX, Welcomes
from middleware.session.parameters import Interned
from middleware.wire.build import message
from middleware.wire.codes import PARAMETER_STATUS

REPORTED = {b"TimeZone": b"UTC", b"application_name": b"first", b"is_superuser": b"off"}


def status(name: bytes, value: bytes) -> bytes:
    return message(PARAMETER_STATUS, name + b"\0" + value + b"\0")


def test_an_application_name_needs_no_server() -> None:
    interned, welcomes = Interned(), Welcomes()
    utc = (b"timezone", b"UTC")
    first, second, long, plain, other = (
        interned.of(values)
        for values in (
            ((b"application_name", b"first"), utc),
            ((b"application_name", b"second"), utc),
            ((b"application_name", b"x" * 70), utc),
            (utc,),
            ((b"application_name", b"first"), (b"timezone", b"Asia/Tokyo")),
        )
    )
    assert welcomes.known(b"d", b"u", first) is None
    common = status(b"TimeZone", b"UTC") + status(b"is_superuser", b"off")
    told = welcomes.learn(b"d", b"u", first, REPORTED)
    assert told == welcomes.known(b"d", b"u", first) == common + status(b"application_name", b"first")
    assert welcomes.known(b"d", b"u", second) == common + status(b"application_name", b"second")
    assert welcomes.known(b"d", b"u", long) == common + status(b"application_name", b"x" * 63)
    # One that gives none has the server's own.
    assert welcomes.known(b"d", b"u", plain) is None
    assert welcomes.learn(b"d", b"u", plain, {b"application_name": b"of the role"}) == status(
        b"application_name", b"of the role"
    )
    assert [welcomes.known(*who) for who in ((b"d", b"u", other), (b"e", b"u", first), (b"d", b"v", first))] == [
        None
    ] * 3
    welcomes.clear()
    assert welcomes.known(b"d", b"u", first) is None


def test_one_that_the_server_would_show_otherwise_is_asked_for() -> None:
    interned, welcomes = Interned(), Welcomes()
    for name in (b"caf\xc3\xa9", b"tab\t", b"\x7f"):
        odd = interned.of(((b"application_name", name),))
        assert welcomes.known(b"d", b"u", odd) is None
        told = welcomes.learn(b"d", b"u", odd, {b"application_name": b"as shown"})
        assert told == welcomes.known(b"d", b"u", odd) == status(b"application_name", b"as shown")


def test_so_many_are_remembered() -> None:
    interned, welcomes = Interned(), Welcomes()
    plain = interned.of(())
    for number in range(KINDS_MAX + 1):
        welcomes.learn(b"%d" % number, b"u", plain, {})
    assert [welcomes.known(database, b"u", plain) for database in (b"0", b"1")] == [None, b""]
