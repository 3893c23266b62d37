"""Conversations to be held with PostgreSQL and with Pointsman: what a frontend sends, and how much it waits for.

Each runs on a connection of its own. Outside a transaction a read may go to a standby, so nothing is read there that
the scenario has written. The tables are SET_UP's and hold the same whenever a scenario begins, but for diff_copy,
which nobody reads.
"""

from typing import Final

import msgspec

from middleware.wire.backend import (
    BindComplete,
    CommandComplete,
    CopyInResponse,
    ErrorResponse,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
)
from middleware.wire.fields import Message
from middleware.wire.frontend import (
    PORTAL,
    STATEMENT,
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Parse,
    Query,
    Sync,
    Terminate,
)

SET_UP: Final = """
DROP TABLE IF EXISTS diff_rows, diff_copy, diff_plan;
CREATE TABLE diff_rows (n int PRIMARY KEY, word text);
INSERT INTO diff_rows SELECT n, 'word ' || n FROM generate_series(1, 9) n;
CREATE TABLE diff_copy (n int, word text);
CREATE TABLE diff_plan (n int);
"""

INT4: Final = 23
FLUSH: Final = Flush()
SYNC: Final = Sync()


class Step(msgspec.Struct, frozen=True):
    """Send, then read up to the `number`-th message of a kind, or until the peer closes."""

    send: bytes
    number: int = 1
    kind: type[Message] = ReadyForQuery
    half_close: bool = False


class Scenario(msgspec.Struct, frozen=True):
    name: str
    steps: tuple[Step, ...]
    difference: str = ""
    """Why the last step's answers may differ, but for how they end; empty where they may not."""


def encoded(*messages: Message | bytes) -> bytes:
    return b"".join(message if isinstance(message, bytes) else message.encode() for message in messages)


def say(*messages: Message | bytes, number: int = 1, kind: type[Message] = ReadyForQuery) -> Step:
    return Step(encoded(*messages), number, kind)


def query(text: str) -> Query:
    return Query(text.encode())


def parse(text: str, name: bytes = b"", *types: int) -> Parse:
    return Parse(name, text.encode(), types)


def run(text: str) -> tuple[Message, ...]:
    """A statement by the extended protocol, without its Sync."""
    return parse(text), Bind(), Execute()


def asked(text: str, number: int = 1) -> Step:
    return say(query(text), number=number)


SIMPLE: Final = [
    Scenario("empty query", (asked(""), asked("  ;; -- nothing"), asked("select 1"))),
    Scenario("several statements", (asked("select 1; select 'a', null; ; select 2 where false"),)),
    Scenario("error in the middle of a string", (asked("select 1; select 1/0; select 2"), asked("select 3"))),
    Scenario("syntax error", (asked("selec 1"), asked("select 'ü', x from y"), asked("select 1"))),
    Scenario(
        "notices",
        (
            asked("do $$ begin raise notice 'one'; raise warning 'two'; raise info 'three'; end $$"),
            asked("begin; drop table if exists diff_missing; rollback"),
        ),
    ),
    Scenario("long text", (asked("select length('" + "x" * 300_000 + "')"), asked("select 1"))),
    Scenario("queries ahead of their answers", (say(*[query(f"select {n}") for n in range(50)], number=50),)),
    Scenario("large rows", (asked("select repeat('x', 1000000) from generate_series(1, 3)"), asked("select 1"))),
    Scenario("many rows", (asked("select n, 'row' from generate_series(1, 200000) n"),)),
    Scenario(
        "a transaction",
        (
            asked("begin"),
            asked("insert into diff_rows values (100, 'new') returning *"),
            asked("select count(*) from diff_rows"),
            asked("savepoint s"),
            asked("insert into diff_rows values (1, 'again')"),
            asked("select 1"),
            asked("rollback to s"),
            asked("select count(*) from diff_rows"),
            asked("select 1/0"),
            asked("commit"),
            asked("select 1"),
        ),
    ),
    Scenario("warnings of transaction commands", (asked("commit"), asked("rollback"), asked("begin; begin; commit"))),
    Scenario(
        "parameter status in a transaction",
        (
            asked("begin"),
            asked("set local application_name = 'inner'"),
            asked("set local timezone = 'CET'; set local datestyle = 'German'"),
            asked("show timezone"),
            asked("rollback"),
            asked("begin; set local intervalstyle = 'iso_8601'; commit"),
        ),
    ),
]

BUG: Final = "PostgreSQL fails the statement behind that Sync: unexpected state STARTED; here another server runs it"

