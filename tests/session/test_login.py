"""A client's way in: what is negotiated, what is refused, and that no bytes lead elsewhere."""

from base64 import b64encode

import pytest
import scramp
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.auth import Access, Authority, HbaRule, UserMapping
from middleware.auth.made_up import look_of, nobody_of
from middleware.auth.scram import keys_of, verifier_of
from middleware.errors import LoginRefused, NotSupported, PointsmanError, ProtocolViolation
from middleware.session.login import ClientLogin
from middleware.wire.backend import (
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    NegotiateProtocolVersion,
    decode_backend,
)
from middleware.wire.fields import Message
from middleware.wire.framing import Framer
from middleware.wire.frontend import (
    CancelRequest,
    GSSENCRequest,
    PasswordMessage,
    Query,
    SASLInitialResponse,
    SASLResponse,
    SSLRequest,
    StartupMessage,
)
from tests.chunks import CUTS, cut
from tests.wire.cases import STARTUP

SECRETS: dict[str, str | None] = {"ann": "secret", "bob": None}
OK = AuthenticationOk().encode()
SASL = AuthenticationSASL((b"SCRAM-SHA-256",)).encode()
ANN = ((b"user", b"ann"),)
STARTUP_ANN = StartupMessage(ANN).encode()


def login_by(method: str) -> ClientLogin:
    rule = HbaRule("any", ("=all", "=replication"), ("=all",), (), method)
    return ClientLogin(Authority(Access((rule,), (), SECRETS, b"seed")), "127.0.0.1")


def trust() -> ClientLogin:
    return login_by("trust")


def scram() -> ClientLogin:
    return login_by("scram-sha-256")


def told(data: bytes) -> list[Message]:
    return [decode_backend(code, body) for code, body in Framer(1000).feed(data)]


class Prover:
    """The client's side of SCRAM, out of order where told to be."""

    def __init__(self, password: str = "secret") -> None:
        self._client = scramp.ScramClient(["SCRAM-SHA-256"], "ann", password)

    def first(self) -> bytes:
        return SASLInitialResponse(b"SCRAM-SHA-256", self._client.get_client_first().encode()).encode()

    def final(self, challenge: bytes) -> bytes:
        (message,) = told(challenge)
        assert isinstance(message, AuthenticationSASLContinue)
        self._client.set_server_first(message.data.decode())
        return SASLResponse(self._client.get_client_final().encode()).encode()

    def check(self, message: Message) -> None:
        assert isinstance(message, AuthenticationSASLFinal)
        self._client.set_server_final(message.data.decode())


@pytest.mark.parametrize(
    ("version", "options", "protocol", "answer"),
    [
        (0x0003_0000, (), 0x0003_0000, []),
        (0x0003_0001, (), 0x0003_0001, []),
        (0x0003_0002, (), 0x0003_0002, []),
        (0x0003_0003, (), 0x0003_0002, [NegotiateProtocolVersion(0x0003_0002)]),
        (0x0003_270F, (), 0x0003_0002, [NegotiateProtocolVersion(0x0003_0002)]),
        (0x0003_0000, (b"_pq_.a",), 0x0003_0000, [NegotiateProtocolVersion(0x0003_0000, (b"_pq_.a",))]),
        (0x0003_0002, (b"_pq_.a",), 0x0003_0002, [NegotiateProtocolVersion(0x0003_0002, (b"_pq_.a",))]),
        (
            0x0003_270F,
            (b"_pq_.b", b"_pq_.a"),
            0x0003_0002,
            [NegotiateProtocolVersion(0x0003_0002, (b"_pq_.b", b"_pq_.a"))],
        ),
    ],
)
def test_negotiation(version: int, options: tuple[bytes, ...], protocol: int, answer: list[Message]) -> None:
    login = trust()
    parameters = (*ANN, *((name, b"1") for name in options))
    assert told(login.feed(StartupMessage(parameters, version).encode())) == [*answer, AuthenticationOk()]
    assert login.protocol == protocol
    assert login.user == b"ann"


