"""One statement under several settings, roles and paths: nobody gets the answer that another's settings have made."""

import itertools
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import pytest

from middleware.wire.frontend import Query, StartupMessage
from tests.differential.raw_client import Address
from tests.identity.conftest import Asked as Peers
from tests.identity.exchanges import PLAIN, SIMPLE, Asked, ways
from tests.identity.served import word
from tests.identity.wire import ByteClient
from tests.identity.wire import told as all_told

pytestmark = pytest.mark.integration

ROUNDS: Final = 2
PAUSE_S: Final = 0.1
KEPT_S: Final = 90.0
"""By then an answer must be kept. Where a commit's outcome was lost, none is for a minute."""
OWN_WARNING: Final = b"C01PS1\0"
"""Pointsman's, of what a statement has left behind."""


class Setting(NamedTuple):
    """What is set to each of several values, and a statement whose answer depends on it."""

    name: str
    values: tuple[str, ...]
    sql: str
    kept: bool = True
    """An answer is kept: for this value."""
    at_startup: bool = True
    """It can be set by the startup message, too."""

    def set_to(self, value: str) -> str:
        return f"SET {self.name} TO {value}"


SETTINGS: Final = {
    setting.name + (f", {number}" if number else ""): setting
    for number, setting in enumerate(
        (
            Setting(
                "timezone",
                ("'UTC'", "'Asia/Tokyo'", "'America/New_York'", "'<+0530>-05:30'"),
                "SELECT c_timestamptz, c_tstzrange, c_timestamptz_array FROM identity_types ORDER BY id",
            ),
            Setting(
                "timezone",
                ("'UTC'", "'Asia/Tokyo'"),
                "SELECT n FROM identity_rows WHERE at > '2024-01-02 00:00' ORDER BY n LIMIT 1",
            ),
            Setting(
                "datestyle",
                ("'ISO, DMY'", "'SQL, DMY'", "'SQL, MDY'", "'German'", "'Postgres, MDY'"),
                "SELECT c_date, c_timestamp, c_timestamptz, c_datemultirange FROM identity_types ORDER BY id",
            ),
            Setting(
                "datestyle", ("'ISO, DMY'", "'ISO, MDY'"), "SELECT date '01/02/2000', n FROM identity_rows WHERE n = 1"
            ),
            Setting(
                "intervalstyle",
                ("'postgres'", "'postgres_verbose'", "'sql_standard'", "'iso_8601'"),
                "SELECT c_interval, c_identity_nested FROM identity_types ORDER BY id",
            ),
            Setting(
                "extra_float_digits",
                ("1", "0", "-5"),
                "SELECT c_real, c_double_precision, c_point, c_circle FROM identity_types ORDER BY id",
            ),
            Setting(
                "bytea_output", ("'hex'", "'escape'"), "SELECT c_bytea, c_bytea_array FROM identity_types ORDER BY id"
            ),
            Setting(
                "client_encoding", ("'UTF8'", "'LATIN1'"), "SELECT c_identity_mood FROM identity_types WHERE id = 2"
            ),
            Setting(
                "client_encoding",
                ("'UTF8'", "'LATIN1'"),
                "SELECT length('ä'), n FROM identity_rows WHERE n = 1",
                kept=False,  # what is not ASCII is not read in another encoding
            ),
            Setting("search_path", ("public", "identity_other"), "SELECT word FROM identity_rows WHERE n = 1"),
            Setting(
                "transform_null_equals",
                ("on", "off"),
                "SELECT count(*) FROM identity_other.identity_rows WHERE at = NULL",
            ),
            Setting("array_nulls", ("on", "off"), "SELECT '{NULL,a}'::text[], n FROM identity_rows WHERE n = 1"),
            Setting(
                "timezone_abbreviations",
                ("'Default'", "'Australia'"),
                "SELECT n FROM identity_rows WHERE at = '2024-01-02 00:00 EST'",
            ),
            Setting(
                "standard_conforming_strings",
                ("on", "off"),
                r"SELECT 'a\\b', n FROM identity_rows WHERE n = 1",
                kept=False,  # a warning comes with it
            ),
            Setting("identity.tenant", ("'1'", "'2'"), "SELECT n, tenant FROM identity_tenants ORDER BY n", kept=False),
            Setting(
                "role",
                ("identity_one", "identity_two"),
                "SELECT n, owner FROM identity_owned ORDER BY n",
                at_startup=False,
            ),
            Setting(
                "role",
                ("identity_one", "identity_two"),
                "SELECT who FROM identity_who",
                at_startup=False,
            ),
        )
    )
}

