"""What a slot's stream says, from bytes: frames, the two plugins' messages, and who has ended by a snapshot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.errors import ProtocolViolation
from middleware.supervisor.copy_frames import BODY_BYTES_MAX, CopyFrames, status_update
from middleware.supervisor.decoding import TABLES_MAX, Committed, Name, PgOutput, TestDecoding
from middleware.supervisor.visibility import Snapshot
from middleware.wire.build import message

LSN = 0x1_2345_6789


def text(*payloads: bytes) -> Committed:
    """What one transaction in test_decoding's words comes to."""
    decoder = TestDecoding()
    taken = [decoder.take(one, LSN) for one in (b"BEGIN 742", *payloads, b"COMMIT 742")]
    assert taken[:-1] == [None] * (len(taken) - 1)
    assert taken[-1] is not None
    return taken[-1]


ROWS: list[tuple[bytes, Name]] = [
    (b"table public.t: INSERT: a[integer]:1", (b"public", b"t")),
    (b"table public.t: UPDATE: old-key: a[integer]:1 new-tuple: a[integer]:2", (b"public", b"t")),
    (b"table public.t: DELETE: a[integer]:1", (b"public", b"t")),
    (b"table public.t: DELETE: (no-tuple-data)", (b"public", b"t")),
    # As the test decoder's row may go on.
    (b"table public.t: INSERT: a[text]:'table x.y: DELETE: '", (b"public", b"t")),
    (b'table "My Schema"."My Table": UPDATE: a[integer]:1', (b"My Schema", b"My Table")),
    (b'table public."a.b": INSERT: a[integer]:1', (b"public", b"a.b")),
    (b'table "p.q"."a.b": INSERT: a[integer]:1', (b"p.q", b"a.b")),
    (b'table public."x: DELETE:": INSERT: a[integer]:1', (b"public", b"x: DELETE:")),
    (b'table public."say ""hello""": INSERT: a[integer]:1', (b"public", b'say "hello"')),
    (b'table public."""": INSERT: a[integer]:1', (b"public", b'"')),
    (b'table public.""".""": INSERT: a[integer]:1', (b"public", b'"."')),
    (b'table public."line\nend": INSERT: a[integer]:1', (b"public", b"line\nend")),
    (b'table public."select": INSERT: a[integer]:1', (b"public", b"select")),
    ('table public."größe": INSERT: a[integer]:1'.encode("latin-1"), (b"public", "größe".encode("latin-1"))),
    (b"table _s1._t2_: INSERT: a[integer]:1", (b"_s1", b"_t2_")),
    # Cut off behind what counts.
    (b"table public.t: INSERT:", (b"public", b"t")),
]


@pytest.mark.parametrize(("payload", "name"), ROWS)
def test_the_table_of_a_row(payload: bytes, name: Name) -> None:
    assert text(payload) == Committed(742, LSN, frozenset({name}))
    # The next one of the same table is not read again, and one of another is.
    assert text(payload, payload, b"table z.z: INSERT: a[integer]:1").names == {name, (b"z", b"z")}


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        (b"table public.t: TRUNCATE: (no-flags)", {(b"public", b"t")}),
        (b"table public.t: TRUNCATE: restart_seqs cascade", {(b"public", b"t")}),
        (
            b'table public.t, public."b, c", "x: TRUNCATE:"."""": TRUNCATE: cascade',
            {(b"public", b"t"), (b"public", b"b, c"), (b"x: TRUNCATE:", b'"')},
        ),
    ],
)
def test_the_tables_of_a_truncate(payload: bytes, names: set[Name]) -> None:
    assert text(payload) == Committed(742, LSN, frozenset(names))


@pytest.mark.parametrize(
    "payload",
    [
        b"table public.t, public.u: TRUNC",
        b"table public.t: MERGE: a[integer]:1",
        b"table Public.t: INSERT: a[integer]:1",
        b'table public."t: INSERT: a[integer]:1',
        b"table public: INSERT: a[integer]:1",
        b"sequence public.s: transactional:1",
        b"PREPARE TRANSACTION 'x', txid 742",
        b"",
    ],
)
def test_what_cannot_be_read_changes_everything(payload: bytes) -> None:
    assert text(payload) == Committed(742, LSN, whole=True)


def test_a_transaction_in_which_no_table_changed() -> None:
    assert text() == Committed(742, LSN)
    assert text(b"message: transactional: 1 prefix: pointsman, sz: 0 content:") == Committed(742, LSN)


