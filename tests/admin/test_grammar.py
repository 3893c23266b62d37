"""The console's commands: what each way of writing one means, and what is none."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.admin.columns import COLUMNS
from middleware.admin.grammar import (
    HELP,
    CacheClear,
    CacheOrder,
    Command,
    DatabaseOrder,
    KillClient,
    NodeOrder,
    Promote,
    Reload,
    SetSetting,
    Show,
    Shutdown,
    Suspend,
    command_of,
)
from middleware.admin.words import statements_of
from middleware.errors import PointsmanError


def read(text: str) -> Command:
    [statement] = statements_of(text)
    return command_of(statement)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("SHOW POOLS", Show("pools")),
        ("show pools;", Show("pools")),
        ("sElEcT pools", Show("pools")),
        ("SHOW /* now */ STATS_TOTALS -- all", Show("stats_totals")),
        ("SHOW DIGESTS", Show("digests")),
        ("SHOW DIGESTS ORDER BY mean LIMIT 5", Show("digests", "mean", 5)),
        ("SHOW DIGESTS LIMIT 5", Show("digests", "total", 5)),
        ("SHOW DIGESTS ORDER BY CALLS", Show("digests", "calls")),
        ("SHOW EVENTS LIMIT 10", Show("events", limit=10)),
        ("PAUSE", DatabaseOrder("PAUSE")),
        ("PAUSE app", DatabaseOrder("PAUSE", "app")),
        ('PAUSE "App"', DatabaseOrder("PAUSE", "App")),
        ("PAUSE App", DatabaseOrder("PAUSE", "App")),
        ("pause 'app'", DatabaseOrder("PAUSE", "app")),
        ("RESUME;", DatabaseOrder("RESUME")),
        ("DISABLE app", DatabaseOrder("DISABLE", "app")),
        ("ENABLE 2024", DatabaseOrder("ENABLE", "2024")),
        ("RECONNECT", DatabaseOrder("RECONNECT")),
        ("KILL app", DatabaseOrder("KILL", "app")),
        ("WAIT_CLOSE", DatabaseOrder("WAIT_CLOSE")),
        ("KILL_CLIENT 1048577", KillClient(1048577)),
        ("KILL_CLIENT '7'", KillClient(7)),
        ("SUSPEND", Suspend()),
        ("RELOAD", Reload()),
        ("SHUTDOWN", Shutdown()),
        ("SHUTDOWN wait_for_clients", Shutdown("WAIT_FOR_CLIENTS")),
        ("SHUTDOWN WAIT_FOR_SERVERS;", Shutdown("WAIT_FOR_SERVERS")),
        ("SET query_timeout = 5", SetSetting("query_timeout", "5")),
        ("SET query_timeout='5'", SetSetting("query_timeout", "5")),
        ("set Query_Timeout to 5", SetSetting("query_timeout", "5")),
        ("SET log.level = debug", SetSetting("log.level", "debug")),
        ("SET nodes.DB1.weight = 2", SetSetting("nodes.DB1.weight", "2")),
        ('SET "nodes.db 1.weight" = 2', SetSetting("nodes.db 1.weight", "2")),
        ("SET admin_users = a, b", SetSetting("admin_users", "a,b")),
        ("SET zone = ''", SetSetting("zone", "")),
        ("SET query_timeout = -5", SetSetting("query_timeout", "-5")),
        ("CACHE ON", CacheOrder("on")),
        ("cache hint route reports", CacheOrder("hint", "reports")),
        ('CACHE OFF ROUTE ""', CacheOrder("off", "")),
        ("CACHE DEFAULT", CacheOrder("default")),
        ("CACHE CLEAR", CacheClear()),
        ("DETACH NODE db2", NodeOrder("DETACH", "db2")),
        ("attach node db-2.eu", NodeOrder("ATTACH", "db-2.eu")),
        ('DRAIN NODE "db 2"', NodeOrder("DRAIN", "db 2")),
        ("SWITCHOVER", Promote("SWITCHOVER")),
        ("SWITCHOVER db2", Promote("SWITCHOVER", "db2")),
        ("PROMOTE db2", Promote("PROMOTE", "db2")),
    ],
)
def test_commands(text: str, command: Command) -> None:
    assert read(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "SHOW",
        "SHOW POOL",
        "SHOW POOLS STATS",
        "SHOW POOLS LIMIT 5",
        "SHOW DIGESTS ORDER BY size",
        "SHOW DIGESTS LIMIT five",
        "SHOW 'pools'",
        "SELECT foo",
        "PAUSE a b",
        "PAUSE =",
        'PAUSE ""',
        "DISABLE",
        "KILL_CLIENT",
        "KILL_CLIENT app",
        "KILL_CLIENT 1 2",
        "KILL_CLIENT -1",
        "RELOAD now",
        "SHUTDOWN NOW",
        "SHUTDOWN WAIT_FOR_CLIENTS now",
        "SET",
        "SET query_timeout",
        "SET query_timeout 5",
        "SET query_timeout = '5' '6'",
        "CACHE",
        "CACHE ON ROUTE",
        "CACHE ON ROUTE a b",
        "CACHE EMPTY",
        "DETACH db2",
        "DETACH NODE",
        "PROMOTE",
        "SWITCHOVER a b",
        "DROP TABLE x",
        "POOLS",
        "PAUSE $1",
        "'SHOW' POOLS",
    ],
)
def test_what_is_no_command(text: str) -> None:
    with pytest.raises(PointsmanError) as caught:
        read(text)
    assert caught.value.sqlstate == "42601"


def test_the_error_names_the_command_and_what_was_meant() -> None:
    with pytest.raises(PointsmanError) as caught:
        read("SHOW POOOLS")
    assert caught.value.message == "invalid command 'SHOW POOOLS', use SHOW HELP;"
    assert caught.value.hint == "Perhaps you meant SHOW POOLS."
    with pytest.raises(PointsmanError) as caught:
        read("SHUTDWON")
    assert caught.value.hint == "Perhaps you meant SHUTDOWN."


def test_a_long_command_is_not_repeated_whole() -> None:
    with pytest.raises(PointsmanError) as caught:
        read("SHOW " + "x" * 10_000)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("number", ["99999999999", "2147483648"])
def test_a_number_beyond_all_clients_is_out_of_range(number: str) -> None:
    with pytest.raises(PointsmanError) as caught:
        read(f"KILL_CLIENT {number}")
    assert caught.value.sqlstate == "22023"


def test_help_lists_every_table_once() -> None:
    shown = [command.split()[1].lower() for command, _ in HELP if command.startswith("SHOW ")]
    assert sorted(shown) == sorted(COLUMNS)


@given(st.text(min_size=1, max_size=30))
def test_any_database_can_be_named(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    assert read(f"PAUSE {quoted}") == DatabaseOrder("PAUSE", name)


def test_the_page_of_the_console_tells_of_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "console.md").read_text()
    for command, _ in HELP:
        verb, *rest = command.split()
        assert re.search(rf"\b{rest[0] if verb == 'SHOW' else verb}\b", page), command