@pytest.mark.parametrize("version", [0x0002_0000, 0x0001_0000, 0x0004_0000, 0, 0xFFFF_FFFF])
def test_other_major_versions_are_refused(version: int) -> None:
    with pytest.raises(NotSupported) as refused:
        trust().feed(StartupMessage(ANN, version).encode())
    assert refused.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (b"\0\0\0\0", ProtocolViolation),
        (b"\0\0\0\x07", ProtocolViolation),
        (b"\0\0\x27\x15", ProtocolViolation),
        (b"GET / HTTP/1.1\r\n", ProtocolViolation),
        (b"\0\0\0\x08\0\x03\0\0", ProtocolViolation),
        (b"\0\0\0\x09\0\x03\0\0\0", LoginRefused),
        (b"\0\0\0\x12\0\x03\0\0user\0annx\0", ProtocolViolation),
        (b"\0\0\0\x11\0\x03\0\0user\0ann\0", ProtocolViolation),
        (b"\0\0\0\x0e\0\x03\0\0user\0\0", ProtocolViolation),
        (b"\0\0\0\x13\0\x03\0\0user\0ann\0\0x", ProtocolViolation),
        (b"\0\0\0\x13\0\x03\0\0user\0ann\0\0\0", ProtocolViolation),
        (StartupMessage(((b"database", b"app"),)).encode(), LoginRefused),
        (StartupMessage(((b"user", b""),)).encode(), LoginRefused),
        (StartupMessage(((b"user", b"nobody"),)).encode(), LoginRefused),
        (StartupMessage((*ANN, (b"replication", b"perhaps"))).encode(), LoginRefused),
        (b"\0\0\0\x0c" + SSLRequest().encode()[4:] + b"\0\0\0\0", ProtocolViolation),
        (SSLRequest().encode() * 3, ProtocolViolation),
        (b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x01", ProtocolViolation),
        (CancelRequest(1, b"k" * 257).encode(), ProtocolViolation),
    ],
)
def test_refused(packet: bytes, error: type[PointsmanError]) -> None:
    with pytest.raises(error):
        trust().feed(packet)


def test_the_missing_user_is_an_invalid_authorization() -> None:
    with pytest.raises(LoginRefused) as refused:
        trust().feed(StartupMessage(((b"database", b"app"),)).encode())
    assert refused.value.sqlstate == "28000"


@pytest.mark.parametrize(
    ("parameters", "database"),
    [
        (ANN, b"ann"),
        ((*ANN, (b"database", b"")), b"ann"),
        ((*ANN, (b"database", b"app")), b"app"),
        ((*ANN, (b"replication", b"off")), b"ann"),
        ((*ANN, (b"replication", b"database"), (b"database", b"app")), b"app"),
        ((*ANN, (b"replication", b"on"), (b"database", b"app")), b"replication"),
    ],
)
def test_database(parameters: tuple[tuple[bytes, bytes], ...], database: bytes) -> None:
    login = trust()
    assert login.feed(StartupMessage(parameters).encode()) == OK
    assert login.database == database


@pytest.mark.parametrize(
    ("replication", "words", "message"),
    [
        (b"true", "=all", 'no pg_hba.conf entry for replication connection from host "127.0.0.1", user "ann", no '),
        (b"true", "=replication", None),
        (b"database", "=all", None),
        (b"database", "=replication", 'no pg_hba.conf entry for host "127.0.0.1", user "ann", database "ann", no '),
        (b"false", "=replication", 'no pg_hba.conf entry for host "127.0.0.1", user "ann", database "ann", no '),
    ],
)
def test_rules_for_replication(replication: bytes, words: str, message: str | None) -> None:
    rule = HbaRule("any", (words,), ("=all",), (), "trust")
    login = ClientLogin(Authority(Access((rule,), (), SECRETS, b"seed")), "127.0.0.1")
    packet = StartupMessage((*ANN, (b"replication", replication))).encode()
    if message is None:
        assert login.feed(packet) == OK
    else:
        with pytest.raises(LoginRefused, match=message):
            login.feed(packet)


