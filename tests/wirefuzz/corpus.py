"""Sessions as drivers and tools hold them, message by message: what a stream is before it is mutated.

The differential tests' conversations with PostgreSQL are among them; the others are what psycopg, asyncpg, libpq's
large objects, pgbench and JDBC send, taken down from their traffic and built here by the project's own messages.
"""

from typing import Final, NamedTuple

from middleware.wire.fields import Message
from middleware.wire.frontend import (
    PORTAL,
    STATEMENT,
    Bind,
    CancelRequest,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    GSSENCRequest,
    Parse,
    PasswordMessage,
    Query,
    SASLInitialResponse,
    SASLResponse,
    SSLRequest,
    StartupMessage,
    Sync,
    Terminate,
)
from tests.differential.scenarios import SCENARIOS

USER: Final = "trusty"
"""Who needs no proof: its sessions are whole streams of bytes."""
DATABASE: Final = "app"
STEP_BYTES_MAX: Final = 20_000
"""Longer conversations are the differential tests' alone."""
PROTOCOL_3_2: Final = 196_610
PROTOCOL_2_0: Final = 131_072


class Session(NamedTuple):
    """What a client sends from its first byte on: the startup packets, then messages, each by itself."""

    name: str
    login: tuple[bytes, ...]
    messages: tuple[bytes, ...]


def startup(user: str = USER, database: str = DATABASE, protocol: int = 196_608, **settings: str) -> bytes:
    """A startup message."""
    words = {"user": user, "database": database, **settings}
    return StartupMessage(tuple((name.encode(), text.encode()) for name, text in words.items()), protocol).encode()


def split(stream: bytes) -> list[bytes]:
    """A stream of whole messages, cut between them; what is not whole is the last piece."""
    pieces, position = [], 0
    while position < len(stream):
        end = position + 1 + int.from_bytes(stream[position + 1 : position + 5], "big")
        end = max(position + 5, min(end, len(stream)))
        pieces.append(stream[position:end])
        position = end
    return pieces


def _messages(*messages: Message | str) -> tuple[bytes, ...]:
    return tuple((Query(one.encode()) if isinstance(one, str) else one).encode() for one in messages)


def _run(text: str, name: bytes = b"", *parameters: bytes | None) -> tuple[Message, ...]:
    return Parse(name, text.encode()), Bind(b"", name, (), parameters), Describe(PORTAL), Execute()


def _again(name: bytes, *parameters: bytes | None) -> tuple[Message, ...]:
    return Bind(b"", name, (), parameters), Execute()


LO_CREATE: Final = 957
LO_OPEN: Final = 952
LO_WRITE: Final = 955
LO_READ: Final = 954
LO_CLOSE: Final = 953


def _int4(number: int) -> bytes:
    return number.to_bytes(4, "big")


_PLAIN: Final = (startup(),)