PLAIN: Final = [
    Scenario("one statement", (say(*run("select 1"), SYNC),)),
    Scenario(
        "text and binary",
        (
            say(
                parse("select $1::int4, $2::text, null::int8", b"", INT4),
                Bind(b"", b"", (1, 0), (b"\0\0\0\x07", b"seven"), (1, 0, 0)),
                Describe(PORTAL),
                Execute(),
                Bind(b"", b"", (), (b"8", None), (1,)),
                Execute(),
                SYNC,
            ),
        ),
    ),
    Scenario(
        "parameter of a megabyte",
        (say(parse("select length($1)"), Bind(parameters=(b"y" * 1_000_000,)), Execute(), SYNC),),
    ),
    Scenario("empty text", (say(*run(""), SYNC), say(*run("-- nothing"), SYNC))),
    Scenario(
        "describe both",
        (
            say(
                parse("select $1::int, 'x'", b"", 0),
                Describe(STATEMENT),
                Bind(parameters=(b"1",)),
                Describe(PORTAL),
                SYNC,
            ),
        ),
    ),
    Scenario(
        "describe what gives no rows",
        (say(parse("set local work_mem = '1MB'"), Describe(STATEMENT), Bind(), Describe(PORTAL), SYNC),),
    ),
    Scenario(
        "several Syncs", (say(*run("select 1"), SYNC, *run("select 2"), SYNC, SYNC, *run("select 3"), SYNC, number=4),)
    ),
    Scenario("Sync alone", (say(SYNC), say(SYNC, SYNC, SYNC, number=3))),
    Scenario(
        "errors in a pipeline",
        (
            say(*run("select 1"), *run("select 1/0"), *run("select 2"), SYNC, *run("select 3"), SYNC, number=2),
            say(*run("x"), SYNC, *run("y"), SYNC, number=2),
        ),
    ),
    Scenario(
        "Parse fails, then Bind",
        (say(parse("selec"), Bind(), Describe(PORTAL), Execute(), SYNC), say(Bind(), Execute(), SYNC)),
    ),
    Scenario(
        "unknown statement",
        (
            say(Bind(b"", b"nope"), SYNC),
            say(Describe(STATEMENT, b"nope"), SYNC),
            say(Bind(), SYNC),
            say(Describe(STATEMENT), SYNC),
        ),
    ),
    Scenario(
        "unknown portal", (say(Execute(b"nope"), SYNC), say(Describe(PORTAL, b"nope"), SYNC), say(Execute(), SYNC))
    ),
    Scenario(
        "too few parameters",
        (say(parse("select $1::int"), Bind(), SYNC), say(parse("select 1"), Bind(parameters=(b"1",)), SYNC)),
    ),
    Scenario("Parse of several statements", (say(parse("select 1; select 2"), SYNC),)),
    Scenario(
        "unnamed used after Sync",
        (say(parse("select 5"), SYNC), say(Bind(), Execute(), SYNC), say(Bind(), Execute(), SYNC)),
    ),
    Scenario(
        "unnamed replaced after use",
        (
            say(parse("select 5"), SYNC),
            say(Bind(), Execute(), parse("select 6"), Bind(), Execute(), SYNC),
            say(Bind(), Execute(), SYNC),
        ),
    ),
    Scenario("unnamed ended by a Query", (say(parse("select 5"), SYNC), asked("select 6"), say(Bind(), SYNC))),
    Scenario("unnamed closed", (say(parse("select 5"), SYNC), say(Close(STATEMENT), SYNC), say(Bind(), SYNC))),
    Scenario(
        "unnamed outlives a transaction",
        (asked("begin"), say(parse("select 5"), SYNC), say(Bind(), Execute(), SYNC), say(*run("rollback"), SYNC)),
    ),
    Scenario(
        "Query before Sync", (say(*run("select 1"), query("select 2"), number=1), say(SYNC), asked("select 3")), BUG
    ),
    Scenario("Query before Sync after an error", (say(*run("select 1/0"), query("select 2"), SYNC), asked("select 3"))),
    Scenario(
        "Flush everywhere",
        (
            say(FLUSH, parse("select 1"), FLUSH, kind=ParseComplete),
            say(FLUSH, Bind(), FLUSH, FLUSH, kind=BindComplete),
            say(Describe(PORTAL), FLUSH, kind=RowDescription),
            say(Execute(), FLUSH, kind=CommandComplete),
            say(FLUSH, SYNC),
            say(FLUSH, query("select 2")),
            say(FLUSH, SYNC),
        ),
    ),
    Scenario(
        "Flush, an error, a Query, then Sync",
        (say(Execute(b"nope"), FLUSH, kind=ErrorResponse), say(query("select 1"), FLUSH, SYNC), asked("select 2")),
    ),
    Scenario(
        "an error, Flush, more, then Sync",
        (say(*run("select 1/0"), FLUSH, kind=ErrorResponse), say(*run("select 1"), SYNC)),
    ),
    Scenario(
        "rows in portions",
        (
            asked("begin"),
            say(
                parse("select n from generate_series(1, 5) n"),
                Bind(b"p"),
                Execute(b"p", 2),
                FLUSH,
                kind=PortalSuspended,
            ),
            say(Execute(b"p", 2), FLUSH, kind=PortalSuspended),
            say(Execute(b"p", 2), FLUSH, kind=CommandComplete),
            say(Execute(b"p", 2), SYNC),
            say(query("commit")),
        ),
    ),
    Scenario(
        "a portal over Sync in a transaction",
        (
            asked("begin"),
            say(parse("select n from generate_series(1, 5) n"), Bind(b"p"), Execute(b"p", 2), SYNC),
            say(Execute(b"p"), SYNC),
            say(Close(PORTAL, b"p"), Execute(b"p"), SYNC),
            asked("rollback"),
        ),
    ),
    Scenario(
        "a portal lost at Sync outside one",
        (
            say(parse("select n from generate_series(1, 5) n"), Bind(b"p"), Execute(b"p", 2), SYNC),
            say(Execute(b"p", 2), SYNC),
        ),
    ),
    Scenario(
        "a portal's name twice",
        (
            say(parse("select 1"), Bind(b"p"), Bind(b"p"), SYNC),
            say(parse("select 1"), Bind(b"p"), Close(PORTAL, b"p"), Bind(b"p"), Execute(b"p"), SYNC),
        ),
    ),
    Scenario("Close of what is not there", (say(Close(PORTAL, b"no"), Close(STATEMENT, b"no"), Close(PORTAL), SYNC),)),
    Scenario(
        "a failed transaction",
        (
            asked("begin"),
            say(*run("select 1/0"), SYNC),
            say(*run("select 1"), SYNC),
            say(parse("rollback"), Bind(), Execute(), SYNC),
            say(*run("select 1"), SYNC),
        ),
    ),
    Scenario(
        "a transaction in one batch",
        (
            say(
                *run("begin"),
                *run("insert into diff_rows values (50, 'x')"),
                *run("select count(*) from diff_rows"),
                *run("rollback"),
                SYNC,
            ),
        ),
    ),
    Scenario(
        "implicit transactions of a batch",
        (
            say(
                *run("insert into diff_rows values (51, 'x')"),
                *run("select count(*) from diff_rows"),
                *run("select 1/0"),
                SYNC,
            ),
        ),
    ),
]

