"""Settings made of PgBouncer's: what they become, what is said of the rest, and that ours take them."""

from pathlib import Path
from typing import Any

import pytest

from middleware.config.fields import DURATION_S_MAX
from middleware.config.from_pgbouncer import from_pgbouncer
from middleware.config.imported import Imported, whole_of
from tests.config.import_files import noted, policy, refused, taken, written

PGBOUNCER = r"""
;; a comment
%include more.ini
[databases]
app = host=10.0.0.1 port=5433 pool_size=30
alias = host=10.0.0.1 port=5433 dbname=app user=app_ro password='it''s "x"' pool_mode=statement
pg.stat = host=10.0.0.2,10.0.0.3 port=5433 dbname=pg.stat connect_query='select 1'
* = host=10.0.0.1 port=5433 max_db_connections=50

[users]
batch = pool_mode=session max_user_connections=5 query_timeout=2.5

[pgbouncer]
logfile = /var/log/pgbouncer.log
listen_addr = *
listen_port = 6543
auth_type = scram-sha-256
auth_file = userlist.txt
auth_user = asker
auth_dbname = alias
admin_users = postgres, root
stats_users = monitor
stats_period = 30
    ; PgBouncer takes lines that are indented
    pool_mode = transaction
max_client_conn = 500
default_pool_size = 40
reserve_pool_timeout = 3
server_reset_query = discard all;
server_lifetime = 1800
tcp_keepalive = 1
tcp_user_timeout = 12500
client_tls_protocols = tlsv1.3
query_wait_timeout = 0
verbose = 2
so_reuseport = 1
[peers]
1 = host=/tmp/1
"""


def imported(text: str, directory: Path = Path("/etc/pgbouncer")) -> Imported:
    return from_pgbouncer(directory / "pgbouncer.ini", text)


def with_settings(text: str, databases: str = "app = host=db") -> Imported:
    return imported(f"[databases]\n{databases}\n[pgbouncer]\nauth_type = trust\n{text}\n")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text('"asker" "secret"\n')
    found = imported(PGBOUNCER, tmp_path)
    values = written(found)
    assert values.pop("nodes") == {
        "db1": {"host": "10.0.0.1", "port": 5433},
        "db2": {"host": "10.0.0.2", "port": 5433},
        "db3": {"host": "10.0.0.3", "port": 5433},
    }
    assert values.pop("users") == {"app_ro": {"password": 'it\'s "x"'}}
    alias = {"server_database": "app", "server_user": "app_ro", "pool_mode": "statement", "prefer": ["db1"]}
    of_batch = {"pool_mode": "session", "max_user_connections": 5, "query_timeout": 2.5}
    assert values.pop("routes") == [
        {"user": "batch", "database": "app", "pool_size": 30, "prefer": ["db1"], **of_batch},
        # Its servers are app_ro's, not its own.
        {"user": "batch", "database": "alias", **alias, "query_timeout": 2.5},
        {"user": "batch", "database": "pg\\.stat", "prefer": ["db2", "db3"], **of_batch},
        {"user": "batch", "max_db_connections": 50, "prefer": ["db1"], **of_batch},
        {"database": "app", "pool_size": 30, "prefer": ["db1"]},
        {"database": "alias", **alias},
        {"database": "pg\\.stat", "prefer": ["db2", "db3"]},
        {"max_db_connections": 50, "prefer": ["db1"]},
    ]
    assert (values.pop("log"), values.pop("health_check")) == ({"level": "debug"}, {"user": "pointsman"})
    assert values == {
        "listen_addr": "*",
        "unix_socket_dir": "/tmp",
        "auth_type": "scram-sha-256",
        "pool_mode": "transaction",
        "max_client_conn": 500,
        "listen_port": 6543,
        "auth_file": str(tmp_path / "userlist.txt"),
        "auth_user": "asker",
        "auth_dbname": "app",
        "admin_users": ["postgres", "root"],
        "stats_users": ["monitor"],
        "stats_period": 30,
        "default_pool_size": 40,
        "reserve_pool_timeout": 3,
        "server_reset_query": "DISCARD ALL",
        "server_lifetime": 1800,
        "tcp_keepalive": "on",
        "tcp_user_timeout": 12.5,
        "client_tls_min_protocol": "TLSv1.3",
        "query_wait_timeout": 10_000_000,
    }
    assert [note.partition(": ")[0] for note in found.notes] == [
        "%include more.ini",
        "[peers]",
        "logfile",
        "query_wait_timeout",
        "so_reuseport",
        "[users.app_ro]",
        "[databases] pg.stat",
        "[databases]",
        "[health_check]",
    ]
    assert refused(found) == []