DRIVERS: Final = (
    Session(
        "psql",
        (SSLRequest().encode(), startup(application_name="psql", client_encoding="UTF8")),
        _messages("select 1;", "begin;", "select 'in it'", "insert into t values (1)", "commit", "show timezone")
        + _messages(Terminate()),
    ),
    Session(
        "psycopg pipeline",
        (GSSENCRequest().encode(), startup(options="-c statement_timeout=1000 -c DateStyle=German")),
        _messages(
            *_run("BEGIN"),
            *_run("select $1", b"_pg3_0", b"x"),
            *_run("insert into t values ($1)", b"_pg3_1", b"7"),
            Sync(),
            *_again(b"_pg3_0", b"y"),
            *_again(b"_pg3_1", None),
            *_run("COMMIT"),
            Sync(),
            Close(STATEMENT, b"_pg3_0"),
            Sync(),
            Terminate(),
        ),
    ),
    Session(
        "asyncpg",
        (startup(client_encoding="'utf-8'", application_name="asyncpg"),),
        _messages(
            Parse(b"__asyncpg_stmt_1__", b"select $1::text"),
            Describe(STATEMENT, b"__asyncpg_stmt_1__"),
            Flush(),
            Bind(b"", b"__asyncpg_stmt_1__", (1,), (b"x",), (1,)),
            Execute(),
            Sync(),
            "BEGIN;",
            Bind(b"__asyncpg_portal_1__", b"__asyncpg_stmt_1__", (1,), (b"z",), (1,)),
            Execute(b"__asyncpg_portal_1__", 1),
            Flush(),
            Execute(b"__asyncpg_portal_1__", 1),
            Sync(),
            "ROLLBACK;",
            "SELECT pg_advisory_unlock_all();",
            "CLOSE ALL;",
            "UNLISTEN *;",
            "RESET ALL;",
            Close(STATEMENT, b"__asyncpg_stmt_1__"),
            Sync(),
            Terminate(),
        ),
    ),
    Session(
        "JDBC",
        (startup(protocol=196_608, extra_float_digits="3", TimeZone="Europe/Berlin"),),
        _messages(
            *_run("SET application_name = 'PostgreSQL JDBC Driver'"),
            Sync(),
            Parse(b"S_1", b"select n from generate_series(1, 20) n"),
            Bind(b"C_1", b"S_1"),
            Describe(PORTAL, b"C_1"),
            Execute(b"C_1", 5),
            Sync(),
            Parse(b"S_2", b"BEGIN"),
            Bind(b"", b"S_2"),
            Execute(b"", 1),
            Bind(b"C_2", b"S_1"),
            Execute(b"C_2", 5),
            Sync(),
            Execute(b"C_2", 5),
            Sync(),
            Close(PORTAL, b"C_2"),
            Bind(b"", b"S_2"),
            Execute(b"", 1),
            Sync(),
            *_run("COMMIT"),
            Sync(),
        ),
    ),
    Session(
        "pgbench prepared",
        _PLAIN,
        _messages(
            Parse(b"P0_1", b"SELECT abalance FROM t WHERE aid = $1"),
            Sync(),
            *(one for n in range(5) for one in (*_again(b"P0_1", b"%d" % n), Sync())),
            Terminate(),
        ),
    ),
    Session(
        "pgbench extended",
        _PLAIN,
        _messages(*(one for n in range(4) for one in (*_run("SELECT $1", b"", b"%d" % n), Sync())), Terminate()),
    ),
    Session(
        "pgbench simple",
        _PLAIN,
        _messages(
            *(
                one
                for n in range(2)
                for one in ("BEGIN;", f"UPDATE t SET n = {n};", f"SELECT {n};", "INSERT INTO t VALUES (2);", "END;")
            ),
            Terminate(),
        ),
    ),
    Session(
        "pgbench pipelined",
        _PLAIN,
        _messages(*_run("BEGIN"), *_run("UPDATE t SET n = 1"), *_run("SELECT 2"), *_run("END"), Sync(), Sync()),
    ),
    Session(
        "large objects",
        (startup(protocol=PROTOCOL_3_2),),
        _messages(
            "begin",
            FunctionCall(LO_CREATE, (1,), (_int4(131072),), 1),
            FunctionCall(LO_OPEN, (1, 1), (_int4(1), _int4(131072)), 1),
            FunctionCall(LO_WRITE, (1, 1), (_int4(0), b"data" * 100), 1),
            FunctionCall(LO_READ, (1, 1), (_int4(0), _int4(100)), 1),
            FunctionCall(LO_CLOSE, (1,), (_int4(0),), 1),
            "commit",
        ),
    ),
    Session(
        "COPY in",
        _PLAIN,
        _messages("copy t from stdin", *(CopyData(b"%d\tx\n" % n) for n in range(6)), CopyDone(), "select 1")
        + _messages("copy t from stdin", CopyData(b"1\tx\n"), CopyFail(b"no more"), "select 2"),
    ),
    Session(
        "COPY in by the extended protocol",
        _PLAIN,
        _messages(*_run("copy t from stdin"), CopyData(b"1\n"), CopyData(b"2\n"), CopyDone(), Sync(), "select 1"),
    ),
    Session("COPY out", _PLAIN, _messages("copy t to stdout", "select 1", *_run("copy t to stdout"), Sync())),
    Session(
        "settings",
        (startup(application_name="own", options="-c search_path=a,b"),),
        _messages(
            "set timezone to 'CET'",
            "show timezone",
            "begin; set local datestyle = 'German'",
            "show datestyle",
            "commit",
            "show datestyle",
            "set fuzz.who = 'me'",
            "select set_config('fuzz.other', 'them', false)",
            "begin",
            "set timezone to 'Asia/Tokyo'",
            "rollback",
            "show timezone",
            "reset all",
            "show application_name",
            "set timezone to 'wrong'",
            "discard all",
        ),
    ),
    Session(
        "prepared in SQL",
        _PLAIN,
        _messages(
            "prepare p as select 'p'",
            "execute p",
            Bind(b"", b"p"),
            Execute(),
            Sync(),
            Parse(b"q", b"select 'q'"),
            Sync(),
            "execute q",
            "deallocate p",
            Bind(b"", b"p"),
            Sync(),
            "deallocate all",
            Bind(b"", b"q"),
            Sync(),
        ),
    ),
    Session(
        "state that pins",
        _PLAIN,
        _messages("listen a", "select 1", "create temp table x (n int)", "select 2", "select pg_advisory_lock(1)")
        + _messages("unlisten *", "discard all", "select 3"),
    ),
    Session("a statement that takes long", _PLAIN, _messages("select pg_sleep(5)", "select 1", Terminate())),
    Session("a settings the servers refuse", (startup(timezone="wrong"),), _messages("select 1")),
)