NAMED: Final = [
    Scenario(
        "prepared and used",
        (
            say(parse("select $1::int + 1", b"s"), Describe(STATEMENT, b"s"), SYNC),
            say(Bind(b"", b"s", (), (b"1",)), Execute(), SYNC),
            say(Bind(b"", b"s", (), (b"2",)), Describe(PORTAL), Execute(), SYNC),
        ),
    ),
    Scenario(
        "a name twice",
        (say(parse("select 1", b"s"), SYNC), say(parse("select 2", b"s"), SYNC), say(Bind(b"", b"s"), Execute(), SYNC)),
    ),
    Scenario(
        "a name twice in one batch",
        (say(parse("select 1", b"s"), parse("select 2", b"s"), SYNC), say(Bind(b"", b"s"), SYNC)),
    ),
    Scenario(
        "a Parse skipped",
        (
            say(
                Execute(b"nope"),
                parse("select 1", b"s"),
                SYNC,
                parse("select 2", b"s"),
                Bind(b"", b"s"),
                Execute(),
                SYNC,
                number=2,
            ),
            say(Bind(b"", b"s"), Execute(), SYNC),
        ),
    ),
    Scenario(
        "a Parse that fails, used ahead of its answer",
        (say(parse("selec 1", b"s"), SYNC, Bind(b"", b"s"), Execute(), SYNC, number=2),),
    ),
    Scenario(
        "closed and gone",
        (say(parse("select 1", b"s"), SYNC), say(Close(STATEMENT, b"s"), SYNC), say(Bind(b"", b"s"), SYNC)),
    ),
    Scenario(
        "closed and prepared anew",
        (
            say(parse("select 1", b"s"), SYNC),
            say(Close(STATEMENT, b"s"), parse("select 2", b"s"), Bind(b"", b"s"), Execute(), SYNC),
        ),
    ),
    Scenario(
        "a Close skipped",
        (
            say(parse("select 1", b"s"), SYNC),
            say(Execute(b"nope"), Close(STATEMENT, b"s"), SYNC),
            say(Bind(b"", b"s"), Execute(), SYNC),
        ),
    ),
    Scenario(
        "over transactions and rollback",
        (
            asked("begin"),
            say(parse("select 7", b"s"), SYNC),
            asked("rollback"),
            say(Bind(b"", b"s"), Execute(), SYNC),
            asked("begin"),
            asked("select 1/0"),
            say(Bind(b"", b"s"), SYNC),
            asked("rollback"),
            say(Bind(b"", b"s"), Execute(), SYNC),
        ),
    ),
    Scenario(
        "over simple queries",
        (say(parse("select 7", b"s"), SYNC), asked("select 1"), say(Bind(b"", b"s"), Execute(), SYNC)),
    ),
    Scenario(
        "writes and reads by name",
        (
            say(parse("insert into diff_copy values ($1::int)", b"w"), parse("select 1", b"r"), SYNC),
            say(Bind(b"", b"r"), Execute(), SYNC),
            say(Bind(b"", b"w", (), (b"1",)), Execute(), SYNC),
            say(Bind(b"", b"r"), Execute(), SYNC),
        ),
    ),
    Scenario(
        "many names",
        tuple(say(parse(f"select {n}", b"s%d" % n), Bind(b"", b"s%d" % n), Execute(), SYNC) for n in range(30)),
    ),
    Scenario(
        "result type changed under a plan",
        (
            asked("begin; alter table diff_plan add column word text; rollback"),
            asked("begin"),
            say(parse("select * from diff_plan", b"s"), Bind(b"", b"s"), Execute(), SYNC),
            asked("alter table diff_plan add column word text"),
            say(Bind(b"", b"s"), Execute(), SYNC),
            asked("rollback"),
        ),
    ),
]