def test_a_transaction_does_not_inherit_from_the_one_before() -> None:
    decoder = TestDecoding()
    said = [b"BEGIN 1", b"table a.a: INSERT: x", b"what", b"COMMIT 1", b"BEGIN 2", b"table a.a: INSERT: x", b"COMMIT 2"]
    ended = [taken for taken in (decoder.take(one, LSN) for one in said) if taken is not None]
    assert ended == [
        Committed(1, LSN, frozenset({(b"a", b"a")}), whole=True),
        Committed(2, LSN, frozenset({(b"a", b"a")})),
    ]


def test_a_transaction_of_too_many_tables_has_changed_all() -> None:
    ended = text(*(b"table a.t%d: INSERT: x" % number for number in range(TABLES_MAX + 1)))
    assert ended == Committed(742, LSN, whole=True)


@given(st.lists(st.binary(max_size=60).map(lambda data: b"table " + data)))
def test_arbitrary_text_is_a_change_of_something(payloads: list[bytes]) -> None:
    ended = text(*payloads)
    assert ended.whole or ended.names or not payloads


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_any_quoted_name_is_read_back(names: list[tuple[str, str]]) -> None:
    expected = {
        (schema.encode("utf-8", "surrogatepass"), name.encode("utf-8", "surrogatepass")) for schema, name in names
    }
    quoted = [b'"%s"."%s"' % (s.replace(b'"', b'""'), n.replace(b'"', b'""')) for s, n in sorted(expected)]
    assert text(*(b"table %s: INSERT: x" % one for one in quoted)).names == expected
    assert text(b"table " + b", ".join(quoted) + b": TRUNCATE: cascade").names == expected


BEGIN = b"B" + LSN.to_bytes(8, "big") + bytes(8) + (742).to_bytes(4, "big")
COMMIT = b"C\0" + LSN.to_bytes(8, "big") * 2 + bytes(8)


def oid(number: int) -> bytes:
    return number.to_bytes(4, "big")


def binary(*payloads: bytes) -> Committed:
    """The same in pgoutput's."""
    decoder = PgOutput()
    taken = [decoder.take(one, LSN) for one in (BEGIN, *payloads, COMMIT)]
    assert taken[:-1] == [None] * (len(taken) - 1)
    assert taken[-1] is not None
    return taken[-1]


RELATION = b"R" + oid(16400) + b"public\0t\0d\0\x01\x01a\0" + oid(23) + b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("payloads", "oids"),
    [
        ([b"I" + oid(16400) + b"N\0\x01t\0\0\0\x011"], {16400}),
        ([b"U" + oid(16400) + b"K\0\x01n" + b"N\0\x01n"], {16400}),
        ([b"D" + oid(0xFFFF_FFFE) + b"O\0\x01n"], {0xFFFF_FFFE}),
        ([b"T" + (2).to_bytes(4, "big") + b"\x01" + oid(16400) + oid(16410)], {16400, 16410}),
        (
            [b"O" + bytes(8) + b"origin\0", RELATION, b"Y" + oid(9), b"M\0" + bytes(8) + b"p\0", b"I" + oid(16400)],
            {16400},
        ),
        ([], set()),
    ],
)
def test_the_tables_of_pgoutput(payloads: list[bytes], oids: set[int]) -> None:
    assert binary(*payloads) == Committed(742, LSN, oids=frozenset(oids))


@pytest.mark.parametrize(
    "payload",
    [b"", b"I\0\0\0", b"T" + (2).to_bytes(4, "big") + b"\0" + oid(16400), b"T", b"S" + oid(742) + b"\x01", b"?", b"R"],
)
def test_what_pgoutput_does_not_say_changes_everything(payload: bytes) -> None:
    assert binary(payload) == Committed(742, LSN, whole=True)


def test_pgoutput_says_that_a_table_looks_different() -> None:
    decoder = PgOutput()
    ended: list[Committed | None] = []
    for relation in (RELATION, RELATION, RELATION + b"more", RELATION + b"more"):
        ended += [decoder.take(one, LSN) for one in (BEGIN, relation, b"I" + oid(16400), COMMIT)]
    assert [one.reshaped for one in ended if one is not None] == [False, False, True, False]


