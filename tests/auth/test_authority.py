"""What a proof is checked against, of every kind of secret, and that nobody who does not exist stands out."""

import base64
import hashlib
from collections.abc import Callable
from typing import Final

import anyio
import pytest
import scramp

from middleware.auth import Access, Authority
from middleware.auth.made_up import ASKED_NONE, Nobody, look_of, nobody_of
from middleware.auth.rules import kind_of
from middleware.auth.scram import ClientExchange, Keys, ServerExchange, keys_of, parsed_verifier, verifier_of
from middleware.errors import LoginRefused, PointsmanError, ProtocolViolation
from middleware.supervisor.derivations import Derivations

SALT: Final = b"0123456789abcdef"
# As PostgreSQL 16 keeps the password "pencil" with this salt.
VERIFIER: Final = verifier_of(keys_of("pencil", SALT, 4096), SALT, 4096)


def text_of(password: str, iterations: int = 4096, salt: bytes = SALT) -> str:
    verifier = verifier_of(keys_of(password, salt, iterations), salt, iterations)
    shown, stored, server = (base64.b64encode(part).decode() for part in verifier[1:])
    return f"SCRAM-SHA-256${iterations}:{shown}${stored}:{server}"


SECRETS: Final[dict[str, str | None]] = {
    "plain": "pencil",
    "md5": "md5" + hashlib.md5(b"pencilmd5").hexdigest(),
    "scram": text_of("pencil"),
    "none": None,
}
UNKNOWN: Final = ("none", "nobody")


def authority(**secrets: str | None) -> Authority:
    known = secrets or SECRETS
    return Authority(Access((), (), known, b"seed", nobody=nobody_of(look_of(one) for one in known.values() if one)))


