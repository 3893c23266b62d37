"""How clients prove who they are, against what is kept of them, over what, with which driver; and how servers are
then logged in to."""

import asyncio
import contextlib
import os
import pwd
import signal
import ssl
import statistics
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import asyncpg
import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.certificates import Certificates
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

PASSWORDS: Final = {"au_plain": "plain pass", "au_md5": "md5 päss", "au_scram": 'scram "pass'}
"""Users, by what the userlist has of their passwords."""
SETUP: Final = """
SET password_encryption = 'scram-sha-256';
CREATE ROLE au_plain LOGIN PASSWORD 'plain pass'; CREATE ROLE au_scram LOGIN PASSWORD 'scram "pass';
CREATE ROLE au_asked LOGIN PASSWORD 'asked'; CREATE ROLE au_cert LOGIN PASSWORD 'cert';
SET password_encryption = 'md5'; CREATE ROLE au_md5 LOGIN PASSWORD 'md5 päss';
"""
METHODS: Final = ("trust", "password", "md5", "scram-sha-256", "scram-sha-256-plus", "cert")
DRIVERS: Final = ("psql", "psycopg", "asyncpg")
WHO: Final = "SELECT current_user || ' ' || 1"


class Refused(Exception):
    """A client could not come in."""

    def __init__(self, sqlstate: str | None, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class Place(NamedTuple):
    endpoint: Endpoint
    certificates: Certificates
    instance: pointsman
    directory: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.issue("mapped", "mapped.example", name="somebody@example")
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """A primary whose roles have secrets of each kind."""
    with Sandbox(standbys=0, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as alone:
        alone.query(SETUP)
        hba = Path(alone.query("SHOW hba_file")[0][0])
        # Each way of asking for a password, towards us as well.
        hba.write_text("host all au_md5 all md5\nhost all au_plain all password\n" + hba.read_text())
        alone.query("SELECT pg_reload_conf()")
        yield alone


def secret_of(cluster: Sandbox, user: str) -> str:
    return str(cluster.query(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")[0][0])


@contextlib.contextmanager
def serving(
    cluster: Sandbox, certificates: Certificates, directory: Path, hba: str, *, users: str = "", **more: Any
) -> Iterator[Place]:
    """`users`: the file of them, where it is not to have one of each kind."""
    (directory / "hba.conf").write_text(hba)
    (directory / "ident.conf").write_text("people /^(.*)@example$ au_cert\npeople app app\n")
    secrets = {
        "au_plain": PASSWORDS["au_plain"],
        "au_md5": secret_of(cluster, "au_md5"),
        "au_scram": secret_of(cluster, "au_scram"),
        "au_cert": "cert",
    }
    listed = "".join(f'"{name}" "{secret}"\n' for name, secret in secrets.items())
    (directory / "users.txt").write_text(users or listed)
    settings: dict[str, Any] = {
        "auth_type": "hba",
        "auth_hba_file": str(directory / "hba.conf"),
        "auth_ident_file": str(directory / "ident.conf"),
        "auth_file": str(directory / "users.txt"),
        "client_tls_sslmode": "allow",
        "client_tls_ca_file": certificates.path("ca.pem"),
        **certificates.server_settings(),
        "workers": 1,
        "consistency": "primary",
        "routes": [{"database": "m_.*", "server_database": "app"}],
    }
    instance = pointsman(cluster, directory, **{**settings, **more})
    with instance as endpoint:
        yield Place(endpoint._replace(host="localhost"), certificates, instance, directory)


@pytest.fixture(scope="module")
def place(cluster: Sandbox, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Each method for a database of its own, all of which are one on the server."""
    hba = "".join(f"host m_{method} all all {method}\n" for method in METHODS if method != "cert")
    hba += "hostssl m_cert all all cert map=people\nhost m_reject all all reject\n"
    hba += "hostssl m_both all all scram-sha-256 clientcert=verify-full\nhostnossl m_clear all all trust\n"
    with serving(cluster, certificates, tmp_path_factory.mktemp("auth"), hba) as made:
        yield made


class By(NamedTuple):
    """How a client comes."""

    user: str
    password: str
    method: str
    """Of the database it asks for."""
    tls: bool = False
    certificate: str = ""


def connect(place: Place, driver: str, by: By) -> str:
    """Come in, and say who the servers think it is. Raises Refused."""
    return {"psql": by_psql, "psycopg": by_psycopg, "asyncpg": by_asyncpg}[driver](place, by)


def conninfo_of(place: Place, by: By) -> str:
    certificate = place.certificates.path(by.certificate) if by.certificate else ""
    return psycopg.conninfo.make_conninfo(
        host=place.endpoint.host,
        port=place.endpoint.port,
        user=by.user,
        password=by.password,
        dbname=f"m_{by.method}",
        sslmode="require" if by.tls else "disable",
        sslcert=f"{certificate}.pem" if certificate else "",
        sslkey=f"{certificate}.key" if certificate else "",
        gssencmode="disable",
    )


def by_psql(place: Place, by: By) -> str:
    done = subprocess.run(
        ["psql", "-XAtw", "-d", conninfo_of(place, by), "-c", WHO], capture_output=True, text=True, check=False
    )
    if done.returncode:
        # It does not tell SQLSTATEs.
        raise Refused(None, done.stderr)
    return done.stdout.strip()


def by_psycopg(place: Place, by: By) -> str:
    try:
        with psycopg.connect(conninfo_of(place, by), autocommit=True) as client:
            return str(client.execute(WHO).fetchone()[0])  # type: ignore[index]
    except psycopg.OperationalError as error:
        raise Refused(None, str(error)) from None


class Loop(asyncio.SelectorEventLoop):
    """One that can close what asyncpg leaves open: it does not wait for TLS's goodbye after a login that is refused."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[asyncio.BaseTransport] = []

    async def create_connection(self, *args: Any, **keys: Any) -> Any:
        made = await super().create_connection(*args, **keys)
        self._made.append(made[0])
        return made

    async def abort_all(self) -> None:
        for transport in self._made:
            cast(asyncio.Transport, transport).abort()
        # What closes the sockets is called once the loop comes round.
        await asyncio.sleep(0)


def by_asyncpg(place: Place, by: By) -> str:
    tls: ssl.SSLContext | bool = False
    if by.tls:
        tls = ssl.create_default_context(cafile=place.certificates.path("ca.pem"))
        if by.certificate:
            path = place.certificates.path(by.certificate)
            tls.load_cert_chain(f"{path}.pem", f"{path}.key")

    async def ask() -> str:
        client = await asyncpg.connect(
            host=place.endpoint.host,
            port=place.endpoint.port,
            user=by.user,
            password=by.password,
            database=f"m_{by.method}",
            ssl=tls,
        )
        try:
            return str(await client.fetchval(WHO))
        finally:
            await client.close()

    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            try:
                return runner.run(ask())
            finally:
                runner.run(cast(Loop, runner.get_loop()).abort_all())
    except asyncpg.PostgresError as error:
        raise Refused(error.sqlstate, str(error)) from None
    except asyncpg.InterfaceError as error:
        raise Refused(None, str(error)) from None


def fits(by: By, driver: str) -> bool:
    """Whether such a client is to be let in with the right password."""
    if by.method == "cert":
        return by.tls and by.certificate == "mapped" and by.user == "au_cert"
    if by.method == "scram-sha-256-plus":
        # asyncpg has no channel binding.
        return by.tls and by.user != "au_md5" and driver != "asyncpg"
    if by.method == "scram-sha-256":
        # As in PostgreSQL: there is nothing SCRAM could check an MD5 hash with.
        return by.user != "au_md5"
    return True


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("method", METHODS)
def test_methods(place: Place, method: str, tls: bool, driver: str) -> None:
    users = [*PASSWORDS.items(), ("au_cert", "cert")]
    for user, password in users:
        if method == "trust" and user == "au_scram":
            # There is nothing to log in to the server with, unless it has shown it.
            connect(place, driver, By(user, password, "scram-sha-256"))
        by = By(user, password, method, tls, "mapped" if tls else "")
        if fits(by, driver):
            assert connect(place, driver, by) == f"{user} 1"
        else:
            with pytest.raises(Refused):
                connect(place, driver, by)


WRONG: Final = "password authentication failed for user"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256", "scram-sha-256-plus"])
def test_a_wrong_password_and_an_unknown_user_look_alike(place: Place, method: str, driver: str) -> None:
    tls = method == "scram-sha-256-plus"
    if tls and driver == "asyncpg":
        pytest.skip("asyncpg has no channel binding")
    for user in (*PASSWORDS, "nobody_at_all"):
        with pytest.raises(Refused, match=f'{WRONG} "{user}"') as refused:
            connect(place, driver, By(user, "wrong", method, tls))
        assert refused.value.sqlstate in (None, "28P01")
    log = place.instance.log()
    assert "wrong" not in log.replace("wrong password", "")
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (By("au_plain", "", "reject"), 'pg_hba.conf rejects connection for host ".*", user "au_plain", database'),
        (
            By("au_plain", "", "nowhere"),
            'no pg_hba.conf entry for host ".*", user "au_plain", database "m_nowhere", no',
        ),
        (By("au_plain", "", "clear", True), "no pg_hba.conf entry .*, SSL encryption"),
        (By("au_plain", "", "cert"), "no pg_hba.conf entry"),
        (By("au_plain", "", "cert", True), "connection requires a valid client certificate"),
        (By("au_plain", "", "cert", True, "mapped"), 'certificate authentication failed for user "au_plain"'),
        (By("au_cert", "cert", "both", True, "mapped"), 'certificate authentication failed for user "au_cert"'),
        (By("nobody_at_all", "", "trust"), 'role "nobody_at_all" does not exist'),
    ],
)
def test_refused_as_postgresql_says_it(place: Place, by: By, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        connect(place, "asyncpg", by)
    assert refused.value.sqlstate == "28000"
    with pytest.raises(Refused, match=why):
        connect(place, "psycopg", by)


def test_a_certificate_of_another_authority(place: Place) -> None:
    for driver in DRIVERS:
        with pytest.raises((Refused, OSError, ssl.SSLError)):
            connect(place, driver, By("app", "", "cert", True, "other-app"))


def test_channel_binding_is_used_and_required(place: Place) -> None:
    by = By("au_scram", PASSWORDS["au_scram"], "scram-sha-256", True)
    with psycopg.connect(conninfo_of(place, by) + " channel_binding=require") as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_all_take_as_long(place: Place) -> None:
    """A known user with a wrong password, and one who does not exist: the medians differ by less than they scatter."""

    def seconds(user: str) -> float:
        begun = time.perf_counter()
        with pytest.raises(Refused):
            by_psycopg(place, By(user, "wrong", "scram-sha-256"))
        return time.perf_counter() - begun

    taken: dict[str, list[float]] = {"au_plain": [], "au_scram": [], "nobody": []}
    for _ in range(30):
        for user, times in taken.items():
            times.append(seconds(user))
    medians = {user: statistics.median(times) for user, times in taken.items()}
    assert max(medians.values()) - min(medians.values()) < 0.5 * min(medians.values()), medians


def documented(language: str) -> str:
    """What docs/authentication.md shows for auth_query."""
    text = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
    section = text[text.index("need not be a superuser") :]
    return section.split(f"```{language}\n")[1].split("```")[0]


ASKING: Final = "host m_reject all all reject\nhost all all all scram-sha-256\n"


def test_auth_query(cluster: Sandbox, certificates: Certificates, tmp_path: Path) -> None:
    # As the documentation has it: no superuser.
    cluster.query(documented("sql"))
    users = tmp_path / "asking.txt"
    users.write_text('"pointsman_auth" "auth"\n')
    more = {**tomllib.loads(documented("toml")), "auth_dbname": "app", "auth_file": str(users), "workers": 2}
    with serving(cluster, certificates, tmp_path, ASKING, **more) as place:
        for driver in DRIVERS:
            # Its login is all that logs in to the server: neither we nor the file know its password.
            assert connect(place, driver, By("au_asked", "asked", "any")) == "au_asked 1"
        for user in ("au_asked", "nobody_at_all"):
            with pytest.raises(Refused, match=WRONG):
                connect(place, "asyncpg", By(user, "wrong", "any"))
        cluster.query("ALTER ROLE au_asked PASSWORD 'changed'; CREATE ROLE au_new LOGIN PASSWORD 'new'")

        def comes_in(user: str, password: str) -> bool:
            try:
                return connect(place, "psycopg", By(user, password, "any")) == f"{user} 1"
            except Refused:
                return False

        eventually(lambda: comes_in("au_asked", "changed"))
        eventually(lambda: comes_in("au_new", "new"))
        cluster.query("ALTER ROLE au_new NOLOGIN")
        eventually(lambda: not comes_in("au_new", "wrong"))
        eventually(lambda: not comes_in("au_new", "new"))
        cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pointsman_auth'")
        cluster.query("CREATE ROLE au_later LOGIN PASSWORD 'later'")
        assert comes_in("au_later", "later")


def test_rules_and_users_are_read_again(cluster: Sandbox, certificates: Certificates, tmp_path: Path) -> None:
    with serving(cluster, certificates, tmp_path, ASKING) as place:
        with pytest.raises(Refused):
            connect(place, "asyncpg", By("au_plain", "plain pass", "reject"))
        good = (tmp_path / "hba.conf").read_text()
        (tmp_path / "hba.conf").write_text("host all all all ident\n")
        place.endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: "is not supported: trust, reject" in place.instance.log())
        assert connect(place, "asyncpg", By("au_plain", "plain pass", "any")) == "au_plain 1"
        (tmp_path / "hba.conf").write_text(good.replace("m_reject all all reject", "m_reject all all trust"))
        place.endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: "were read again" in place.instance.log())
        assert connect(place, "asyncpg", By("au_plain", "no matter", "reject")) == "au_plain 1"


def refusals(place: Place) -> list[str]:
    """The log's words about reloads that were refused."""
    return [line for line in place.instance.log().splitlines() if " not reloaded " in line]


def test_files_that_cannot_be_meant_change_nothing(
    cluster: Sandbox, certificates: Certificates, tmp_path: Path
) -> None:
    """What an editor leaves for a moment, or the settings contradict: it is logged, and who could come in can."""
    files = {"hba.conf": "host all all all scram-sha-256\n", "users.txt": '"au_plain" "plain pass"\n'}
    more = {
        "auth_user": "au_plain",
        "auth_query": "SELECT $1, NULL::text",
        "auth_dbname": "app",
        "client_tls_ca_file": "",
    }
    with serving(cluster, certificates, tmp_path, ASKING, users=files["users.txt"], **more) as place:
        cases = (
            ("hba.conf", "# nothing yet\n", "hba.conf: contains no entries"),
            ("hba.conf", "hostssl all all all cert\n", "client_tls_ca_file: missing"),
            ("users.txt", "", r"auth_user: \"au_plain\" is not allowed"),
            ("users.txt", '"au_md5" "x"\n', r"auth_user: \"au_plain\" is not allowed"),
        )
        for count, (file, text, why) in enumerate(cases, 1):
            before = (tmp_path / file).read_text()
            (tmp_path / file).write_text(text)
            place.endpoint.process.send_signal(signal.SIGHUP)
            eventually(lambda count=count: len(refusals(place)) == count)  # type: ignore[misc]
            assert why in refusals(place)[-1]
            assert connect(place, "psycopg", By("app", cluster.passwords["app"], "any")) == "app 1"
            (tmp_path / file).write_text(before)
        assert "were read again" not in place.instance.log()


def test_peer(cluster: Sandbox, certificates: Certificates, tmp_path: Path) -> None:
    """Over the unix socket, the system says who we are."""
    hba = "local m_mapped all peer map=system\nlocal all all peer\nhost all all all reject\n"
    with serving(cluster, certificates, tmp_path, hba, unix_socket_dir=str(tmp_path)) as place:
        with (tmp_path / "ident.conf").open("a") as maps:
            maps.write(f"system {pwd.getpwuid(os.getuid()).pw_name} au_plain\n")
        place.endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: "were read again" in place.instance.log())
        local = place._replace(endpoint=place.endpoint._replace(host=str(tmp_path)))
        for driver in ("psql", "psycopg"):
            assert connect(local, driver, By("au_plain", "", "mapped")) == "au_plain 1"
            for by in (By("au_scram", "", "mapped"), By("au_plain", "", "same")):
                with pytest.raises(Refused, match=f'Peer authentication failed for user "{by.user}"'):
                    connect(local, driver, by)


TTL_S: Final = 3


def test_auth_query_ttl(cluster: Sandbox, certificates: Certificates, tmp_path: Path) -> None:
    """A role that is gone comes in as long as an answer is used, and no longer."""
    cluster.query(
        "CREATE TABLE listed AS SELECT 'au_listed'::text AS role, 'listed'::text AS secret;"
        "CREATE ROLE au_listed LOGIN PASSWORD 'listed'; GRANT SELECT ON listed TO au_plain"
    )
    more = {"auth_user": "au_plain", "auth_query": "SELECT role, secret FROM listed WHERE role = $1"}
    database = cluster.query("SELECT current_database()")[0][0]
    by = By("au_listed", "listed", "any")
    with serving(
        cluster,
        certificates,
        tmp_path,
        ASKING,
        users='"au_plain" "plain pass"\n',
        auth_dbname=database,
        auth_query_ttl=TTL_S,
        **more,
    ) as place:

        def comes_in() -> bool:
            try:
                return connect(place, "psycopg", by) == "au_listed 1"
            except Refused:
                return False

        begun = time.monotonic()
        assert comes_in()
        cluster.query("DELETE FROM listed")
        assert comes_in() or time.monotonic() - begun > TTL_S
        eventually(lambda: not comes_in())
        assert time.monotonic() - begun > TTL_S
    cluster.query("DROP TABLE listed")