def test_a_transaction_of_pgoutput_does_not_inherit_from_the_one_before() -> None:
    decoder, row = PgOutput(), b"I" + oid(16400) + b"N"
    ended = [decoder.take(one, LSN) for one in (BEGIN, row, row, b"?", COMMIT, BEGIN, row, b"D" + oid(16400), COMMIT)]
    assert [one for one in ended if one is not None] == [
        Committed(742, LSN, oids=frozenset({16400}), whole=True),
        Committed(742, LSN, oids=frozenset({16400})),
    ]


def test_a_transaction_of_too_many_tables_has_changed_all_in_pgoutput_too() -> None:
    count = TABLES_MAX + 1
    truncated = b"T" + count.to_bytes(4, "big") + b"\0" + b"".join(oid(number) for number in range(1, count + 1))
    assert binary(truncated) == Committed(742, LSN, whole=True)


# Frames

LONG = BODY_BYTES_MAX + 1000
MESSAGES: list[tuple[int, bytes]] = [
    (ord("W"), b"\0\0\0"),
    (ord("d"), b"k" + bytes(17)),
    (ord("c"), b""),
    (ord("d"), b"x" * 700),
]


@given(
    st.lists(st.tuples(st.sampled_from(b"dcWEN"), st.integers(0, 300) | st.just(LONG)), max_size=6),
    st.lists(st.integers(50, 70_000), min_size=1, max_size=9),
)
@settings(deadline=None)
def test_splitting_the_stream_never_changes_the_messages(shapes: list[tuple[int, int]], sizes: list[int]) -> None:
    sent = [(code, bytes([65 + number]) * size) for number, (code, size) in enumerate(shapes)]
    stream = b"".join(message(code, body) for code, body in sent)
    frames, found, at, turn = CopyFrames(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += frames.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == [(code, body[:BODY_BYTES_MAX]) for code, body in sent]


def test_every_split_of_a_few_messages() -> None:
    stream = b"".join(message(code, body) for code, body in MESSAGES)
    for at in range(len(stream) + 1):
        frames = CopyFrames()
        assert frames.feed(stream[:at]) + frames.feed(stream[at:]) == MESSAGES


def test_a_long_message_is_not_gathered() -> None:
    frames = CopyFrames()
    found = frames.feed(b"d" + (1_000_000_004).to_bytes(4, "big") + b"w" * BODY_BYTES_MAX)
    assert found == [(ord("d"), b"w" * BODY_BYTES_MAX)]
    left = 1_000_000_000 - BODY_BYTES_MAX
    piece = bytes(1_000_000)
    while left > len(piece):
        assert frames.feed(piece) == []
        assert frames._pending == b""
        left -= len(piece)
    assert frames.feed(bytes(left) + message(ord("c"), b"")) == [(ord("c"), b"")]


def test_an_impossible_length_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation):
        CopyFrames().feed(b"d\0\0\0\x03")


def test_the_status_that_is_sent() -> None:
    sent = status_update(LSN, 946_684_801.5, reply=True)
    assert sent == b"d\0\0\0\x26r" + LSN.to_bytes(8, "big") * 3 + (1_500_000).to_bytes(8, "big") + b"\x01"


# Snapshots


@pytest.mark.parametrize(
    ("snapshot", "xid", "ended"),
    [
        ("10:20:10,15", 9, True),
        ("10:20:10,15", 10, False),
        ("10:20:10,15", 14, True),
        ("10:20:10,15", 15, False),
        ("10:20:10,15", 19, True),
        ("10:20:10,15", 20, False),
        ("10:20:10,15", 25, False),
        ("10:10:", 9, True),
        ("10:10:", 10, False),
        # The 32 bits of a transaction, around where they begin anew.
        (f"{2**32 + 3}:{2**32 + 5}:{2**32 + 3}", 3, False),
        (f"{2**32 + 3}:{2**32 + 5}:{2**32 + 3}", 4, True),
        (f"{2**32 + 3}:{2**32 + 5}:{2**32 + 3}", 2**32 - 1, True),
        (f"{2**32 - 2}:{2**32 + 5}:{2**32 - 2}", 2**32 - 2, False),
        (f"{2**32 - 5}:{2**32 - 3}:", 3, False),
        (f"{7 * 2**32}:{7 * 2**32}:", 0, False),
        (f"{7 * 2**32}:{7 * 2**32}:", 2**32 - 1, True),
    ],
)
def test_who_has_ended(snapshot: str, xid: int, ended: bool) -> None:
    assert Snapshot.parse(snapshot).ended(xid) is ended