def test_defaults_are_written_out() -> None:
    found = imported("[databases]\napp =\n* =\n")
    assert found.values == {
        "listen_addr": "",
        "unix_socket_dir": "/tmp",
        "auth_type": "md5",
        "pool_mode": "session",
        "max_client_conn": 100,
    }
    assert refused(found) == [
        'settings: users: missing: auth_type "md5" needs tables [users.NAME], auth_file or auth_user'
    ]


def test_included_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[databases]\n'a b' = host=one\n%include deeper.ini\n")
    (tmp_path / "deeper.ini").write_text('"say ""x""" = host=two\n')
    found = imported("[pgbouncer]\nauth_type = trust\n  %include more.ini\nlast = host=three\n", tmp_path)
    assert [node["host"] for node in found.nodes.values()] == ["one", "two", "three"]
    assert [rule.get("database") for rule in found.routes] == ["a\\ b", 'say\\ "x"', "last", None]
    assert refused(found) == []
    (tmp_path / "deeper.ini").write_text("%include more.ini\n")
    with pytest.raises(ValueError, match="include each other"):
        imported("[pgbouncer]\n%include more.ini\n", tmp_path)


# What holds for a client of another database, or of none that is named

FALLBACK = "[databases]\n{}\n[pgbouncer]\nauth_type = trust\npool_mode = transaction\n"


def test_a_database_without_options_is_not_of_the_rule_for_all_others() -> None:
    settings = taken(imported(FALLBACK.format("orders = host=db\n* = host=db pool_mode=session pool_size=3")))
    assert (policy(settings, "orders", "u").mode, policy(settings, "orders", "u").pool.size) == ("transaction", 20)
    assert (policy(settings, "other", "u").mode, policy(settings, "other", "u").pool.size) == ("session", 3)
    # None is needed where the others have none.
    assert imported(FALLBACK.format("orders = host=db\n* = host=db")).routes == []


def test_databases_that_are_not_named_are_refused() -> None:
    found = imported(FALLBACK.format("orders = host=db"))
    assert found.routes == [{"database": "orders"}, {"refuse": "on"}]
    assert 'without a "*"' in noted(found, "[databases]")[0]
    settings = taken(found)
    assert not policy(settings, "orders", "u").refuse
    assert policy(settings, "postgres", "u").refuse


def test_a_user_has_what_its_database_says_as_well() -> None:
    text = "[users]\nu = pool_size=7\n[databases]\nalias = host=db dbname=real pool_mode=statement\n"
    settings = taken(imported(text + "[pgbouncer]\nauth_type = trust\n"))
    found = policy(settings, "alias", "u")
    assert (found.server_database, found.mode, found.pool.size) == ("real", "statement", 7)
    assert policy(settings, "other", "u").refuse
    assert policy(settings, "alias", "v").pool.size == 20


def test_a_forced_user_brings_the_pools_values() -> None:
    text = "[users]\nforced = pool_mode=statement query_timeout=9\n[databases]\napp = host=db user=forced\n"
    settings = taken(imported(text + "[pgbouncer]\nauth_type = trust\n"))
    assert (policy(settings, "app", "u").mode, policy(settings, "app", "u").client.query_s) == ("statement", 0)


