"""The control channel's frames: however the bytes are cut, the same messages come out, and nothing else ever does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.topology import Node, Role, Topology
from middleware import framing
from middleware.auth import Access, HbaRule, UserMapping
from middleware.auth.made_up import Nobody
from middleware.auth.scram import Verifier
from middleware.config import CacheSettings, NetworkSettings, NodeShare, RoutePolicy, TlsMaterial, WorkerSettings
from middleware.control import (
    Ask,
    CacheCounters,
    CacheDigest,
    CacheTracking,
    CatalogWanted,
    ClearCache,
    Configure,
    ConsoleAsked,
    ConsoleGone,
    ConsoleMore,
    ConsoleTold,
    Counters,
    Down,
    Drain,
    Drained,
    ForwardCancel,
    FreshnessWanted,
    Kill,
    KillClient,
    Leases,
    Left,
    LetGo,
    NodeAnswers,
    NodeCounters,
    NodeLeases,
    NodeTrouble,
    Obeyed,
    PauseProgress,
    Ready,
    Reconnect,
    SecretWanted,
    ServerFreed,
    ServerWanted,
    SetAccess,
    SetCache,
    SetCatalog,
    SetChanges,
    SetFreshness,
    SetPauses,
    SetReasons,
    SetSecret,
    SetSettings,
    Settle,
    Settled,
    SetTls,
    SetTopology,
    Told,
    Up,
    WatchWanted,
    process_id_of,
    slot_of,
)
from middleware.framing import FRAME_BYTES_MAX, ControlError, FrameReader, encode
from middleware.logs import LogOptions
from middleware.reports import DigestReport, HealthReport, Histogram, PreparedReport, TimingsReport, TrafficReport
from routing.catalog import Catalog
from routing.overload import Overload, Thing

SETTINGS = WorkerSettings(
    max_client_conn=2,
    admin_reserved_conn=1,
    admin_users=("root",),
    stats_users=("monitor",),
    max_client_logins=3,
    max_server_logins=4,
    max_wal_senders=5,
    max_prepared_statements=3,
    max_packet_size=5,
    statement_size_max=4,
    shutdown_timeout_s=1.0,
    client_login_timeout_s=1.0,
    cancel_wait_timeout_s=1.0,
    suspend_timeout_s=1.0,
    server_connect_timeout_s=1.0,
    server_login_retry_s=1.0,
    server_check_delay_s=1.0,
    server_keepalive_s=1.0,
    server_idle_timeout_s=1.0,
    server_lifetime_s=1.0,
    server_lifetime_jitter=0.5,
    server_reset_query="",
    network=NetworkSettings(False, 1, 2, 3, 4.0),
    max_replica_lag_bytes=5,
    primary_queries=("a",),
    state_quiet=("b",),
    zone="a",
    nodes={"db1": NodeShare(), "db2": NodeShare(3, "b")},
    policies=(
        RoutePolicy("d", None, ".*", "session", 0.0, 1.0, "random", "never", True, "until_write", ("db2",)),
        RoutePolicy(None, None, None, "global", 1.0, 1.0, "round_robin", "fallback", False, "primary", ()),
    ),
    cache=CacheSettings(1, 2, 3.0, "redis://a", 4.0, "poll"),
    log=LogOptions(levels={"client": "debug"}),
    digests_max=1,
)
NODES = (Node("db1", "::1", 5432, Role.PRIMARY, True), Node("db2", "h", 1, Role.STANDBY, False, 7, "why"))
CATALOG = Catalog("d", 2, {"ÄÖ": (Overload("s", 0, 1, "is volatile"),)}, {"t": (Thing("s", ""),)})
EVERY_MESSAGE: list[Down | Up] = [
    Configure(1, 2, SETTINGS, (5, 6), 3, 7, 8),
    SetSettings(SETTINGS),
    Settle(7),
    Settled(1, 7),
    LetGo(),
    SetTopology(Topology(3, NODES, 2**62, 4)),
    SetCatalog(CATALOG, 1.5, 2.5),
    SetFreshness((("db2", 1.5, None), ("db3", float("-inf"), 7))),
    FreshnessWanted(),
    WatchWanted(),
    SetChanges((0.0, 2.5)),
    SetReasons({"it is": 3}, 4),
    NodeAnswers("db1"),
    Drain(1.5),
    Drain(1.5, "clients"),
    ForwardCancel(1 << 20 | 5, b"\x00\xff"),
    ServerWanted(b"k" * 16),
    ServerFreed(),
    SetTls(TlsMaterial("require", b"cert", b"key", b"ca", "TLSv1.3"), TlsMaterial(direct=True)),
    SetAccess(
        Access(
            (HbaRule("host", ("=all",), ("a", "/b"), ("10.0.0.0/8",), "cert", "m", "verify-ca", "DN", "f:1"),),
            (UserMapping("m", "/(.*)", "\\1"),),
            {"app": None, "b": "x"},
            b"seed",
            True,
            1.5,
            {"b": Verifier(4096, b"salt", b"stored", b"server")},
            Nobody("scram", 5000, 12, True),
        )
    ),
    SecretWanted("b"),
    SetCache(3, True, False, {"a": "on"}, "off"),
    ClearCache("failover"),
    CacheTracking(1, 3),
    SetSecret("b", True, "x"),
    SetSecret("c", True, "x", False, Verifier(1, b"a", b"b", b"c"), Nobody("md5", 2, 3, True)),
    Ready(0),
    CatalogWanted("d", 1.5),
    NodeTrouble("db1", "text"),
    Leases(7, (NodeLeases("db1", 2, 1, 4),)),
    SetPauses(2, "paused", ("a",), ("b",), ("c", None)),
    PauseProgress(2, (Left(None, 1, 2, 3, 4, 5, 6), Left("a"))),
    Reconnect(1, None),
    Kill(2, "a"),
    KillClient(3, 1 << 20 | 5),
    Obeyed(3, 1),
    Counters(0, 1, 2, (NodeCounters("db1", 1, 2, 3, 4),)),
    Counters(
        *(0, 1, 2, (), {}, 0, (), 0),
        CacheCounters(1, 2, 3, {"a": 4}, 5, 6, 7, 8, {"write": 9}, 1, 0.5, 1, 2, 3, (CacheDigest("d", "s", 1),)),
    ),
    Drained(0),
    Ask(1, "clients", 5),
    Told(
        1,
        (
            PreparedReport("_pointsman_1", 2, 3, 4, "SELECT $1"),
            DigestReport("d", "SELECT $1", 1, 0, 2, 0.5, 0.25, 1, 0, 0, "it writes"),
        ),
        True,
    ),
    ConsoleAsked(5, 1, "root", True, "SHOW POOLS"),
    ConsoleTold(5, 1, (("a", True, 1, 1.5, None),), False),
    ConsoleTold(5, 1, tag="SHOW", notices=("worker 1 does not answer",), error=("a", "b", "c", "42601")),
    ConsoleMore(5, 1),
    ConsoleGone(5, 1),
    Counters(
        *(0, 1, 2, ()),
        traffic=(TrafficReport("d", "r", "db1", 1),),
        timings=(TimingsReport("r", "db1", Histogram(sum_s=1.5)),),
        health=HealthReport(0.001, 1.5),
    ),
]
some_messages = st.lists(st.sampled_from(EVERY_MESSAGE), max_size=6)


def test_the_table_has_every_message() -> None:
    kinds = {kind for union in (Down, Up) for kind in union.__args__}
    assert {type(message) for message in EVERY_MESSAGE} == kinds


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_from_any_split(message: Down | Up) -> None:
    frame = encode(message)
    tail = encode(Ready(9))[:3]
    for cut in range(len(frame) + 1):
        reader = FrameReader()
        assert [*reader.feed(frame[:cut]), *reader.feed(frame[cut:] + tail)] == [message]


@given(some_messages, st.data())
def test_splitting_the_stream_changes_nothing(messages: list[Down | Up], data: st.DataObject) -> None:
    stream = b"".join(encode(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader()
    heard: list[Down | Up] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard.extend(reader.feed(stream[start:end]))
    assert heard == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_more_to_come_or_an_error(data: bytes) -> None:
    reader = FrameReader()
    try:
        for message in reader.feed(data):
            assert isinstance(message, Down | Up)
    except ControlError:
        pass


@given(st.binary(max_size=200))
def test_any_payload_is_a_message_or_an_error(payload: bytes) -> None:
    try:
        (message,) = FrameReader().feed(len(payload).to_bytes(4, "big") + payload)
    except ControlError:
        return
    assert isinstance(message, Down | Up)


def test_a_frame_above_the_bound_is_refused_before_it_is_gathered() -> None:
    with pytest.raises(ControlError, match="above"):
        FrameReader().feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_a_message_above_the_bound_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "FRAME_BYTES_MAX", 100)
    with pytest.raises(ControlError, match="above 100"):
        encode(NodeTrouble("db1", "x" * 200))


@given(st.integers(0, 255), st.integers(0, 2**40))
def test_a_process_id_names_its_worker(worker: int, serial: int) -> None:
    process_id = process_id_of(worker, serial)
    assert slot_of(process_id) == worker
    assert 0 <= process_id < 2**31
