"""A client of the console and what it is answered, message by message; the supervisor's part is played here."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.admin.conversation import (
    BACKLOG_BYTES_MAX,
    PORTALS_MAX,
    STATEMENTS_MAX,
    Conversation,
    Order,
)
from middleware.admin.courtesies import Courtesies
from middleware.admin.table import Value
from middleware.control import ConsoleTold
from middleware.errors import ProtocolViolation
from middleware.wire.backend import (
    BindComplete,
    CloseComplete,
    CommandComplete,
    DataRow,
    EmptyQueryResponse,
    ErrorResponse,
    NoData,
    NoticeResponse,
    ParameterDescription,
    ParameterStatus,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
    decode_backend,
)
from middleware.wire.fields import Message
from middleware.wire.framing import Framer
from middleware.wire.frontend import (
    PORTAL,
    STATEMENT,
    Bind,
    Close,
    CopyData,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Parse,
    Query,
    Sync,
    Terminate,
)

IDLE, BLOCK, FAILED = ReadyForQuery(b"I"), ReadyForQuery(b"T"), ReadyForQuery(b"E")
TWO: tuple[tuple[Value, ...], ...] = (("active", "yes"), ("paused", "no"))


class Talk:
    """Both ends of a conversation."""

    def __init__(self) -> None:
        self.conversation = Conversation(Courtesies("app", "pointsman", 7, "0.1.0", {"application_name": "test"}))
        self.framer = Framer(1 << 30)

    def say(self, *messages: Message) -> list[Message]:
        """Send messages in one piece; what comes back."""
        self.conversation.receive(b"".join(message.encode() for message in messages))
        return self.heard()

    def heard(self) -> list[Message]:
        return [decode_backend(code, body) for code, body in self.framer.feed(self.conversation.take())]

    def orders(self) -> list[Order]:
        return self.conversation.orders()

    def tell(
        self, serial: int, rows: Sequence[tuple[Value, ...]] = (), *, last: bool = True, **more: object
    ) -> list[Message]:
        """A part of an answer; what the client hears then."""
        tag = more.pop("tag", "SHOW")
        told = ConsoleTold(7, serial, tuple(rows), last, tag, **more)  # type: ignore[arg-type]
        self.conversation.told(told)
        return self.heard()


@pytest.fixture
def talk() -> Talk:
    return Talk()


def kinds(messages: Sequence[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


def sqlstates(messages: Sequence[Message]) -> list[bytes]:
    return [message.field(b"C") for message in messages if isinstance(message, ErrorResponse)]


# Simple queries


def test_a_command_goes_up_and_its_rows_come_down(talk: Talk) -> None:
    assert talk.say(Query(b"SHOW STATE")) == []
    assert talk.orders() == [Order("ask", 1, "SHOW STATE")]
    described, *rest = talk.tell(1, TWO)
    assert isinstance(described, RowDescription)
    assert [column.name for column in described.columns] == [b"key", b"value"]
    assert rest == [DataRow((b"active", b"yes")), DataRow((b"paused", b"no")), CommandComplete(b"SHOW"), IDLE]


def test_a_table_without_rows_is_described_all_the_same(talk: Talk) -> None:
    talk.say(Query(b"SHOW PEERS"))
    assert kinds(talk.tell(1)) == ["RowDescription", "CommandComplete", "ReadyForQuery"]


def test_a_command_without_rows_has_its_tag_and_its_notices(talk: Talk) -> None:
    talk.say(Query(b"PAUSE"))
    heard = talk.tell(1, tag="PAUSE", notices=("worker 1 has not answered",))
    assert kinds(heard) == ["NoticeResponse", "CommandComplete", "ReadyForQuery"]
    assert isinstance(heard[0], NoticeResponse)
    assert heard[0].field(b"M") == b"worker 1 has not answered"
    assert heard[1] == CommandComplete(b"PAUSE")


def test_the_next_part_is_asked_for_when_one_was_sent(talk: Talk) -> None:
    talk.say(Query(b"SHOW STATE"))
    talk.orders()
    assert kinds(talk.tell(1, TWO[:1], last=False)) == ["RowDescription", "DataRow"]
    assert talk.orders() == [Order("more", 1)]
    assert kinds(talk.tell(1, TWO[1:])) == ["DataRow", "CommandComplete", "ReadyForQuery"]
    assert talk.orders() == []


def test_a_slow_reader_is_asked_no_more_for(talk: Talk) -> None:
    talk.say(Query(b"SHOW STATE"))
    talk.orders()
    talk.conversation.held_up = True
    assert talk.tell(1, TWO[:1], last=False) == []
    assert talk.orders() == []
    talk.conversation.go_on()
    assert kinds(talk.heard()) == ["RowDescription", "DataRow"]
    assert talk.orders() == [Order("more", 1)]


def test_notices_meanwhile_are_told_at_once(talk: Talk) -> None:
    talk.say(Query(b"PAUSE"))
    talk.orders()
    assert kinds(talk.tell(1, last=False, notices=("3 servers are still lent",))) == ["NoticeResponse"]
    assert talk.orders() == [Order("more", 1)]
    assert kinds(talk.tell(1, tag="PAUSE")) == ["CommandComplete", "ReadyForQuery"]


def test_several_statements_are_answered_in_turn(talk: Talk) -> None:
    talk.say(Query(b"SHOW STATE; SHOW PEERS; SHOW VERSION"))
    assert talk.orders() == [Order("ask", 1, "SHOW STATE")]
    assert kinds(talk.tell(1)) == ["RowDescription", "CommandComplete"]
    assert talk.orders() == [Order("ask", 2, "SHOW PEERS")]
    assert kinds(talk.tell(2)) == ["RowDescription", "CommandComplete"]
    assert talk.orders() == [Order("ask", 3, "SHOW VERSION")]
    assert kinds(talk.tell(3)) == ["RowDescription", "CommandComplete", "ReadyForQuery"]


def test_an_error_ends_a_query_of_several_statements(talk: Talk) -> None:
    talk.say(Query(b"PAUSE; SHOW STATE"))
    talk.orders()
    heard = talk.tell(1, error=("admin access needed", "", "", "42501"))
    assert kinds(heard) == ["ErrorResponse", "ReadyForQuery"]
    assert sqlstates(heard) == [b"42501"]
    assert talk.orders() == []


@pytest.mark.parametrize("text", [b"", b"  ", b";", b"-- nothing"])
def test_an_empty_query_is_answered_as_one(talk: Talk, text: bytes) -> None:
    assert talk.say(Query(text)) == [EmptyQueryResponse(), IDLE]


def test_what_is_no_command_is_refused_here(talk: Talk) -> None:
    heard = talk.say(Query(b"SHOW POOOLS"))
    assert sqlstates(heard) == [b"42601"]
    assert heard[-1] == IDLE
    assert talk.orders() == []


def test_text_that_is_not_utf8_is_refused(talk: Talk) -> None:
    assert sqlstates(talk.say(Query(b"PAUSE \xff"))) == [b"22021"]


# The extended protocol


def test_a_statement_is_described_before_it_is_executed(talk: Talk) -> None:
    heard = talk.say(Parse(b"s1", b"SHOW STATE"), Describe(STATEMENT, b"s1"), Flush())
    assert kinds(heard) == ["ParseComplete", "ParameterDescription", "RowDescription"]
    assert talk.orders() == []
    assert talk.say(Bind(b"", b"s1", result_formats=(1,)), Execute(b"", 0), Sync()) == [BindComplete()]
    assert talk.orders() == [Order("ask", 1, "SHOW STATE")]
    assert talk.tell(1, TWO[:1]) == [DataRow((b"active", b"yes")), CommandComplete(b"SHOW"), IDLE]


def test_a_portal_is_described_with_its_formats(talk: Talk) -> None:
    heard = talk.say(Parse(b"", b"SHOW REASONS"), Bind(result_formats=(0, 1, 1)), Describe(PORTAL, b""), Sync())
    assert kinds(heard) == ["ParseComplete", "BindComplete", "RowDescription", "ReadyForQuery"]
    assert isinstance(heard[2], RowDescription)
    assert [column.format for column in heard[2].columns] == [0, 1, 1]


def test_what_has_no_rows_says_so(talk: Talk) -> None:
    heard = talk.say(Parse(b"", b"PAUSE"), Describe(STATEMENT, b""), Bind(), Describe(PORTAL, b""), Sync())
    described = ParameterDescription()
    assert heard == [ParseComplete(), described, NoData(), BindComplete(), NoData(), IDLE]


def test_a_portal_gives_as_many_rows_as_are_wanted(talk: Talk) -> None:
    talk.say(Query(b"BEGIN"))
    assert talk.say(Parse(b"", b"SHOW STATE"), Bind(), Execute(b"", 1), Sync()) == [ParseComplete(), BindComplete()]
    assert talk.orders() == [Order("ask", 1, "SHOW STATE")]
    row = DataRow((b"active", b"yes"))
    assert talk.tell(1, TWO, last=False) == [row, PortalSuspended(), BLOCK]
    assert talk.orders() == []
    assert talk.say(Execute(b"", 5), Sync()) == [DataRow((b"paused", b"no"))]
    assert talk.orders() == [Order("more", 1)]
    assert talk.tell(1) == [CommandComplete(b"SHOW"), BLOCK]


def test_a_portal_ends_with_its_transaction_and_its_answer_is_not_waited_for(talk: Talk) -> None:
    talk.say(Parse(b"", b"SHOW STATE"), Bind(), Execute(b"", 1), Sync())
    talk.orders()
    assert talk.tell(1, TWO, last=False)[-1] == IDLE
    assert talk.orders() == [Order("gone", 1)]
    assert sqlstates(talk.say(Execute(b"", 1), Sync())) == [b"34000"]
    assert talk.tell(1, TWO) == []


def test_pipelined_statements_are_answered_one_after_the_other(talk: Talk) -> None:
    one = (Parse(b"", b"SHOW PEERS"), Bind(), Execute(b"", 0))
    assert talk.say(*one, *one, Sync()) == [ParseComplete(), BindComplete()]
    assert talk.orders() == [Order("ask", 1, "SHOW PEERS")]
    assert talk.tell(1) == [CommandComplete(b"SHOW"), ParseComplete(), BindComplete()]
    assert talk.orders() == [Order("ask", 2, "SHOW PEERS")]
    assert talk.tell(2) == [CommandComplete(b"SHOW"), IDLE]


def test_after_an_error_all_is_skipped_until_sync(talk: Talk) -> None:
    one = (Parse(b"", b"SHOW PEERS"), Bind(), Execute(b"", 0))
    heard = talk.say(Parse(b"", b"SHOW NOTHING"), *one, Describe(STATEMENT, b""), Sync(), *one, Sync())
    assert kinds(heard) == ["ErrorResponse", "ReadyForQuery", "ParseComplete", "BindComplete"]
    assert talk.orders() == [Order("ask", 1, "SHOW PEERS")]
    heard = talk.tell(1, error=("no", "", "", "55000"))
    assert kinds(heard) == ["ErrorResponse", "ReadyForQuery"]


def test_an_error_of_a_command_skips_what_was_sent_behind_it(talk: Talk) -> None:
    one = (Parse(b"", b"PAUSE"), Bind(), Execute(b"", 0))
    talk.say(*one, *one, Sync())
    talk.orders()
    assert kinds(talk.tell(1, error=("no", "", "", "55000"))) == ["ErrorResponse", "ReadyForQuery"]
    assert talk.orders() == []


def test_an_empty_statement_is_executed_as_one(talk: Talk) -> None:
    heard = talk.say(Parse(b"", b""), Describe(STATEMENT, b""), Bind(), Execute(b"", 0), Sync())
    assert heard == [ParseComplete(), ParameterDescription(), NoData(), BindComplete(), EmptyQueryResponse(), IDLE]


def test_statements_and_portals_are_closed(talk: Talk) -> None:
    talk.say(Parse(b"s", b"SHOW PEERS"), Bind(b"p", b"s"))
    heard = talk.say(Close(PORTAL, b"p"), Close(STATEMENT, b"s"), Close(STATEMENT, b"other"), Sync())
    assert heard == [CloseComplete()] * 3 + [IDLE]
    assert sqlstates(talk.say(Bind(b"", b"s"), Sync())) == [b"26000"]


@pytest.mark.parametrize(
    ("messages", "sqlstate"),
    [
        ([Parse(b"s", b"SHOW PEERS"), Parse(b"s", b"SHOW PEERS")], b"42P05"),
        ([Parse(b"", b"SHOW PEERS; PAUSE")], b"42601"),
        ([Parse(b"", b"PAUSE $1")], b"42601"),
        ([Bind(b"", b"nothing")], b"26000"),
        ([Describe(STATEMENT, b"nothing")], b"26000"),
        ([Describe(PORTAL, b"nothing")], b"34000"),
        ([Execute(b"nothing", 0)], b"34000"),
        ([Parse(b"", b"SHOW PEERS"), Bind(parameters=(b"1",))], b"08P01"),
        ([Parse(b"", b"SHOW PEERS"), Bind(result_formats=(0, 0))], b"08P01"),
        ([Parse(b"", b"SHOW PEERS"), Bind(result_formats=(2,))], b"22023"),
        ([Parse(b"", b"SHOW PEERS"), Bind(b"p"), Bind(b"p")], b"42P03"),
    ],
)
def test_mistakes_have_their_sqlstates(talk: Talk, messages: list[Message], sqlstate: bytes) -> None:
    heard = talk.say(*messages, Sync())
    assert sqlstates(heard) == [sqlstate]
    assert heard[-1] == IDLE


def test_parameters_of_what_drivers_ask_are_text_unless_they_say_otherwise(talk: Talk) -> None:
    asked = b"SELECT oid FROM pg_type WHERE typname = $2 AND oid = $1"
    heard = talk.say(Parse(b"", asked, (23,)), Describe(STATEMENT, b""), Sync())
    assert heard[1] == ParameterDescription((23, 25))


# Bounds


def test_statements_and_portals_have_a_bound(talk: Talk) -> None:
    heard = talk.say(*[Parse(b"s%d" % at, b"SHOW PEERS") for at in range(STATEMENTS_MAX + 1)], Sync())
    assert sqlstates(heard) == [b"54000"]
    heard = talk.say(*[Bind(b"p%d" % at, b"s1") for at in range(PORTALS_MAX + 1)], Sync())
    assert sqlstates(heard) == [b"54000"]


def test_a_message_beyond_the_bound_ends_it(talk: Talk) -> None:
    with pytest.raises(ProtocolViolation):
        talk.say(Query(b"x" * 70_000))


def test_what_waits_behind_a_command_has_a_bound(talk: Talk) -> None:
    talk.say(Query(b"PAUSE"))
    assert not talk.conversation.full()
    behind = Query(b"SHOW STATE" + b" " * 1000)
    for _ in range(BACKLOG_BYTES_MAX // 1000):
        talk.say(behind)
    assert talk.conversation.full()
    talk.orders()
    talk.tell(1, tag="PAUSE")
    assert talk.orders() == [Order("ask", 2, "SHOW STATE")]


# Cancel and the end


def test_a_cancel_is_passed_on_and_the_answer_still_comes(talk: Talk) -> None:
    talk.say(Query(b"PAUSE"))
    talk.orders()
    talk.conversation.cancel()
    assert talk.orders() == [Order("gone", 1)]
    assert sqlstates(talk.tell(1, error=("canceling statement due to user request", "", "", "57014"))) == [b"57014"]


def test_a_cancel_of_nothing_does_nothing(talk: Talk) -> None:
    talk.conversation.cancel()
    assert talk.orders() == []


def test_terminate_gives_up_what_is_under_way(talk: Talk) -> None:
    talk.say(Query(b"PAUSE"))
    talk.orders()
    talk.conversation.leave()
    assert talk.orders() == [Order("gone", 1)]
    assert talk.tell(1, tag="PAUSE") == []


def test_terminate_ends_it(talk: Talk) -> None:
    assert talk.say(Terminate(), Query(b"SHOW STATE")) == []
    assert talk.conversation.ended
    assert talk.orders() == []


def test_an_answer_to_another_command_is_passed_over(talk: Talk) -> None:
    talk.say(Query(b"PAUSE"))
    assert talk.tell(9, TWO) == []
    assert kinds(talk.tell(1, tag="PAUSE")) == ["CommandComplete", "ReadyForQuery"]
    assert talk.tell(1, tag="PAUSE") == []


def test_a_function_call_is_refused(talk: Talk) -> None:
    heard = talk.say(FunctionCall(1))
    assert sqlstates(heard) == [b"0A000"]
    assert heard[-1] == IDLE


def test_copy_data_outside_of_copy_is_passed_over(talk: Talk) -> None:
    assert talk.say(CopyData(b"x"), Query(b"")) == [EmptyQueryResponse(), IDLE]


# Transaction blocks


def test_a_block_is_kept_count_of(talk: Talk) -> None:
    assert talk.say(Query(b"BEGIN")) == [CommandComplete(b"BEGIN"), BLOCK]
    talk.say(Query(b"SHOW PEERS"))
    assert talk.tell(1)[-1] == BLOCK
    assert talk.say(Query(b"COMMIT")) == [CommandComplete(b"COMMIT"), IDLE]


def test_a_failed_block_takes_nothing_but_its_end(talk: Talk) -> None:
    talk.say(Query(b"BEGIN"))
    assert talk.say(Query(b"SHOW POOOLS"))[-1] == FAILED
    heard = talk.say(Query(b"SHOW POOLS"))
    assert sqlstates(heard) == [b"25P02"]
    assert sqlstates(talk.say(Query(b"SELECT 1"))) == [b"25P02"]
    assert talk.orders() == []
    assert talk.say(Query(b"COMMIT")) == [CommandComplete(b"ROLLBACK"), IDLE]


def test_a_savepoint_has_a_failed_block_go_on(talk: Talk) -> None:
    talk.say(Query(b"BEGIN; SAVEPOINT a"))
    talk.say(Query(b"SHOW POOOLS"))
    assert talk.say(Query(b"ROLLBACK TO SAVEPOINT a")) == [CommandComplete(b"ROLLBACK"), BLOCK]


# The session's own


def test_application_name_can_be_set_and_is_told(talk: Talk) -> None:
    heard = talk.say(Query(b"SET application_name = 'other'"))
    assert heard == [CommandComplete(b"SET"), ParameterStatus(b"application_name", b"other"), IDLE]
    shown = talk.say(Query(b"SHOW application_name"))
    assert shown[1:] == [DataRow((b"other",)), CommandComplete(b"SHOW"), IDLE]
    assert ParameterStatus(b"application_name", b"test") in talk.say(Query(b"RESET ALL"))


@given(st.data())
def test_however_it_is_cut_the_same_is_heard(data: st.DataObject) -> None:
    messages = (
        Query(b"SHOW application_name; SET extra_float_digits = 3"),
        Parse(b"a", b"SELECT version()"),
        Bind(b"", b"a"),
        Describe(PORTAL, b""),
        Execute(b"", 0),
        Sync(),
        Query(b"SHOW NOTHING"),
        Terminate(),
    )
    sent = b"".join(message.encode() for message in messages)
    whole, cut = Talk(), Talk()
    expected = whole.say(*messages)
    heard: list[Message] = []
    at = 0
    for end in sorted({*data.draw(st.lists(st.integers(0, len(sent)))), len(sent)}):
        cut.conversation.receive(sent[at:end])
        heard += cut.heard()
        at = end
    assert heard == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(data: bytes) -> None:
    talk = Talk()
    try:
        talk.conversation.receive(data)
    except ProtocolViolation:
        return
    talk.heard()