COPY: Final = "copy diff_copy from stdin"
ROW: Final = CopyData(b"1\tone\n")

COPIES: Final = [
    Scenario("copy in", (say(query(COPY), kind=CopyInResponse), say(ROW, ROW, CopyDone()), asked("select 1"))),
    Scenario("copy in without rows", (say(query(COPY), kind=CopyInResponse), say(CopyDone()))),
    Scenario("copy in, pipelined behind its Query", (say(query(COPY), ROW, CopyDone(), query("select 1"), number=2),)),
    Scenario(
        "copy in that fails",
        (say(query(COPY), kind=CopyInResponse), say(ROW, CopyFail(b"had enough")), asked("select 1")),
    ),
    Scenario(
        "copy in with wrong data",
        (say(query(COPY), kind=CopyInResponse), say(CopyData(b"not\ta\tnumber\n"), CopyDone()), asked("select 1")),
    ),
    Scenario(
        "copy in with wrong data, far from its end",
        (
            say(query(COPY), kind=CopyInResponse),
            say(CopyData(b"bad\n"), kind=ErrorResponse),
            say(ROW, ROW, CopyDone(), query("select 1"), number=2),
        ),
    ),
    Scenario(
        "Flush and Sync during copy in",
        (say(query(COPY), kind=CopyInResponse), say(ROW, FLUSH, SYNC, ROW, SYNC, CopyDone()), asked("select 1")),
    ),
    Scenario(
        "a Query during copy in",
        (say(query(COPY), kind=CopyInResponse), say(ROW, query("select 1")), asked("select 2")),
    ),
    Scenario("a Parse during copy in", (say(query(COPY), kind=CopyInResponse), say(ROW, parse("select 1")), say(SYNC))),
    Scenario(
        "two copies in one string",
        (
            say(query(f"{COPY}; {COPY}"), kind=CopyInResponse),
            say(ROW, CopyDone(), kind=CopyInResponse),
            say(ROW, CopyDone()),
            asked("select 1"),
        ),
    ),
    Scenario(
        "copy in between statements",
        (say(query(f"select 1; {COPY}; select 2"), kind=CopyInResponse), say(ROW, CopyDone())),
    ),
    Scenario(
        "a Query right behind one that copies", (say(query(COPY), query("select 1"), query("select 2"), number=2),)
    ),
    Scenario(
        "copy that is refused",
        (say(query("copy diff_missing from stdin"), ROW, CopyDone(), query("select 1"), number=2),),
    ),
    Scenario(
        "copy in a transaction",
        (
            asked("begin"),
            say(query(COPY), kind=CopyInResponse),
            say(CopyFail(b"no")),
            asked("select 1"),
            asked("rollback"),
        ),
    ),
    Scenario(
        "extended copy in", (say(*run(COPY), FLUSH, kind=CopyInResponse), say(ROW, CopyDone(), SYNC), asked("select 1"))
    ),
    Scenario(
        "extended copy in, with its Sync",
        (say(*run(COPY), SYNC, kind=CopyInResponse), say(ROW, CopyDone(), SYNC), asked("select 1")),
    ),
    Scenario(
        "extended copy in that fails",
        (
            say(*run(COPY), FLUSH, kind=CopyInResponse),
            say(ROW, CopyFail(b"no"), kind=ErrorResponse),
            say(*run("select 1"), SYNC),
            asked("select 1"),
        ),
    ),
    Scenario(
        "extended copy in with wrong data",
        (
            say(*run(COPY), FLUSH, kind=CopyInResponse),
            say(CopyData(b"bad\n"), CopyDone(), *run("select 1"), SYNC),
            asked("select 1"),
        ),
    ),
    Scenario(
        "a Bind during extended copy in",
        (say(*run(COPY), FLUSH, kind=CopyInResponse), say(ROW, Bind(), SYNC), asked("select 1")),
    ),
    Scenario("copy data without a copy", (say(ROW, CopyDone(), CopyFail(b"x"), query("select 1")), asked("select 2"))),
    Scenario(
        "copy out",
        (
            asked("copy (select n, word from diff_rows order by n) to stdout"),
            asked("copy (select 1) to stdout (format binary)"),
            say(*run("copy (select 1) to stdout"), SYNC),
        ),
    ),
    Scenario(
        "copy out with an error",
        (asked("copy (select 1/(3-n) from generate_series(1, 5) n) to stdout"), asked("select 1")),
    ),
    Scenario("copy out of much", (asked("copy (select repeat('z', 1000) from generate_series(1, 5000)) to stdout"),)),
]