# What 0 means, and what else ours have otherwise


@pytest.mark.parametrize(
    ("line", "expected", "told"),
    [
        ("server_idle_timeout = 0", 0, False),
        ("query_wait_timeout = 0", DURATION_S_MAX, True),
        ("server_lifetime = 0.0", 0.001, True),
        ("server_connect_timeout = 0", None, True),
        ("client_login_timeout = 0", None, True),
        ("cancel_wait_timeout = 0", None, True),
        ("max_prepared_statements = 0", None, True),
        ("default_pool_size = 0", 100, True),
        ("max_packet_size = 2147483647", 2**30 - 1, True),
        ("max_packet_size = 0x1000", 262_144, True),
        ("max_client_conn = 0", 1, True),
        ("tcp_keepidle = 99999", 32_767, True),
        ("tcp_keepalive = 2", "on", False),
        ("tcp_keepalive = 0", "off", False),
        ("server_lifetime = 1234567.5", 1234567.5, False),
        ("client_idle_timeout = 1e9", DURATION_S_MAX, True),
        ("query_timeout = 0.0000001", 0, False),
        ("listen_port = 70000", None, True),
        ("listen_port = x", None, True),
        ("default_pool_size =", None, False),
        ("auth_query =", None, False),
        ("unix_socket_mode = 0770", "0770", False),
        ("unix_socket_mode = 511", "0777", False),
        ("unix_socket_mode = 0x1f8", "0770", False),
        ("unix_socket_mode = 777", "0411", True),
        ("unix_socket_mode = 0778", None, True),
        ("unix_socket_mode = rw", None, True),
        ("server_reset_query = DISCARD ALL;", "DISCARD ALL", False),
        ("server_reset_query = discard  all", "DISCARD ALL", False),
        # There it is nothing that is sent, here a connection that is closed.
        ("server_reset_query =", None, True),
        ("server_reset_query = DEALLOCATE ALL", None, True),
        ("pool_mode = Transaction", "transaction", False),
    ],
)
def test_a_value(line: str, expected: Any, told: bool) -> None:
    found = with_settings(line)
    name = line.partition(" =")[0]
    assert written(found).get(name) == expected
    assert bool(noted(found, name)) == told
    assert refused(found) == []


@pytest.mark.parametrize("method", ["pam", "any", "ldap", "PAM", "peer"])
def test_a_method_that_is_not_known_refuses_clients_and_says_so(method: str) -> None:
    found = imported(f"[databases]\n* = host=db user=u password=p\n[pgbouncer]\nauth_type = {method}\n")
    assert "auth_type" not in found.values
    assert "CLIENTS WILL BE REFUSED" in noted(found, "auth_type")[0]
    assert refused(found) == []


@pytest.mark.parametrize(
    ("entry", "places"),
    [
        ("host=a,b port=5432,5433", [("a", 5432), ("b", 5433)]),
        ("host=a,b port=5433", [("a", 5433), ("b", 5433)]),
        ("host = a, dbname=b", [("a", 5432)]),
        ("", [("/run/pg", 5432)]),
        ("port=6000", [("/run/pg", 6000)]),
        ("host=2001:db8::1", [("2001:db8::1", 5432)]),
        ("host=/var/run/postgresql", [("/var/run/postgresql", 5432)]),
    ],
)
def test_hosts(entry: str, places: list[tuple[str, int]]) -> None:
    found = with_settings("unix_socket_dir = /run/pg", f"app = {entry}")
    assert [(node["host"], node["port"]) for node in found.nodes.values()] == places
    assert refused(found) == []
    assert bool(noted(found, "[databases] app")) == ("host" not in entry or "5432," in entry)


