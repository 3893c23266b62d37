"""Logging in to a server: what it may ask for, and what it may not leave out."""

import hashlib

import pytest

from middleware.auth import ServerCredentials
from middleware.errors import ConnectionLost, LoginRefused
from middleware.session.server_login import ServerLogin
from middleware.wire.backend import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    BackendKeyData,
    ReadyForQuery,
)
from middleware.wire.build import message
from middleware.wire.codes import PASSWORD

REST = BackendKeyData(7, b"1234").encode() + ReadyForQuery(b"I").encode()
SASL = AuthenticationSASL((b"SCRAM-SHA-256",)).encode()
HASH = "md5" + hashlib.md5(b"secretann").hexdigest()


def login(secret: str | None = "secret") -> ServerLogin:
    return ServerLogin(b"ann", b"app", ServerCredentials("ann", secret))


def test_no_password_is_asked_for() -> None:
    it = login(None)
    assert it.feed(AuthenticationOk().encode() + REST) == b""
    assert it.done
    assert (it.process_id, it.secret) == (7, b"1234")


@pytest.mark.parametrize("secret", ["secret", HASH])
def test_md5(secret: str) -> None:
    shown = hashlib.md5(HASH[3:].encode() + b"salt").hexdigest().encode()
    asked = AuthenticationMD5Password(b"salt").encode()
    assert login(secret).feed(asked) == message(PASSWORD, b"md5" + shown + b"\0")


def test_clear_text() -> None:
    assert login().feed(AuthenticationCleartextPassword().encode()) == message(PASSWORD, b"secret\0")


@pytest.mark.parametrize("request_", [AuthenticationCleartextPassword(), AuthenticationMD5Password(b"salt")])
def test_nothing_is_known(request_: AuthenticationCleartextPassword | AuthenticationMD5Password) -> None:
    with pytest.raises(LoginRefused, match="none is known") as refused:
        login(None).feed(request_.encode())
    assert refused.value.sqlstate == "28P01"


def test_a_server_may_not_leave_scram_without_its_proof() -> None:
    it = login()
    first = it.feed(SASL)
    nonce = first.partition(b"r=")[2]
    with pytest.raises(LoginRefused, match="without its proof"):
        it.feed(AuthenticationOk().encode())
    it = login()
    nonce = it.feed(SASL).partition(b"r=")[2]
    it.feed(AuthenticationSASLContinue(b"r=" + nonce + b"x,s=eA==,i=1").encode())
    with pytest.raises(LoginRefused, match="without its proof"):
        it.feed(AuthenticationOk().encode() + REST)
    assert not it.done


@pytest.mark.parametrize(
    "answers",
    [
        [AuthenticationSASL((b"SCRAM-SHA-1",)).encode()],
        [AuthenticationSASL((b"SCRAM-SHA-256-PLUS",)).encode()],
        [AuthenticationSASLContinue(b"r=x,s=eA==,i=1").encode()],
        [SASL, AuthenticationSASLContinue(b"r=x,s=eA==,i=1").encode()],
        [SASL, AuthenticationSASLContinue(b"\xff").encode()],
        [SASL, AuthenticationSASLFinal(b"v=eA==").encode()],
        [SASL, SASL],
        [b"R\0\0\0\x08\0\0\0\x63"],
        [b"R\0\0\0\x04"],
        [b"R\0\0\0\x03"],
        [b"R\xff\xff\xff\xff"],
        [b"D\0\0\0\x04"],
    ],
)
def test_what_no_postgresql_says(answers: list[bytes]) -> None:
    it = login()
    for answer in answers[:-1]:
        assert it.feed(answer)
    with pytest.raises((LoginRefused, ConnectionLost)):
        it.feed(answers[-1])
    assert not it.done


def test_what_comes_behind_a_login_is_kept() -> None:
    it = login(None)
    it.feed(AuthenticationOk().encode() + REST + b"N\0\0")
    assert it.done
    assert it.rest == b"N\0\0"


@pytest.mark.parametrize(
    "early", [REST, ReadyForQuery(b"I").encode(), SASL + REST], ids=["key", "ready", "within SCRAM"]
)
def test_nothing_of_a_session_comes_before_the_server_lets_us_in(early: bytes) -> None:
    with pytest.raises(ConnectionLost):
        login().feed(early)


def test_a_session_begins_outside_a_transaction() -> None:
    with pytest.raises(ConnectionLost):
        login(None).feed(AuthenticationOk().encode() + ReadyForQuery(b"T").encode())