def _scenarios() -> tuple[Session, ...]:
    found = []
    for scenario in SCENARIOS:
        stream = b"".join(step.send for step in scenario.steps)
        if len(stream) <= STEP_BYTES_MAX:
            found.append(Session(scenario.name, _PLAIN, tuple(split(stream))))
    return tuple(found)


SESSIONS: Final = DRIVERS + _scenarios()

LOGINS: Final = (
    Session("no database", (StartupMessage(((b"user", USER.encode()),)).encode(),), _messages("select 1")),
    Session("protocol 3.2", (startup(protocol=PROTOCOL_3_2),), _messages("select 1")),
    Session("protocol 3.9 and an option", (startup(protocol=196_617, **{"_pq_.x": "1"}),), _messages("select 1")),
    Session("protocol 2.0", (startup(protocol=PROTOCOL_2_0),), ()),
    Session("protocol 4.0", (startup(protocol=262_144),), ()),
    Session("replication", (startup(replication="database"),), _messages("IDENTIFY_SYSTEM")),
    Session("physical replication", (startup(replication="true"),), _messages("IDENTIFY_SYSTEM")),
    Session("cancel", (CancelRequest(1, b"key!").encode(),), ()),
    Session("cancel with a long key", (CancelRequest(7, b"k" * 32).encode(),), ()),
    Session("cancel for another worker", (CancelRequest(0x0100_0001, b"key!").encode(),), ()),
    Session("TLS, then GSS", (SSLRequest().encode(), GSSENCRequest().encode(), startup()), _messages("select 1")),
    Session("TLS three times", (SSLRequest().encode(),) * 3 + (startup(),), _messages("select 1")),
    Session("TLS without waiting", (SSLRequest().encode() + startup(),), _messages("select 1")),
    Session("direct TLS", (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(196)),), ()),
    Session("HTTP", (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",), ()),
    Session("nobody", (startup("nobody"),), _messages(PasswordMessage(b"x"))),
    Session("clear text", (startup("plain"), PasswordMessage(b"plain").encode()), _messages("select 1")),
    Session("wrong clear text", (startup("plain"), PasswordMessage(b"other").encode()), _messages("select 1")),
    Session("md5", (startup("md5"), PasswordMessage(b"md5" + b"0" * 32).encode()), _messages("select 1")),
    Session(
        "SCRAM with a wrong proof",
        (
            startup("scram"),
            SASLInitialResponse(b"SCRAM-SHA-256", b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL").encode(),
            SASLResponse(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=" + b"A" * 43 + b"=").encode(),
        ),
        _messages("select 1"),
    ),
    Session(
        "SCRAM with channel binding",
        (
            startup("scram"),
            SASLInitialResponse(b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=abc").encode(),
        ),
        (),
    ),
    Session("SCRAM", (startup("scram"), b""), _messages("select 1", "show timezone")),
    Session(
        "settings of ours", (startup(options="-c pointsman.route=standby"),), _messages("select 1", "show timezone")
    ),
    Session("wrong settings of ours", (startup(options="-c pointsman.consistency=none"),), _messages("select 1")),
    Session("wrong options", (startup(options="--x -y"),), _messages("select 1")),
    Session("another database", (startup(database="other"),), _messages("select 1")),
)
"""Ways in. An empty packet stands for what only the server's challenge makes: the answers of a SCRAM exchange."""