@given(cuts=CUTS)
def test_encryption_refused_then_login(cuts: list[int]) -> None:
    login = trust()
    # Each request waits for its answer.
    assert b"".join(map(login.feed, cut(GSSENCRequest().encode(), cuts))) == b"N"
    assert b"".join(map(login.feed, cut(SSLRequest().encode(), cuts))) == b"N"
    for part in cut(STARTUP_ANN + Query(b"select 1").encode(), cuts):
        login.feed(part)
    assert login.user == b"ann"
    assert login.rest == Query(b"select 1").encode()


@pytest.mark.parametrize("request_", [SSLRequest(), GSSENCRequest()])
def test_nothing_may_be_sent_ahead_of_the_answer_to_an_encryption_request(
    request_: SSLRequest | GSSENCRequest,
) -> None:
    with pytest.raises(ProtocolViolation, match="received unencrypted data"):
        trust().feed(request_.encode() + STARTUP_ANN)


@pytest.mark.parametrize("secret", [b"1234", b"k" * 32, b"k" * 256])
@given(cuts=CUTS)
def test_cancel_request(secret: bytes, cuts: list[int]) -> None:
    login = scram()
    assert b"".join(map(login.feed, cut(CancelRequest(4711, secret).encode(), cuts))) == b""
    assert login.cancel == (4711, secret)
    assert login.user is None


@given(first_cuts=CUTS, final_cuts=CUTS)
def test_scram(first_cuts: list[int], final_cuts: list[int]) -> None:
    login, prover = scram(), Prover()
    assert b"".join(map(login.feed, cut(STARTUP_ANN, first_cuts))) == SASL
    challenge = b"".join(map(login.feed, cut(prover.first(), first_cuts)))
    final, ok = told(b"".join(map(login.feed, cut(prover.final(challenge), final_cuts))))
    prover.check(final)
    assert ok == AuthenticationOk()
    assert login.user == b"ann"


@pytest.mark.parametrize("user", [b"ann", b"bob", b"nobody", b"\xff"])
def test_a_wrong_password_and_an_unknown_user_look_alike(user: bytes) -> None:
    login, prover = scram(), Prover("wrong")
    assert login.feed(StartupMessage(((b"user", user),)).encode()) == SASL
    final = prover.final(login.feed(prover.first()))
    with pytest.raises(LoginRefused) as refused:
        login.feed(final)
    assert refused.value.sqlstate == "28P01"
    assert login.user is None


@pytest.mark.parametrize(
    "proof",
    [
        Query(b"select 1").encode(),
        b"p\0\0\0\x03",
        b"p\0\x01\0\0",
        SASLInitialResponse(b"SCRAM-SHA-1", b"n,,n=,r=x").encode(),
        SASLInitialResponse(b"SCRAM-SHA-256").encode(),
        SASLInitialResponse(b"SCRAM-SHA-256", b"").encode(),
        SASLInitialResponse(b"SCRAM-SHA-256", b"n,,n=,r=\xff").encode(),
        SASLInitialResponse(b"SCRAM-SHA-256", b"p=tls-unique,,n=,r=abc").encode(),
        SASLInitialResponse(b"SCRAM-SHA-256", b"n,,n=,r=x").encode()[:-1].replace(b"\x1f", b"\x1e"),
        PasswordMessage(b"secret").encode(),
    ],
)
def test_bad_first_proof(proof: bytes) -> None:
    login = scram()
    login.feed(STARTUP_ANN)
    with pytest.raises((ProtocolViolation, LoginRefused)):
        login.feed(proof)
    assert login.user is None


@given(body=st.binary(max_size=60) | st.text("cnrpv=,biwsx", max_size=40).map(str.encode), cuts=CUTS)
@example(body=b"", cuts=[])
@example(body=b"c=biws", cuts=[])
@example(body=b"c=biws,r=x,p=!", cuts=[])
def test_bad_final_proof(body: bytes, cuts: list[int]) -> None:
    login = scram()
    login.feed(STARTUP_ANN)
    login.feed(Prover().first())
    with pytest.raises(PointsmanError):
        list(map(login.feed, cut(SASLResponse(body).encode(), cuts)))
    assert login.user is None