INT4_ABS: Final = 1251

FUNCTIONS: Final = [
    Scenario(
        "function call",
        (
            say(FunctionCall(INT4_ABS, (1,), (b"\xff\xff\xff\xf9",), 1)),
            say(FunctionCall(INT4_ABS, (), (b"-7",))),
            asked("select 1"),
        ),
    ),
    Scenario("function call with null", (say(FunctionCall(INT4_ABS, (), (None,))),)),
    Scenario(
        "function call that fails",
        (
            say(FunctionCall(INT4_ABS, (), (b"x",))),
            say(FunctionCall(1)),
            say(FunctionCall(INT4_ABS)),
            asked("select 1"),
        ),
    ),
    Scenario(
        "function call in a failed transaction",
        (asked("begin"), asked("select 1/0"), say(FunctionCall(INT4_ABS, (), (b"-7",))), asked("rollback")),
    ),
]

WORDS: Final = "a violation of the protocol is told in Pointsman's words, and always closes the connection"
GONE: Final = "nobody is told of the COPY's end: its client has said goodbye"

ENDINGS: Final = [
    Scenario("Terminate", (asked("select 1"), say(Terminate()))),
    Scenario("Terminate in a transaction", (asked("begin"), say(query("select 1"), Terminate(), number=2))),
    Scenario("Terminate in a batch", (say(*run("select 1"), FLUSH, kind=CommandComplete), say(Terminate()))),
    Scenario("Terminate during copy in", (say(query(COPY), kind=CopyInResponse), say(ROW, Terminate())), GONE),
    Scenario("half-close", (asked("select 1"), Step(b"", half_close=True))),
    Scenario("half-close in a transaction", (asked("begin"), Step(b"", half_close=True))),
    Scenario("half-close behind a query", (Step(query("select 1").encode(), 2, half_close=True),)),
    Scenario("half-close in a message", (Step(b"Q\0\0\0\x20select", half_close=True),), WORDS),
    Scenario("unknown message type", (asked("select 1"), say(b"y\0\0\0\x04")), WORDS),
    Scenario("length too short", (asked("select 1"), say(b"Q\0\0\0\x03")), WORDS),
    Scenario("length too long", (asked("select 1"), say(b"S\x7f\xff\xff\xff")), WORDS),
    Scenario("malformed Describe", (say(b"D\0\0\0\x06X\0", SYNC),), WORDS),
]

SCENARIOS: Final = [*SIMPLE, *PLAIN, *NAMED, *COPIES, *FUNCTIONS, *ENDINGS]