def access_with(secrets: dict[str, str | None]) -> Access:
    """As the supervisor tells it: with verifiers of plain passwords."""
    told: list[Access] = []

    async def derive() -> None:
        access = Access((), (), secrets, b"seed", nobody=nobody_of(look_of(one) for one in secrets.values() if one))
        derivations = Derivations(access, told.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(derivations.run)
            with anyio.fail_after(60):
                while not told or len(told[-1].verifiers) < sum(
                    kind_of(one or "md5") == "plain" for one in secrets.values()
                ):
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    anyio.run(derive)
    return told[-1]


def shows(it: Authority, user: str, password: str) -> bool:
    """Whether a password in clear text is taken for the user's."""
    work = it.password_work(user)
    return it.is_password(user, password, None if work is None else keys_of(password, *work))


def test_kinds() -> None:
    assert [kind_of(secret) for secret in SECRETS.values() if secret] == ["plain", "md5", "scram"]
    assert kind_of("md5" + "x" * 32) == "plain"
    assert parsed_verifier(text_of("pencil")) == VERIFIER
    for wrong in ("SCRAM-SHA-256$0:eA==$eA==:eA==", text_of("a")[:-4], text_of("a").replace("$4096", "$999999999")):
        assert parsed_verifier(wrong) is None


@pytest.mark.parametrize("user", ["plain", "md5", "scram"])
def test_passwords(user: str) -> None:
    it = authority()
    assert shows(it, user, "pencil")
    assert not shows(it, user, "pencil ")
    assert not shows(it, user, "")
    # What is kept of it is not it.
    assert user == "plain" or not shows(it, user, SECRETS[user] or "")


@pytest.mark.parametrize("user", UNKNOWN)
@pytest.mark.parametrize("others", ["plain", "md5", "scram"])
def test_nobody_has_a_password(user: str, others: str) -> None:
    it = authority(**{others: SECRETS[others], "none": None})
    assert it.kind(user) == others
    assert not shows(it, user, "")
    assert not it.is_md5(user, b"salt", b"md5" + hashlib.md5(hashlib.md5(user.encode()).hexdigest().encode()).digest())
    inner = hashlib.md5(user.encode()).hexdigest().encode()
    assert not it.is_md5(user, b"salt", b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode())
    assert not it.verifier(user)[1]


def test_md5() -> None:
    it = authority()
    for user in ("plain", "md5"):
        inner = hashlib.md5(b"pencil" + user.encode()).hexdigest().encode()
        shown = b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode()
        assert it.is_md5(user, b"salt", shown)
        assert not it.is_md5(user, b"tlas", shown)


def test_salts_are_those_of_every_worker_and_tell_nothing() -> None:
    salts = {user: authority().verifier(user)[0].salt for user in ("plain", *UNKNOWN, "other")}
    assert salts == {user: authority().verifier(user)[0].salt for user in salts}
    assert len(set(salts.values())) == 4
    assert {len(salt) for salt in salts.values()} == {16}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords of which keys were derived: counted, as time tells little on a machine that others use."""
    done: list[str] = []

    def counted(password: str, salt: bytes, iterations: int) -> Keys:
        done.append(password)
        return keys_of(password, salt, iterations)

    for module in ("made_up", "authority"):
        monkeypatch.setattr(f"middleware.auth.{module}.keys_of", counted, raising=False)
    return done


NAMES: Final = 200


def challenge(it: Authority, user: str) -> tuple[str, int, int]:
    """What a first attempt shows: the kind of the challenge, SCRAM's iterations and the length of its salt."""
    server = ServerExchange(it.verifier(user)[0], True, user, b"", False)
    _, salt, iterations = server.first(b"SCRAM-SHA-256", b"n,,n=,r=a").split(b",")
    return it.kind(user), int(iterations[2:]), len(base64.b64decode(salt[2:]))


@pytest.mark.parametrize("secret", ["pencil", text_of("pencil"), text_of("pencil", 10_000, b"salt of 20 bytes ...")])
def test_first_attempts_by_scram(work: list[str], secret: str) -> None:
    """Many who exist and as many who do not: none makes work, and all are shown alike."""
    access = access_with({f"known {number}": secret for number in range(NAMES)})
    work.clear()
    it = Authority(access)
    looks = [{challenge(it, f"{who} {number}") for number in range(NAMES)} for who in ("known", "nobody")]
    assert work == []
    assert looks[0] == looks[1]
    assert len(looks[0]) == 1


@pytest.mark.parametrize("secrets", [("pencil",), ("md5" + "0" * 32,), (text_of("pencil"),), ("a", text_of("pencil"))])
def test_first_attempts_by_password(work: list[str], secrets: tuple[str, ...]) -> None:
    """A password in clear text is as much work for all, and none where no secret needs any."""
    known: dict[str, str | None] = {
        f"{index} {number}": secret for index, secret in enumerate(secrets) for number in range(NAMES)
    }
    access = access_with(known)
    it = Authority(access)
    asked = {user: it.password_work(user) for user in (*known, *(f"nobody {number}" for number in range(NAMES)))}
    assert {one is None for one in asked.values()} == {not any(secret.startswith("SCRAM") for secret in secrets)}
    assert {one[1] for one in asked.values() if one} <= {4096}
    work.clear()
    assert not any(it.is_password(user, "wrong", None) for user in asked)
    assert work == []


def test_what_is_not_derived_yet_is_derived_once(work: list[str]) -> None:
    it = authority(ann="secret")
    assert it.verifier("ann") == it.verifier("ann")
    assert work == ["secret"]


def test_nobody_follows_what_auth_query_tells() -> None:
    it = Authority(Access((), (), {"asker": "plain"}, b"seed", True, nobody=ASKED_NONE))
    assert challenge(it, "nobody") == ("scram", 4096, 16)
    it.answered("ann", True, text_of("a", 10_000), None, nobody_of([look_of(text_of("a", 10_000))]))
    assert challenge(it, "nobody") == challenge(it, "ann") == ("scram", 10_000, 16)


def test_nobody_is_as_most_are() -> None:
    few, many = look_of(text_of("a", 5000)), look_of("md5" + "0" * 32)
    assert nobody_of([few, many, many]) == Nobody("md5", 5000, 16, True)
    assert nobody_of([few, few, look_of("plain")]) == Nobody("scram", 5000, 16, True)
    assert nobody_of([]) == Nobody("plain", 4096, 16, False)


def test_what_auth_query_says_is_kept_and_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("middleware.auth.authority.time.monotonic", lambda: now)
    it = Authority(Access((), (), {"plain": "x"}, b"seed", True, 60.0))
    assert not it.must_ask("plain")
    assert it.must_ask("ann")
    it.answered("ann", True, "secret")
    it.answered("eve", False, None)
    it.answered("bob", True, None)
    assert [user in it for user in ("ann", "eve", "bob", "plain")] == [True, False, True, True]
    assert not any(it.must_ask(user) for user in ("ann", "eve", "bob"))
    assert shows(it, "ann", "secret")
    assert not shows(it, "bob", "")
    it.failed("ann")
    assert not it.must_ask("ann")
    now += 2
    it.failed("ann")
    assert it.must_ask("ann")
    assert not it.must_ask("eve")
    now += 60
    assert it.must_ask("eve")


def test_a_login_under_way_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another one of the same user fails, and while the files are read again."""
    now = 1000.0
    monkeypatch.setattr("middleware.auth.authority.time.monotonic", lambda: now)
    access = Access((), (), {}, b"seed", True, 60.0)
    it = Authority(access)
    it.answered("ann", True, "secret")
    now += 2
    happenings: list[Callable[[], None]] = [lambda: it.failed("ann"), lambda: it.use(access)]
    for happens in happenings:
        happens()
        assert it.must_ask("ann")
        assert "ann" in it
        assert shows(it, "ann", "secret")


def exchange(password: str, binding: bytes = b"", seen: bytes = b"", plus: bool = False) -> ServerExchange:
    """Scramp's client logs in to our server."""
    binds = ("tls-server-end-point", binding) if binding else None
    names = ["SCRAM-SHA-256-PLUS"] if binding else ["SCRAM-SHA-256"]
    client = scramp.ScramClient(names, "x", password, channel_binding=binds)
    server = ServerExchange(VERIFIER, False, "x", seen, plus)
    client.set_server_first(server.first(client.mechanism_name.encode(), client.get_client_first().encode()).decode())
    client.set_server_final(server.final(client.get_client_final().encode()).decode())
    return server


def test_a_client_that_proves_it_has_shown_its_keys() -> None:
    assert exchange("pencil").keys == keys_of("pencil", SALT, 4096)
    assert exchange("pencil", b"hash", b"hash", True).keys is not None
    with pytest.raises(LoginRefused, match="password authentication failed"):
        exchange("pen")
    with pytest.raises(LoginRefused, match="channel binding check failed"):
        exchange("pencil", b"hash", b"another", True)


@pytest.mark.parametrize(
    ("mechanism", "message", "error"),
    [
        (b"SCRAM-SHA-256", b"", ProtocolViolation),
        (b"SCRAM-SHA-256", b"n,,", ProtocolViolation),
        (b"SCRAM-SHA-256", b"n,,n=x", ProtocolViolation),
        (b"SCRAM-SHA-256", b"n,,n=x,r=", ProtocolViolation),
        (b"SCRAM-SHA-256", b"n,,n=x,r=\xff", ProtocolViolation),
        (b"SCRAM-SHA-256", b"x,,n=x,r=a", ProtocolViolation),
        (b"SCRAM-SHA-256", b"p=tls-server-end-point,,n=x,r=a", ProtocolViolation),
        (b"SCRAM-SHA-256-PLUS", b"n,,n=x,r=a", ProtocolViolation),
        (b"SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=x,r=a", ProtocolViolation),
        (b"SCRAM-SHA-256", b"n,a=y,n=x,r=a", PointsmanError),
        (b"SCRAM-SHA-256", b"n,,m=1,n=x,r=a", PointsmanError),
        (b"SCRAM-SHA-256", b"y,,n=x,r=a", LoginRefused),
    ],
)
def test_a_bad_beginning(mechanism: bytes, message: bytes, error: type[PointsmanError]) -> None:
    with pytest.raises(error):
        ServerExchange(VERIFIER, False, "x", b"hash", True).first(mechanism, message)


def final_of(server_first: bytes) -> list[tuple[bytes, type[PointsmanError]]]:
    nonce = server_first.split(b",")[0]
    proof = b",p=" + b"A" * 43 + b"="
    return [
        (b"", ProtocolViolation),
        (b"c=biws," + nonce, ProtocolViolation),
        (b"c=biws," + nonce + b",p=!", ProtocolViolation),
        (b"c=biws," + nonce + b",p=AAAA", ProtocolViolation),
        (b"c=eSws," + nonce + proof, ProtocolViolation),
        (b"c=biws," + nonce + b"x" + proof, ProtocolViolation),
        (b"c=biws,r=a" + proof, ProtocolViolation),
        (b"c=biws," + nonce + proof, LoginRefused),
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_bad_end(number: int) -> None:
    server = ServerExchange(VERIFIER, False, "x", b"", False)
    message, error = final_of(server.first(b"SCRAM-SHA-256", b"n,,n=x,r=a"))[number]
    with pytest.raises(error) as refused:
        server.final(message)
    assert type(refused.value) is error
    assert server.keys is None


def test_our_client_against_our_server() -> None:
    for end_point, mechanism in ((b"", b"SCRAM-SHA-256"), (b"hash", b"SCRAM-SHA-256-PLUS")):
        client, server = ClientExchange(end_point), ServerExchange(VERIFIER, False, "x", end_point, bool(end_point))
        first = server.first(mechanism, client.first())
        keys = keys_of("pencil", *client.challenge(first))
        client.verify(server.final(client.final(first, keys)))
        assert client.verified


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=another,s=eA==,i=1",
        b"NONCE,s=eA==,i=1",
        b"NONCEx,s=,i=1",
        b"NONCEx,s=!,i=1",
        b"NONCEx,s=eA==,i=0",
        b"NONCEx,s=eA==,i=-1",
        b"NONCEx,s=eA==,i=999999999",
        b"NONCEx,s=eA==",
        b"NONCEx,i=1,s=eA==",
    ],
)
def test_a_server_that_asks_for_nonsense(challenge: bytes) -> None:
    client = ClientExchange(b"")
    nonce = client.first().partition(b",,")[2].partition(b",")[2]
    with pytest.raises(LoginRefused):
        client.challenge(challenge.replace(b"NONCE", nonce))


def test_a_server_without_a_proof_is_not_believed() -> None:
    client = ClientExchange(b"")
    with pytest.raises(LoginRefused):
        client.verify(b"v=")
    nonce = client.first().partition(b",,")[2].partition(b",")[2]
    client.final(nonce + b"x,s=eA==,i=1", keys_of("pencil", b"x", 1))
    with pytest.raises(LoginRefused):
        client.verify(b"v=AAAA")
    assert not client.verified