def test_the_unix_sockets_directory_has_a_default() -> None:
    assert with_settings("").nodes == {"db1": {"host": "db", "port": 5432}}
    assert with_settings("", "app =").nodes == {"db1": {"host": "/tmp", "port": 5432}}


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        # Without a number of their own they are as the top level's.
        ("pool_size=-1 min_pool_size=-1 reserve_pool=-1 max_db_connections=0 query_wait_timeout=-1", {}),
        ("pool_size=0", {"pool_size": 100}),
        ("reserve_pool=0 min_pool_size=0", {"reserve_pool_size": 0, "min_pool_size": 0}),
        ("query_wait_timeout=0", {"query_wait_timeout": DURATION_S_MAX}),
        ("pool_mode=Session", {"pool_mode": "session"}),
        ("dbname='with space' user=u", {"server_database": "with space", "server_user": "u"}),
    ],
)
def test_values_of_a_database(entry: str, rule: dict[str, Any]) -> None:
    found = with_settings("", f"app = host=db {entry}")
    assert found.routes[0] == {"database": "app", **rule}
    assert refused(found) == []


def test_a_users_0_is_the_top_levels_value() -> None:
    found = imported("[databases]\n* = host=db\n[users]\nu = query_timeout=0 max_user_connections=0 pool_size=-1\n")
    assert found.routes == []


def test_no_reserve_timeout_is_no_reserve() -> None:
    found = with_settings("reserve_pool_size = 3\nreserve_pool_timeout = 0", "app = host=db reserve_pool=5")
    assert found.routes[0] == {"database": "app"}
    assert "reserve_pool_size" not in found.values
    assert noted(found, "reserve_pool_timeout")


@pytest.mark.parametrize(
    ("words", "oldest", "told"),
    [("tlsv1.3", "TLSv1.3", False), ("secure", "TLSv1.2", False), ("tlsv1.1, tlsv1.2", "TLSv1.2", True)],
)
def test_tls_protocols(words: str, oldest: str, told: bool) -> None:
    found = with_settings(f"server_tls_protocols = {words}")
    assert found.values["server_tls_min_protocol"] == oldest
    assert bool(noted(found, "server_tls_protocols")) == told


def test_passwords_of_databases_are_logins_and_it_is_said() -> None:
    found = with_settings(
        "", "a = host=db user=u password=1\nb = host=db user=u password=2\nc = host=db user=v password=1"
    )
    assert found.users == {"u": {"password": "2"}, "v": {"password": "1"}}
    assert len(noted(found, "[users.u]")) == 2
    assert all("CLIENT'S LOGIN" in noted(found, f"[users.{name}]")[0] for name in "uv")
    long = with_settings("", f"a = host=db user={'x' * 64} password=1")
    assert (long.users, refused(long)) == ({}, [])


def test_what_would_not_listen_listens() -> None:
    for directory in ("", "@abstract"):
        found = with_settings(f"unix_socket_dir = {directory}\nlisten_addr = ,")
        assert "listen_addr" not in found.values
        assert refused(found) == []


def test_whole_numbers_are_of_any_base() -> None:
    assert [whole_of(text) for text in ("511", "0777", "0x1FF", "-1", "+5", "0")] == [511, 511, 511, -1, 5, 0]
    for wrong in ("", "08", "1.5", "0x", "1 2", "٣"):
        with pytest.raises(ValueError, match="is not a whole number"):
            whole_of(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither"),
        ("nothing", "line 1: not a key = value"),
        ("[other]\na = 1\n", "neither"),
        ("a = 1\n[databases]\n", "line 1: not a key = value of a section"),
        ("[databases\n", "line 1"),
        ("[databases]\na = port=x\n", 'databases. a: port "x"'),
        ("[databases]\na = host=x,y port=1,2,3\n", "2 hosts and 3 ports"),
        ("[databases]\na = host\n", "databases. a: not a connection string"),
        ("[databases]\na = pool_mode=other\n", 'databases. a: pool_mode: "other" has no equivalent'),
        ("[pgbouncer]\n[users]\na = pool_size=x\n", 'users. a: pool_size: "x" is not a whole number'),
    ],
)
def test_no_pgbouncer_ini(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        imported(text)