@given(body=st.binary(max_size=60) | st.text("cnrpv=,biwsx", max_size=40).map(str.encode))
def test_arbitrary_first_proof(body: bytes) -> None:
    login = scram()
    login.feed(STARTUP_ANN)
    try:
        login.feed(SASLInitialResponse(b"SCRAM-SHA-256", body).encode())
    except PointsmanError:
        return
    assert login.user is None


@pytest.mark.parametrize(("_packet", "data"), STARTUP)
def test_truncated_packets_wait_for_more(_packet: object, data: bytes) -> None:
    for size in range(len(data)):
        login = scram()
        assert login.feed(data[:size]) == b""
        assert login.user is None
        assert login.cancel is None


@given(chunks=st.lists(st.binary(max_size=60) | st.sampled_from([data for _, data in STARTUP]), max_size=10))
def test_arbitrary_bytes(chunks: list[bytes]) -> None:
    login = scram()
    for chunk in chunks:
        try:
            assert isinstance(login.feed(chunk), bytes)
        except PointsmanError:
            break
        assert len(login.rest) <= 65_540 or login.cancel is not None
    assert login.user is None


@given(body=st.binary(max_size=80))
def test_arbitrary_startup_bodies(body: bytes) -> None:
    login = trust()
    try:
        login.feed((len(body) + 8).to_bytes(4, "big") + b"\0\x03\0\0" + body)
    except PointsmanError:
        return
    assert login.user in (b"ann", b"bob")


@pytest.mark.parametrize("password", [b"pencil", b"wrong"])
@pytest.mark.parametrize("user", [b"sue", b"ann", b"nobody"])
def test_a_password_in_clear_text_waits_for_keys_whoever_shows_it(user: bytes, password: bytes) -> None:
    secret = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$%s:%s"
    keys = keys_of("pencil", bytes(16), 4096)
    stored = verifier_of(keys, bytes(16), 4096)
    known = {"sue": secret % tuple(b64encode(part).decode() for part in stored[2:]), "ann": "pencil"}
    rule = HbaRule("any", ("=all",), ("=all",), (), "password")
    nobody = nobody_of(look_of(one) for one in known.values())
    login = ClientLogin(Authority(Access((rule,), (), {**known}, b"seed", nobody=nobody)), "127.0.0.1")
    login.feed(StartupMessage(((b"user", user),)).encode())
    assert login.feed(PasswordMessage(password).encode() + Query(b"select 1").encode()) == b""
    assert login.derives is not None
    shown, _, iterations = login.derives
    assert (shown.encode(), iterations, login.user) == (password, 4096, None)
    if user != b"nobody" and password == b"pencil":
        assert login.derived(keys_of(*login.derives)) == OK
        assert login.feed(b"") == b""
        assert (login.user, login.rest) == (user, Query(b"select 1").encode())
    else:
        with pytest.raises(LoginRefused, match="password authentication failed"):
            login.derived(keys_of(*login.derives))


@pytest.mark.parametrize(
    ("peer", "map_name", "user", "error"),
    [
        ("ann", "", b"ann", ""),
        ("eve", "", b"ann", "Peer authentication failed"),
        ("eve", "m", b"ann", ""),
        ("ann", "m", b"ann", "Peer authentication failed"),
        ("", "", b"ann", "Peer authentication failed"),
        ("", "any", b"ann", "Peer authentication failed"),
        ("nobody", "", b"nobody", 'role "nobody" does not exist'),
    ],
)
def test_peer(peer: str, map_name: str, user: bytes, error: str) -> None:
    rule = HbaRule("local", ("=all",), ("=all",), (), "peer", map_name)
    maps = (UserMapping("m", "eve", "ann"), UserMapping("any", "/.*", "=all"))
    login = ClientLogin(Authority(Access((rule,), maps, SECRETS, b"seed")), "unix", peer=lambda: peer)
    packet = StartupMessage(((b"user", user),)).encode()
    if error:
        with pytest.raises(LoginRefused, match=error) as refused:
            login.feed(packet)
        assert refused.value.sqlstate == "28000"
    else:
        assert login.feed(packet) == OK
        assert login.user == user
