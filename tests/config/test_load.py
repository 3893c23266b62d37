"""Each mistake in the settings is one line: where, what, and what is allowed. Secrets are in none of them."""

import os
import tomllib
import traceback
from pathlib import Path

import msgspec
import pytest

from middleware.config import (
    CacheSettings,
    ConfigError,
    NodeShare,
    PoolPolicy,
    RoutePolicy,
    Settings,
    build_settings,
    load_settings,
)
from middleware.config.access import access_of, seed_of
from middleware.config.tables import OF_POOLS, POLICIES
from middleware.control import SetAccess

SECRET = "hunter2-is-a-secret"
GOOD = f"""
[health_check]
user = "monitor"
password = "{SECRET}"
[nodes.db1]
host = "127.0.0.1"
[users.app]
password = "{SECRET}"
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("POINTSMAN_"):
            monkeypatch.delenv(name)


def lines_of(text: str) -> list[str]:
    """The lines that the text earns."""
    with pytest.raises(ConfigError) as caught:
        build_settings(tomllib.loads(text), origin="p.toml")
    return list(caught.value.lines)


MISTAKES: list[tuple[str, dict[str, str], list[str]]] = [
    # Values out of their limits or of another type.
    ("workers = 0", {}, ["p.toml: workers: 0 is not allowed: a whole number from 1 to 256"]),
    ('query_cache = "yes"', {}, ['p.toml: query_cache: "yes" is not allowed: "off", "on" or "hint"']),
    ("workers = true", {}, ["p.toml: workers: true is not allowed: a whole number from 1 to 256"]),
    ("workers = 1.5", {}, ["p.toml: workers: 1.5 is not allowed: a whole number from 1 to 256"]),
    ("workers = [1]", {}, ["p.toml: workers: an array is not allowed: a whole number from 1 to 256"]),
    ("[workers]", {}, ["p.toml: workers: a table is not allowed: a whole number from 1 to 256"]),
    ("listen_addr = 5", {}, ['p.toml: listen_addr: 5 is not allowed: names or addresses with commas between, or "*"']),
    (
        "query_wait_timeout = nan",
        {},
        ["p.toml: query_wait_timeout: nan is not allowed: a number of seconds above 0"],
    ),
    ("shutdown_timeout = -1", {}, ["p.toml: shutdown_timeout: -1 is not allowed: a number of seconds, 0 or more"]),
    (
        'unix_socket_mode = "999"',
        {},
        ['p.toml: unix_socket_mode: "999" is not allowed: an octal mode such as "0770"'],
    ),
    (
        '[log]\nlevel = "loud"',
        {},
        ['p.toml: log.level: "loud" is not allowed: "debug", "info", "warning" or "error"'],
    ),
    (
        '[nodes.db1]\nhost = "a"\nport = 70000',
        {},
        ["p.toml: nodes.db1.port: 70000 is not allowed: a whole number from 1 to 65535"],
    ),
    ("[nodes.db1]", {}, ["p.toml: nodes.db1.host: missing: a host name or an address"]),
    (
        '[nodes."a b"]\nhost = "a"',
        {},
        ['p.toml: nodes."a b": the name is not allowed: letters, digits, _ and -, at most 63'],
    ),
    (
        '[nodes.db2]\nhost = "a..b"',
        {},
        ['p.toml: nodes.db2.host: "a..b" is not allowed: a host name or an address'],
    ),
    (
        '[nodes.db2]\nhost = "/tmp/\\u0000"',
        {},
        ['p.toml: nodes.db2.host: "/tmp/\\u0000" is not allowed: a host name or an address'],
    ),
    (
        'pool_mode = "sesion"',
        {},
        ['p.toml: pool_mode: "sesion" is not allowed: "session", "transaction" or "statement"'],
    ),
    (
        '[[routes]]\nclient_addr = ["10.0.0.1/8"]\n[[routes]]\nclient_addr = ["unix", "::1", "10.0.0.0/8"]',
        {},
        [
            "p.toml: routes[0].client_addr: not allowed: a list of addresses or networks "
            "(10.0.0.1/8 has host bits set)",
        ],
    ),
    # Unknown keys, at any depth, with the nearest known one.
    ("listen_prt = 1", {}, ["p.toml: listen_prt: unknown, did you mean listen_port?"]),
    ('[log]\nlevle = "info"', {}, ["p.toml: log.levle: unknown, did you mean level?"]),
    ('[nodes.db1]\nhost = "a"\nprot = 1', {}, ["p.toml: nodes.db1.prot: unknown, did you mean port?"]),
    (
        f'[users.app]\npassword = "x"\npasword = "{SECRET}"',
        {},
        ["p.toml: users.app.pasword: unknown, did you mean password?"],
    ),
    ("[log]\nzzz = 1", {}, ["p.toml: log.zzz: unknown: known are level, levels, format, event_rate_max"]),
    # Balance, and the rules.
    (
        '[nodes.db1]\nhost = "a"\nweight = 1001\nzone = 1',
        {},
        [
            "p.toml: nodes.db1.weight: 1001 is not allowed: a whole number from 0 to 1000",
            "p.toml: nodes.db1.zone: 1 is not allowed: a string",
        ],
    ),
    (
        'balance = "fair"\nread_from_primary = "often"\nsession_affinity = true\ntransaction_reads = "standby"',
        {},
        [
            'p.toml: balance: "fair" is not allowed: "least_outstanding", "round_robin" or "random"',
            'p.toml: read_from_primary: "often" is not allowed: "never", "fallback" or "always"',
            'p.toml: session_affinity: true is not allowed: "on" or "off"',
            'p.toml: transaction_reads: "standby" is not allowed: "primary" or "until_write"',
        ],
    ),
    (
        '[[routes]]\nuser = "a"\n[[routes]]\nconsistency = "none"\nmax_replica_lag = 0\npreferr = []\nuser = 5',
        {},
        [
            'p.toml: routes[1].consistency: "none" is not allowed: "session", "eventual", "global" or "primary"',
            "p.toml: routes[1].max_replica_lag: 0 is not allowed: a number of seconds above 0",
            "p.toml: routes[1].preferr: unknown, did you mean prefer?",
            "p.toml: routes[1].user: 5 is not allowed: a regular expression",
        ],
    ),
    (
        '[[routes]]\ndatabase = "a("\nprefer = ["db1", "db9"]\n[[routes]]\n[[routes]]\nprefer = "db1"',
        {},
        ['p.toml: routes[2].prefer: "db1" is not allowed: a list of names of nodes'],
    ),
    (
        '[[routes]]\ndatabase = "a("\nprefer = ["db1", "db9"]\n[[routes]]\n[[routes]]\nprefer = ["db1"]',
        {},
        [
            'p.toml: routes[0].database: "a(" is not allowed: a regular expression (missing ), unterminated '
            "subpattern at position 1)",
            'p.toml: routes[0].prefer: "db9" is not allowed: a list of names of nodes (db1)',
            "p.toml: routes[1]: is for all clients: the rules behind it would never be reached",
        ],
    ),
    (
        '[[routes]]\ndatabase = "*"',
        {},
        [
            'p.toml: routes[0].database: "*" is not allowed: a regular expression (".*" means all, and so does leaving '
            "the key out)",
        ],
    ),
    (
        r"primary_queries = ['\u00e9']",
        {},
        [r'p.toml: primary_queries: "\u00e9" is not allowed: a regular expression (bad escape \u at position 0)'],
    ),
    (
        'safe_functions = ["*"]',
        {},
        ['p.toml: safe_functions: "*" is not allowed: a regular expression (".*" means all)'],
    ),
    ("routes = 5", {}, ["p.toml: routes: 5 is not allowed: tables [[routes]]"]),
    ("[routes]", {}, ["p.toml: routes: a table is not allowed: tables [[routes]]"]),
    ("routes = [5]", {}, ["p.toml: routes[0]: the value is not allowed: a table"]),
    ("[[routes]]\nprefer = [5]", {}, ["p.toml: routes[0].prefer[0]: 5 is not allowed: a list of names of nodes"]),
    (
        "primary_functions = [5]",
        {},
        ["p.toml: primary_functions[0]: 5 is not allowed: a list of regular expressions"],
    ),
    ("", {"POINTSMAN_ROUTES": "app"}, ["POINTSMAN_ROUTES: not allowed: tables [[routes]], as JSON"]),
    (
        "",
        {"POINTSMAN_ROUTES": '[{"prefer": ["db9"]}]'},
        ['POINTSMAN_ROUTES: "db9" is not allowed: a list of names of nodes (db1)'],
    ),
    # Secrets, and what may be one, are not shown.
    ("[users.app]\npassword = 5", {}, ["p.toml: users.app.password: the value is not allowed: a string"]),
    (f'[users]\napp = "{SECRET}"', {}, ["p.toml: users.app: the value is not allowed: a table"]),
    (f'users = "{SECRET}"', {}, ["p.toml: users: the value is not allowed: tables [users.NAME]"]),
    # What several settings make together.
    ("[users.app]", {}, ['p.toml: users.app.password: missing: auth_type "scram-sha-256" needs one']),
    (
        'listen_addr = ""',
        {},
        ['p.toml: listen_addr: "" is not allowed without a unix_socket_dir: nothing would listen'],
    ),
    # Variables are named as such, and the ones that mean nothing are not passed over.
    ("", {"POINTSMAN_WORKERS": "many"}, ['POINTSMAN_WORKERS: "many" is not allowed: a whole number from 1 to 256']),
    ("", {"POINTSMAN_WORKRES": "1"}, ["POINTSMAN_WORKRES: unknown, did you mean POINTSMAN_WORKERS?"]),
    ("", {"POINTSMAN_LOG__LEVLE": "info"}, ["POINTSMAN_LOG__LEVLE: unknown, did you mean level?"]),
    (
        "",
        {"POINTSMAN_NODES__DB1__PORT": "0"},
        ['POINTSMAN_NODES__DB1__PORT: "0" is not allowed: a whole number from 1 to 65535'],
    ),
    (
        "",
        {"POINTSMAN_USERS": SECRET},
        ["POINTSMAN_USERS: not allowed: a table as JSON, or POINTSMAN_USERS__KEY for one key of it"],
    ),
    ("", {"POINTSMAN_USERS__APP": SECRET}, ["POINTSMAN_USERS__APP: the value is not allowed: a table"]),
    # All of them at once.
    (
        "workers = 0\nlisten_port = -1",
        {"POINTSMAN_LOG__FORMAT": "xml"},
        [
            "p.toml: listen_port: -1 is not allowed: a whole number from 0 to 65535",
            "p.toml: workers: 0 is not allowed: a whole number from 1 to 256",
            'POINTSMAN_LOG__FORMAT: "xml" is not allowed: "text" or "json"',
        ],
    ),
]


def with_good_rest(text: str) -> str:
    """The text, with the tables it says nothing of taken from GOOD."""
    for table in ("health_check", "nodes", "users"):
        if not any(line.startswith((f"[{table}", f"{table} ")) for line in text.splitlines()):
            part = GOOD[GOOD.index(f"[{table}") :]
            text += "\n" + part.split("\n[")[0]
    return text


@pytest.mark.parametrize(("text", "env", "expected"), MISTAKES)
def test_a_mistake_is_one_line(
    text: str, env: dict[str, str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found = lines_of(with_good_rest(text))
    assert sorted(found) == sorted(expected)
    assert SECRET not in "\n".join(found)


def test_missing_tables_are_named() -> None:
    assert lines_of("") == [
        "p.toml: health_check: missing: a table [health_check]",
        "p.toml: nodes: missing: at least one table [nodes.NAME]",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file or directory"),
        (b"a = ", "not a TOML file: Invalid value (at end of document)"),
        (b"\nworkers = = 1\n", "not a TOML file: Invalid value (at line 2, column 11)"),
        (b"# \xff", "not a TOML file: not UTF-8 at byte 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "p.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert caught.value.lines == (f"{path}: {expected}",)


def test_the_environment_lies_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_WORKERS", "2")
    monkeypatch.setenv("POINTSMAN_NODES__DB2__HOST", "10.0.0.2")
    # Looks like JSON, and is a password all the same.
    monkeypatch.setenv("POINTSMAN_USERS__APP__PASSWORD", "12345")
    settings = build_settings(tomllib.loads("workers = 1" + GOOD))
    assert settings.workers == 2
    assert {name: node.host for name, node in settings.nodes.items()} == {"db1": "127.0.0.1", "db2": "10.0.0.2"}
    assert access_of(settings, b"").secrets == {"app": "12345"}


def test_variables_that_kubernetes_sets_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_6432_TCP", "SERVICE_PORT_PG", "PG_BIN", "SANDBOX"):
        monkeypatch.setenv(f"POINTSMAN_{name}", "tcp://10.0.0.1:6432")
    assert build_settings(tomllib.loads(GOOD)).workers == 1


def test_a_rule_lies_over_the_top_level_and_the_top_level_is_the_last_rule() -> None:
    text = """
        consistency = "global"
        balance = "random"
        session_affinity = "on"
        zone = "a"
        [[routes]]
        user = "report.*"
        consistency = "eventual"
        consistency_wait = 0
        session_affinity = "off"
        prefer = ["db1"]
        """
    text += GOOD + '[nodes.db2]\nhost = "h"\nweight = 0\nzone = "b"'
    settings = build_settings(tomllib.loads(text)).worker_settings()
    state = tuple(POLICIES.items())
    assert settings.policies == (
        RoutePolicy(
            *(None, "report.*", None, "eventual", 0.0, 10.0, "random", "fallback", False, "primary", ("db1",), state),
            name="routes[0]",
        ),
        RoutePolicy(None, None, None, "global", 0.0, 10.0, "random", "fallback", True, "primary", (), state),
    )
    assert (settings.zone, settings.nodes) == ("a", {"db1": NodeShare(), "db2": NodeShare(0, "b")})


def test_a_rule_that_says_something_of_pools_has_pools_of_its_own() -> None:
    text = """
        default_pool_size = 7
        query_timeout = 5
        [[routes]]
        name = "tenants"
        client_addr = ["10.0.0.0/8"]
        pool_size = 3
        pool_mode = "session"
        server_database = "db"
        query_timeout = 0
        [[routes]]
        user = "x"
        max_db_connections = 9
        """
    tenants, x, rest = build_settings(tomllib.loads(text + GOOD)).worker_settings().policies
    assert (tenants.mode, tenants.server_database, tenants.client_addr) == ("session", "db", ("10.0.0.0/8",))
    assert (tenants.pool, tenants.client.query_s) == (PoolPolicy("tenants", 3), 0.0)
    own = PoolPolicy("routes[1]", 7, max_db_connections=9)
    assert (x.pool, x.mode, x.client.query_s) == (own, "transaction", 5.0)
    assert (rest.pool, rest.name) == (PoolPolicy("", 7), "")


@pytest.mark.parametrize("name", OF_POOLS)
def test_pools_are_told_apart_by_their_rules_names(name: str) -> None:
    rules = f'[[routes]]\nname = "a"\nuser = "x"\n{name} = 1\n[[routes]]\nname = "a"\n'
    assert lines_of(GOOD + rules + f"{name} = 2") == [
        'p.toml: routes[1].name: "a" is not allowed: a name that no other rule with pools has'
    ]
    build_settings(tomllib.loads(GOOD + rules))


def test_trust_needs_no_password() -> None:
    text = GOOD.replace(f'[users.app]\npassword = "{SECRET}"', "[users.app]")
    settings = build_settings(tomllib.loads('auth_type = "trust"' + text))
    assert access_of(settings, b"").secrets == {"app": None}


def test_salts_are_the_same_after_a_restart() -> None:
    strong = GOOD.replace(SECRET, SECRET + "0123456789abcdefghijklmn")
    one, again, other = (
        build_settings(tomllib.loads(text)) for text in (strong, strong, strong.replace("0123", "0124"))
    )
    assert seed_of(one) == seed_of(again) != seed_of(other)
    # Too little to guess: a salt would tell whoever guesses that he is right.
    weak = build_settings(tomllib.loads(GOOD.replace(SECRET, "short")))
    assert seed_of(weak) != seed_of(weak)
    assert len(seed_of(weak)) == len(seed_of(one)) == 32


def test_what_is_said_of_the_query_cache_reaches_who_needs_it() -> None:
    text = """
        query_cache = "hint"
        query_cache_size = 1000
        max_cached_result_size = 100
        query_cache_ttl = 0
        cache_watch = "logical"
        cache_redis_url = "redis://u:p@h:1/2"
        cache_redis_timeout = 0.5
        cache_safe_functions = ["a"]
        cache_safe_relations = ["b"]
        cache_unsafe_relations = ["c"]
        [[routes]]
        user = "app"
        query_cache = "on"
        [[routes]]
        user = "report"
        """
    settings = build_settings(tomllib.loads(text + GOOD))
    worker = settings.worker_settings()
    assert [policy.query_cache for policy in worker.policies] == ["on", "hint", "hint"]
    assert worker.cache == CacheSettings(1000, 100, 0.0, "redis://u:p@h:1/2", 0.5, "logical")
    said = settings.overrides()
    assert (said.cache_safe, said.cache_safe_relations, said.cache_unsafe_relations) == (("a",), ("b",), ("c",))
    assert {policy.query_cache for policy in build_settings(tomllib.loads(GOOD)).policies()} == {"off"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "redis://:pass@cache:6379/2",
        "rediss://user:pass@[::1]:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2&password=secret",
    ],
)
def test_where_answers_are_shared_may_be_said_in_some_ways(url: str) -> None:
    assert build_settings(tomllib.loads(f'cache_redis_url = "{url}"\n' + GOOD)).cache().redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "cache:6379",
        "redis://",
        "redis://:hunter2@",
        "redis://:hunter2@cache:port",
        "redis://:hunter2@cache:70000",
        "redis://:hunter2@cache/second",
        "redis://:hunter2@cache/1/2",
        "redis://:hunter2@cache?socket_timeout=5",
        "rediss://:hunter2@cache?ssl_cert_reqs=none",
        "redis://:hunter2@ca che",
        "redis://:hunter2@cache#1",
        "unix://",
        "unix:///run/redis.sock?timeout=hunter2",
    ],
)
def test_and_not_in_others_which_are_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_settings(tomllib.loads(f'cache_redis_url = "{url}"\n' + GOOD))
    assert str(refused.value).startswith(
        "settings: cache_redis_url: the value is not allowed: redis://[USER[:PASSWORD]@]HOST"
    )
    assert "hunter2" not in str(refused.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("middleware.config.caching.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"cache_redis_url: the package redis is not installed: pip install 'pointsman\[redis\]'"
    ):
        build_settings(tomllib.loads('cache_redis_url = "redis://cache"\n' + GOOD))


def test_secrets_are_in_no_representation() -> None:
    settings = build_settings(tomllib.loads(f'cache_redis_url = "redis://:{SECRET}@h"\n' + GOOD))
    worker, access = settings.worker_settings(), access_of(settings, b"seed")
    shown = f"{settings} {settings!r} {worker} {worker!r} {SetAccess(access)!r} {settings.model_dump_json()}"
    assert SECRET not in shown
    assert SECRET in msgspec.json.encode(access).decode()


def test_secrets_are_in_no_traceback() -> None:
    with pytest.raises(ConfigError) as refused:
        build_settings(tomllib.loads("workers = 0" + GOOD))
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(ValueError) as invalid:
        Settings(workers=0, **tomllib.loads(GOOD))
    assert SECRET not in str(invalid.value)


def test_the_example_is_good_and_shows_every_default() -> None:
    path = Path(__file__).parents[2] / "docs" / "pointsman.example.toml"
    shown = tomllib.loads(path.read_text())
    settings = load_settings(path)
    assert set(shown) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if name not in ("routes", "log", "health_check", "nodes", "users", "session_state"):
            assert getattr(settings, name) == field.default, name
    assert set(shown["health_check"]) == set(type(settings.health_check).model_fields)
    assert settings.health_check.model_dump(exclude={"user", "password"}) == type(settings.health_check)(
        user="x"
    ).model_dump(exclude={"user", "password"})
    assert settings.log == type(settings.log)()
    assert settings.session_state.model_dump() == POLICIES
    for node in settings.nodes.values():
        assert (node.weight, node.zone) == (1, "")


@pytest.mark.parametrize("section", ["Balance", "Rules by database, user and application"])
def test_the_examples_of_the_manual_are_good(section: str) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
    text = manual.split(f"\n## {section}\n")[1].split("\n## ")[0]
    indented = [line[4:] for line in text.splitlines() if line.startswith("    ") or not line]
    example = "\n".join(indented).split("\napp=>")[0]
    others = '[nodes.db3]\nhost = "10.0.0.3"\n'
    if "[nodes." not in example:
        others += '[nodes.db2]\nhost = "10.0.0.2"\n'
    shown = tomllib.loads(example)
    settings = build_settings(tomllib.loads(example + "\n" + others + GOOD))
    assert len(shown) + len(settings.routes) >= 4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('auth_type = "hba"', 'auth_hba_file: missing: auth_type "hba" needs one'),
        (
            'auth_type = "hba"\nauth_hba_file = "{dir}/hba"',
            'auth_hba_file: cannot be used: {dir}/hba:1: method "ident" is not supported: trust, reject, password, '
            "md5, scram-sha-256, scram-sha-256-plus, cert, peer",
        ),
        (
            'auth_type = "hba"\nauth_hba_file = "{dir}/good"',
            "client_tls_ca_file: missing: {dir}/good:1 wants certificates",
        ),
        ('auth_file = "{dir}/none"', "auth_file: cannot be used: {dir}/none: no such file or directory"),
        (
            'failover = "promote"\ninstances = 2',
            'etcd_hosts: missing: failover "promote" with 2 instances needs etcd, so that one of them promotes',
        ),
        ('etcd_hosts = ["etcd1"]', 'etcd_hosts: "etcd1" is not allowed: a list of HOST:PORT or URLs'),
        (
            'etcd_hosts = ["etcd1:2379"]\netcd_user = "pointsman"',
            "etcd_password: missing: etcd_user and etcd_password go together",
        ),
        (
            'etcd_hosts = ["https://etcd1:2379"]\netcd_cert_file = "{dir}/hba"',
            "etcd_key_file: missing: etcd_cert_file and etcd_key_file go together",
        ),
        (
            'etcd_hosts = ["https://etcd1:2379"]\netcd_ca_file = "{dir}/none"',
            "etcd_ca_file: cannot be read: {dir}/none: no such file or directory",
        ),
        (
            'etcd_hosts = ["etcd1:2379"]\netcd_ca_file = "{dir}/hba"',
            "etcd_hosts: not allowed: with etcd_ca_file or etcd_cert_file each begins with https://",
        ),
        (
            'state_file = "{dir}/none/state"',
            "state_file: cannot be made: {dir}/none is not a directory to write to",
        ),
        ('topology = "patroni"', 'patroni_urls: missing: topology "patroni" needs Patroni\'s REST API'),
        (
            'topology = "patroni"\npatroni_urls = ["pg1:8008"]\nfailover = "promote"',
            'failover: "promote" is not allowed with topology "patroni": "follow", since Patroni promotes',
        ),
        (
            'patroni_urls = ["http://pg1:8008/cluster"]',
            'patroni_urls: "http://pg1:8008/cluster" is not allowed: a list of HOST:PORT or URLs',
        ),
        (
            'etcd_hosts = ["https://etcd1:2379"]\netcd_ca_file = "{dir}/hba"',
            "etcd_ca_file: cannot be used: {dir}/hba: not a certificate, or a key that does not belong to it",
        ),
        (
            'auth_user = "asker"',
            'auth_user: "asker" is not allowed: a user whose password is in [users] or auth_file',
        ),
        ('dashboard = "login"', 'dashboard_password: missing: dashboard "login" needs one'),
        ('auth_type = "cert"', 'client_tls_ca_file: missing: auth_type "cert" needs one'),
        (
            "query_cache_size = 1000",
            "max_cached_result_size: 1048576 is not allowed: at most query_cache_size (1000)",
        ),
        (
            'cache_redis_url = "http://hunter2@cache"',
            "cache_redis_url: the value is not allowed: redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], "
            "rediss:// for TLS, or unix://PATH",
        ),
        (
            'cache_redis_url = "redis://cache"\ncache_watch = "poll"',
            'cache_redis_url: needs cache_watch = "logical" or "auto", not "poll": instances tell by the positions of '
            "logical decoding which answers hold",
        ),
        (
            'cache_unsafe_relations = ["a("]',
            'cache_unsafe_relations: "a(" is not allowed: a regular expression (missing ), unterminated subpattern at '
            "position 1)",
        ),
        (
            'auth_type = "scram-sha-256-plus"',
            'client_tls_sslmode: "disable" is not allowed with auth_type "scram-sha-256-plus"',
        ),
    ],
)
def test_mistakes_about_files_and_what_belongs_together(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "hba").write_text("host all all all ident\n")
    (tmp_path / "good").write_text("hostssl all all all cert\n")
    with pytest.raises(ConfigError) as refused:
        build_settings(tomllib.loads(text.replace("{dir}", str(tmp_path)) + GOOD), origin="p.toml")
    assert refused.value.lines == (f"p.toml: {line.replace('{dir}', str(tmp_path))}",)