ROLES: Final = """
CREATE ROLE identity_one;
CREATE ROLE identity_two;
CREATE ROLE identity_nobody;
GRANT identity_one, identity_two, identity_nobody TO app;
"""
TABLES: Final = """
CREATE TABLE identity_owned (n integer, owner name);
INSERT INTO identity_owned VALUES (1, 'identity_one'), (2, 'identity_two');
ALTER TABLE identity_owned ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity_owned FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON identity_owned USING (owner = current_user);
CREATE TABLE identity_tenants (n integer, tenant text);
INSERT INTO identity_tenants VALUES (1, '1'), (2, '2');
ALTER TABLE identity_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON identity_tenants USING (tenant = current_setting('identity.tenant', true));
CREATE VIEW identity_who AS SELECT current_user AS who, n FROM identity_rows WHERE n = 1;
CREATE TABLE identity_secret (n integer);
INSERT INTO identity_secret VALUES (42);
GRANT SELECT ON identity_owned, identity_tenants, identity_who, identity_secret TO identity_one, identity_two;
"""


@pytest.fixture(scope="module", autouse=True)
def roles(peers: Peers) -> None:
    """Roles, and what they may see."""
    peers.cluster.query(ROLES)
    with ByteClient(peers.cached) as client:
        # DDL that does not pass through it is noticed a minute later.
        client.settle(TABLES)
    peers.cluster.wait_for_replay()


def ask(client: ByteClient, sql: str) -> bytes:
    """By all that drivers do, the answers one behind another."""
    exchanges = dict(ways(Asked(sql, 0), (SIMPLE, {"unnamed": PLAIN["unnamed"]})))
    answers = [client.exchange(exchanges[way].send) for way in ("simple", "unnamed, text", "unnamed, binary")]
    return b"".join(answers)


def opened(address: Address, setting: Setting, value: str, at_startup: bool) -> ByteClient:
    """A session with a setting, made either way."""
    if not at_startup:
        client = ByteClient(address)
        client.settle(setting.set_to(value))
        return client
    option = f"-c {setting.name}={value.strip(chr(39)).replace(' ', chr(92) + ' ')}"
    startup = StartupMessage(
        ((b"user", address.user.encode()), (b"database", address.database.encode()), (b"options", option.encode()))
    )
    return ByteClient(address, startup.encode())


def told(answer: bytes) -> list[tuple[str, bytes]]:
    """An answer's messages, without what Pointsman says of the statement before."""
    return [(code, body) for code, body in all_told(answer) if not (code == "N" and OWN_WARNING in body)]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("at_startup", [False, True], ids=["SET", "startup"])
def test_sessions_with_different_settings(peers: Peers, name: str, at_startup: bool) -> None:
    setting = SETTINGS[name]
    if at_startup and not setting.at_startup:
        pytest.skip("a role cannot be chosen so")
    marked = word()
    sql = f"{setting.sql} /* {marked} */"
    expected = _expected(peers, setting, sql, at_startup)
    rng = random.Random(name)
    with ExitStack() as running:
        clients = [
            (value, running.enter_context(opened(peers.cached, setting, value, at_startup)))
            for value in itertools.chain(setting.values, setting.values)
        ]
        deadline = time.monotonic() + KEPT_S
        for number in itertools.count():
            before = peers.served.times(marked)
            for value, client in rng.sample(clients, len(clients)):
                assert told(ask(client, sql)) == told(expected[value]), f"{setting.name} = {value}"
            if number >= ROUNDS and (peers.served.times(marked) == before) is setting.kept:
                break
            assert time.monotonic() < deadline, (setting.kept, peers.said_of_cache())
            time.sleep(PAUSE_S)


def _expected(peers: Peers, setting: Setting, sql: str, at_startup: bool = False) -> dict[str, bytes]:
    expected = {}
    for value in setting.values:
        with opened(peers.direct, setting, value, at_startup) as client:
            expected[value] = ask(client, sql)
    assert len(set(expected.values())) == len(setting.values), "the setting makes no difference"
    return expected


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_change_in_a_session(peers: Peers, name: str) -> None:
    setting = SETTINGS[name]
    sql = f"{setting.sql} /* {word()} */"
    expected = _expected(peers, setting, sql)
    first, second = setting.values[:2]
    with ByteClient(peers.direct) as client:
        by_default = ask(client, sql)
    reset = f"RESET {setting.name}"
    with ByteClient(peers.cached) as client:
        for statement, value in _changes(setting, first, second):
            client.settle(statement)
            assert told(ask(client, sql)) == told(expected[value]), statement
        for statement in (reset, setting.set_to(second), "RESET ALL", setting.set_to(first), "DISCARD ALL"):
            client.settle(statement)
            changed = next((value for value in (first, second) if statement == setting.set_to(value)), None)
            # A role is no setting to RESET ALL.
            kept = second if statement == "RESET ALL" and setting.name == "role" else changed
            assert told(ask(client, sql)) == told(expected[kept] if kept else by_default), statement


