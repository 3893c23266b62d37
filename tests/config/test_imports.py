"""Settings made of PgBouncer's and pgpool-II's: what they become, what is said of the rest, and that ours take them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from middleware.config import build_settings
from middleware.config.from_pgbouncer import from_pgbouncer
from middleware.config.from_pgpool import from_pgpool
from middleware.config.imported import seconds_of
from tests.config.test_cli import pointsman

PGBOUNCER = r"""
;; a comment
%include /etc/pgbouncer/more.ini
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
admin_users = postgres, root
pool_mode = transaction
max_client_conn = 500
default_pool_size = 40
reserve_pool_timeout = 3
server_reset_query = DISCARD ALL
server_lifetime = 1800
tcp_keepalive = 1
tcp_user_timeout = 12500
client_tls_protocols = tlsv1.3
query_wait_timeout = 0
verbose = 2
so_reuseport = 1
"""


def test_pgbouncer(tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text('"asker" "secret"\n')
    found = from_pgbouncer(tmp_path / "pgbouncer.ini", PGBOUNCER)
    values = tomllib.loads(found.as_toml())
    assert values.pop("nodes") == {
        "db1": {"host": "10.0.0.1", "port": 5433},
        "db2": {"host": "10.0.0.2", "port": 5433},
        "db3": {"host": "10.0.0.3", "port": 5433},
    }
    assert values.pop("users") == {"app_ro": {"password": 'it\'s "x"'}}
    assert values.pop("routes") == [
        {"user": "batch", "pool_mode": "session", "max_user_connections": 5, "query_timeout": 2.5},
        {"database": "app", "pool_size": 30},
        {"database": "alias", "server_database": "app", "server_user": "app_ro", "pool_mode": "statement"},
        {"max_db_connections": 50},
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
        "admin_users": ["postgres", "root"],
        "default_pool_size": 40,
        "reserve_pool_timeout": 3,
        "server_reset_query": "DISCARD ALL",
        "server_lifetime": 1800,
        "tcp_keepalive": "on",
        "tcp_user_timeout": 12.5,
        "client_tls_min_protocol": "TLSv1.3",
        "query_wait_timeout": 0,
    }
    assert [note.partition(":")[0] for note in found.notes] == [
        "%include /etc/pgbouncer/more.ini",
        "logfile",
        "so_reuseport",
        "[users] batch",
        "[databases] pg.stat",
        "[health_check]",
        "[databases]",
    ]
    del found.values["query_wait_timeout"]
    settings = build_settings(found.as_mapping())
    assert settings.worker_settings().policies[1].pool.size == 30


def test_pgbouncers_defaults_are_written_out(tmp_path: Path) -> None:
    found = from_pgbouncer(tmp_path / "x.ini", "[databases]\napp =\n[pgbouncer]\nauth_type = pam\n")
    assert found.values == {
        "listen_addr": "",
        "unix_socket_dir": "/tmp",
        "pool_mode": "session",
        "max_client_conn": 100,
    }
    assert found.nodes == {"db1": {"host": "127.0.0.1", "port": 5432}}
    assert found.notes[0].startswith('auth_type: not taken: "pam" has no equivalent; known are scram-sha-256')


PGPOOL = """
# comment
listen_addresses = 'localhost'
port = 9999
num_init_children = 64   # with a comment
backend_hostname0 = 'db-a'
backend_port0 = 5432
backend_weight0 = 1
backend_hostname1 = 'db-b'
backend_port1 = 5433
backend_weight1 = 0.5
backend_flag1 = 'ALLOW_TO_FAILOVER'
connect_timeout = 10000
connection_life_time = 5min
client_idle_limit = 0
health_check_user = 'checker'
health_check_password = 'pw'
sr_check_user = 'other'
health_check_period = 0
sr_check_period = 10
delay_threshold = 1000000
ssl = on
primary_routing_query_pattern_list = 'one;two\\;too'
read_only_function_list = 'get_.*, other'
statement_level_load_balance = on
memory_cache_enabled = off
"""


def test_pgpool() -> None:
    found = from_pgpool(PGPOOL)
    values = tomllib.loads(found.as_toml())
    assert values.pop("nodes") == {
        "db0": {"host": "db-a", "port": 5432, "weight": 1},
        "db1": {"host": "db-b", "port": 5433, "weight": 1},
    }
    assert values.pop("health_check") == {"user": "checker", "password": "pw", "period": 10}
    assert values == {
        "pool_mode": "session",
        "listen_addr": "localhost",
        "listen_port": 9999,
        "max_client_conn": 64,
        "server_connect_timeout": 10,
        "server_idle_timeout": 300,
        "client_idle_timeout": 0,
        "max_replica_lag_bytes": 1000000,
        "client_tls_sslmode": "prefer",
        "primary_queries": ["one", "two\\;too"],
        "safe_functions": ["get_.*", "other"],
        "session_affinity": "off",
    }
    assert [note.partition(":")[0] for note in found.notes] == [
        "pool_mode",
        "backend_weight1",
        "backend_flag1",
        "health_check_period",
        "memory_cache_enabled",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[other]\na = 1\n",
        "[databases\n",
        "[databases]\na = port=x\n",
        "[pgbouncer]\n[users]\na = pool_size=x\n",
    ],
)
def test_no_pgbouncer_ini(text: str) -> None:
    with pytest.raises(ValueError):
        from_pgbouncer(Path("x.ini"), text)


def test_no_pgpool_conf() -> None:
    with pytest.raises(ValueError, match="no backend_hostname0"):
        from_pgpool("port = 1\n")


@pytest.mark.parametrize(
    ("text", "unit_s", "expected"), [("5", 1.0, 5.0), ("5", 1e-3, 0.005), ("1min", 1e-3, 60.0), (" 20 ms", 1.0, 0.02)]
)
def test_durations(text: str, unit_s: float, expected: float) -> None:
    assert seconds_of(text, unit_s) == pytest.approx(expected)
    for wrong in ("", "x", "5 weeks"):
        with pytest.raises(ValueError):
            seconds_of(wrong, 1.0)


def run(directory: Path, name: str, text: str) -> Any:
    (directory / name).write_text(text)
    return pointsman("import", name, cwd=directory)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "userlist.txt").write_text('"asker" "secret"\n')
    done = run(tmp_path, "pgbouncer.ini", PGBOUNCER)
    assert done.returncode == 0
    assert tomllib.loads(done.stdout)["default_pool_size"] == 40
    assert "pgbouncer.ini: so_reuseport: set workers" in done.stderr
    assert "to be completed: query_wait_timeout: 0.0 is not allowed: a number of seconds above 0" in done.stderr
    done = run(tmp_path, "pgpool.conf", PGPOOL)
    assert (done.returncode, tomllib.loads(done.stdout)["listen_port"]) == (0, 9999)
    for name, text in (("a.ini", "x"), ("a.conf", "x")):
        done = run(tmp_path, name, text)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{name}: ")
    done = pointsman("import", "missing.ini", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "missing.ini: no such file or directory\n")