def _changes(setting: Setting, first: str, second: str) -> Sequence[tuple[str, str]]:
    by_function = f"SELECT set_config('{setting.name}', '{first.strip(chr(39))}', false)"
    return (
        (setting.set_to(first), first),
        (setting.set_to(second), second),
        (setting.set_to(first), first),
        (f"BEGIN; {setting.set_to(second)}; ROLLBACK", first),
        (f"BEGIN; SET LOCAL {setting.name} TO {second}; COMMIT", first),
        (f"BEGIN; {setting.set_to(second)}; COMMIT", second),
        (by_function, first),
        (f"SET SESSION {setting.name} TO {second}", second),
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_within_a_transaction(peers: Peers, name: str) -> None:
    setting = SETTINGS[name]
    sql = f"{setting.sql} /* {word()} */"
    first, second = setting.values[:2]

    def conversation(address: Address) -> list[tuple[str, bytes]]:
        with ByteClient(address) as client:
            client.settle(setting.set_to(first))
            answers = ask(client, sql) * 2
            for begins in ("BEGIN READ ONLY", "BEGIN"):
                client.settle(f"{begins}; SET LOCAL {setting.name} TO {second}")
                answers += ask(client, sql) + ask(client, sql)
                client.settle("COMMIT")
                answers += ask(client, sql)
        return told(answers)

    assert conversation(peers.cached) == conversation(peers.direct)


def test_who_may_not_read_gets_no_answer(peers: Peers) -> None:
    sql = f"SELECT n FROM identity_secret /* {word()} */"
    with ByteClient(peers.cached) as reader, ByteClient(peers.cached) as nobody, ByteClient(peers.direct) as direct:
        reader.settle("SET ROLE identity_one")
        nobody.settle("SET ROLE identity_nobody")
        direct.settle("SET ROLE identity_nobody")
        found, denied = ask(reader, sql), ask(direct, sql)
        assert b"42501" in denied
        for _ in range(3):
            assert ask(reader, sql) == found
            assert told(ask(nobody, sql)) == told(denied)


@pytest.mark.parametrize("changer", ["through Pointsman", "the same session"])
def test_who_may_no_longer_read_gets_no_answer(peers: Peers, changer: str) -> None:
    sql = f"SELECT n FROM identity_secret /* {word()} */"
    with ByteClient(peers.cached) as reader, ByteClient(peers.cached) as other:
        owner = other if changer == "through Pointsman" else reader
        reader.settle("SET ROLE identity_two")
        found = ask(reader, sql)
        assert ask(reader, sql) == found
        for statement, allowed in (("REVOKE", False), ("GRANT", True)):
            if owner is reader:
                reader.settle("RESET ROLE")
            direction = "FROM" if statement == "REVOKE" else "TO"
            owner.settle(f"{statement} SELECT ON identity_secret {direction} identity_two")
            reader.settle("SET ROLE identity_two")
            for _ in range(2):
                assert (ask(reader, sql) == found) is allowed, statement


def test_names_that_are_shown_are_those_of_now(peers: Peers) -> None:
    """The text of a regclass is its table's name, though nothing in the table that was read has changed."""
    peers.cluster.query("CREATE TABLE identity_before (n int)", user=peers.cluster.user)
    with ByteClient(peers.cached) as client, ByteClient(peers.direct) as direct:
        client.settle("CREATE TABLE identity_names (who regclass)")
        client.settle("INSERT INTO identity_names VALUES ('identity_before')")
        sql = f"SELECT who FROM identity_names /* {word()} */"
        for statement in ("SELECT 1", "ALTER TABLE identity_before RENAME TO identity_after"):
            assert not client.exchange(Query(statement.encode()).encode()).startswith(b"E")
            peers.cluster.wait_for_replay()
            expected = ask(direct, sql)
            assert told(ask(client, sql)) == told(expected)
            assert told(ask(client, sql)) == told(expected)
        client.settle("DROP TABLE identity_names, identity_after")
