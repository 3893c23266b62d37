"""A worker's whole data plane in memory: a Relay, its pools, model backends behind it, and neighbours that are watched.

One hostile client at a time plays an Input. Around each of its chunks two neighbours of the same pool run statements of
their own, and must get their own answers, under their own settings, at once. When the hostile client is gone, all must
be at rest again.
"""

import asyncio
import os
import tempfile
import tomllib
from collections.abc import Callable
from typing import Any, Final, Self, cast

from structlog.testing import capture_logs

from healthcheck.topology import Node, Role, Topology
from middleware.auth import Access, HbaRule
from middleware.cache.versions import Versions, bytes_for
from middleware.config import build_settings
from middleware.errors import ProtocolViolation
from middleware.pool.server_connection import ServerConnection
from middleware.relay.arrival import Arrival
from middleware.relay.relay import Relay
from middleware.relay.shared import SHARED_BYTES, columns_of, commits_of, ledger_of
from middleware.wire.frontend import Query
from tests.wirefuzz import direct
from tests.wirefuzz.broken import BrokenPostgres, Saboteur
from tests.wirefuzz.client import MemoryClient, ScramClient
from tests.wirefuzz.control import Control
from tests.wirefuzz.corpus import startup
from tests.wirefuzz.memory import MemoryLoop, connect
from tests.wirefuzz.mutate import Ending, Input, Pace
from tests.wirefuzz.neighbour import Neighbour
from tests.wirefuzz.postgres import Backends

POOL_SIZE: Final = 4
TICK_S: Final = 0.25
REST_S: Final = 40.0
"""More than all timeouts under which something may still be waited for together: a login, a server's end, a cancel."""
REST_STEP_S: Final = 0.3
DELAY_MAX_S: Final = 0.5
"""A neighbour finds a server free at all times."""
TURNS: Final = 3
STANDBY_PORT: Final = 2
SCRAM_PASSWORD: Final = "scram"

SETTINGS: Final = f"""
default_pool_size = {POOL_SIZE}
client_login_timeout = 5
server_login_retry = 0.1
server_connect_timeout = 5
cancel_wait_timeout = 2
query_wait_timeout = 10
[health_check]
user = "pointsman"
[nodes.db1]
host = "/model"
port = 1
[nodes.db2]
host = "/model"
port = 2
[users.app]
password = "app"
"""

EVERYBODY: Final = ("=all",)
ACCESS: Final = Access(
    (
        HbaRule("any", ("broken",), EVERYBODY, (), "trust"),
        HbaRule("any", EVERYBODY, ("trusty", "nobody"), (), "trust"),
        HbaRule("any", EVERYBODY, ("plain",), (), "password"),
        HbaRule("any", EVERYBODY, ("md5",), (), "md5"),
        HbaRule("any", EVERYBODY, ("scram",), (), "scram-sha-256"),
    ),
    (),
    {name: name for name in ("trusty", "plain", "md5", "scram")},
    b"seed",
)
BROKEN: Final = b"broken"
"""The database whose servers do not say the truth."""
BUG: Final = "a bug has ended"

Fault = str
"""What is wrong, in words; the first word is its kind."""


class Stage:
    """A context manager. After a fault it is not used again."""

    def __init__(self, **settings: object) -> None:
        """`settings` go before those of SETTINGS."""
        self.loop: Final = MemoryLoop()
        self.control: Final = Control(self.loop)
        self.backends: Final = Backends()
        self.saboteur = Saboteur()
        self._settings: Final = settings
        self.faults: list[Fault] = []
        self.delay_s = 0.0
        """The longest of a neighbour's."""
        self.compared = 0
        """Inputs that were compared with what is heard without a relay."""
        self.connections = 0
        """Servers that were opened."""
        self.relay: Relay
        self.neighbours: list[Neighbour] = []

    def __enter__(self) -> Self:
        loop, control = self.loop, self.control
        loop.set_exception_handler(self._raised)
        loop.dial = self._dial
        self._logs = capture_logs()
        self._log: Any = self._logs.__enter__()
        settings = build_settings(tomllib.loads(SETTINGS) | self._settings).worker_settings()
        with tempfile.TemporaryFile() as file:
            os.ftruncate(file.fileno(), SHARED_BYTES)
            self._descriptor = os.dup(file.fileno())
        columns_of(self._descriptor)[0] = 1
        commits, self.ledger = commits_of(self._descriptor, 0), ledger_of(self._descriptor, 0)
        with tempfile.TemporaryFile() as file:
            os.ftruncate(file.fileno(), bytes_for(1))
            versions = Versions(file.fileno(), 0, 1, 0)
        self.relay = control.relay = Relay(0, 0, settings, loop, control, commits, self.ledger, versions)
        self.relay.authority.use(ACCESS)
        nodes = (
            Node("db1", "/model", 1, Role.PRIMARY, up=True),
            Node("db2", "/model", STANDBY_PORT, Role.STANDBY, up=True),
        )
        self.relay.set_topology(Topology(1, nodes))
        self._run(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self._logs.__exit__(None, None, None)
        asyncio.set_event_loop(None)
        self.loop._ready.clear()  # type: ignore[attr-defined]
        self.loop.close()
        os.close(self._descriptor)

    def _run(self, steps: Any) -> Any:
        return self.loop.run_until_complete(steps)

    async def _begin(self) -> None:
        self._ticking: asyncio.TimerHandle | None = None
        self._tick()
        self.neighbours = [Neighbour(self.enter, number) for number in range(2)]
        for neighbour in self.neighbours:
            neighbour.begin()
            await self.loop.quiet()

    def _tick(self) -> None:
        self._ticking = self.loop.call_later(TICK_S, self._tick)
        self.control.freshen()
        self.relay.tick(self.loop.time())
        self.relay.counters()

    def _raised(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"crash: {context.get('message')}: {context.get('exception')!r}{_where(context)}")

    def _dial(self, path: str) -> asyncio.BaseProtocol:
        self.connections += 1
        return BrokenPostgres(self.saboteur, self.loop, self.backends)

    def enter(self, client: MemoryClient) -> MemoryClient:
        """A client connects."""
        connect(self.loop, client, cast(asyncio.Protocol, Arrival(self.relay)))
        return client

    # One input

    def play(self, one: Input) -> MemoryClient:
        """Play it; what is wrong is in `faults` then."""
        client = MemoryClient()
        self._run(self._play(one, client))
        return client

    async def _play(self, one: Input, client: MemoryClient) -> None:
        self._log.clear()
        if one.sabotage is not None:
            self.saboteur.arm(one.sabotage)
        self.enter(client)
        await self._log_in(one, client)
        for index, chunk in enumerate(one.chunks()):
            if client.closed:
                break
            watched = index % 16 == 0
            if watched:
                for neighbour in self.neighbours:
                    neighbour.ask()
            client.send(chunk)
            if one.pace is Pace.TURN:
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            elif one.pace is Pace.BYTES:
                await asyncio.sleep(0)
            else:
                await self.loop.quiet()
            if watched:
                await self._check_neighbours()
        await self.loop.quiet()
        await self._check_neighbours()
        if one.ending is Ending.STAY:
            await self._answered(client)
        if one.sabotage is None:
            self._look(client)
            await self._compare(one, client)
        await self._end(one, client)
        if one.sabotage is not None:
            self.saboteur.disarm()
            await self._stand_by()
        await self._rest()

    async def _log_in(self, one: Input, client: MemoryClient) -> None:
        scram = ScramClient(SCRAM_PASSWORD)
        for packet in one.login:
            client.send(packet)
            if one.pace is not Pace.WHOLE or one.legal_login:
                await self.loop.quiet()
            if not packet:
                while answer := scram.answer(bytes(client.heard)):
                    client.send(answer)
                    await self.loop.quiet()
        await self.loop.quiet()

    async def _answered(self, client: MemoryClient) -> None:
        """Let what takes its time end: a statement that sleeps, a timeout."""
        if any(_has_server(one) for one in self.relay.clients.values() if one.process_id):
            await asyncio.sleep(5.5)
            await self.loop.quiet()
            await self._check_neighbours()

    async def _end(self, one: Input, client: MemoryClient) -> None:
        if one.ending is Ending.HALF:
            client.half_close()
            await self._wait(lambda: client.closed)
            if not client.closed:
                self.faults.append(f"hang: half-closed, and not closed after {REST_S:g} s")
        client.drop()
        await self.loop.quiet()

    async def _stand_by(self) -> None:
        """Another client of the servers that were broken: what they have said to the first must not reach it."""
        client = self.enter(MemoryClient())
        client.send(startup(database="broken") + Query(b"select 'bystander'").encode())
        await self._wait(lambda: client.closed or b"bystander" in client.heard or b"E\0\0" in client.heard)
        if b"victim" in client.heard:
            self.faults.append(f"bytes: another client heard {bytes(client.heard)!r}")
        client.drop()
        await self.loop.quiet()

    async def _compare(self, one: Input, client: MemoryClient) -> None:
        if one.legal_login and one.ending is Ending.STAY:
            self.compared += 1
            right = await direct.play(self.loop, one)
            wrong = direct.difference(one, client, right)
            # Whether a Parse that was to replace the unnamed statement was skipped, its answers do not tell.
            if wrong and not direct.difference(one, right, await direct.play(self.loop, one, keeps_unnamed=False)):
                self.faults.append(f"difference: {wrong}")

    def _look(self, client: MemoryClient) -> None:
        """Whether what the client has heard is a stream of messages."""
        try:
            client.words(client.answers_to_requests())
        except ProtocolViolation as violation:
            self.faults.append(f"answers: the client was sent what is no message: {violation.message}")

    async def _check_neighbours(self) -> None:
        for neighbour in self.neighbours:
            if not neighbour.asking:
                continue
            began = self.loop.time()
            while neighbour.waits() and self.loop.time() - began < DELAY_MAX_S:
                await asyncio.sleep(TICK_S / 5)
                await self.loop.quiet()
            self.delay_s = max(self.delay_s, self.loop.time() - began)
            wrong = neighbour.check()
            if wrong:
                self.faults.append(f"neighbour: {wrong}")

    async def _wait(self, done: Callable[[], bool]) -> None:
        until = self.loop.time() + REST_S
        while not done() and self.loop.time() < until:
            await asyncio.sleep(REST_STEP_S)
            await self.loop.quiet()

    # At rest

    async def _rest(self) -> None:
        """All that the input has brought about is over, and nothing of it is left."""
        await self._wait(lambda: not self.unrest())
        unrest = self.unrest()
        if unrest:
            self.faults.append(f"leak: {unrest} after {REST_S:g} s")
        for pool in self.relay.pools._pools.values():
            if pool.database != BROKEN:
                self.faults.extend(wrong for server, _ in pool.plan.idle if (wrong := self._wrong_books(server)))
        for entry in self._log:
            if entry["event"].startswith(BUG):
                trace = entry.get("exception") or entry.get("exc_info")
                self.faults.append(f"bug: {entry['event']}: {trace}")

    def unrest(self) -> str:
        """What is not at rest; "" if everything is."""
        relay = self.relay
        if len(relay.clients) != len(self.neighbours):
            return f"clients: {[_described(one) for one in relay.clients.values()]}"
        newcomers = len(relay.newcomers.everybody())
        if newcomers or relay.leaving:
            return f"{newcomers} logging in, {len(relay.leaving)} leaving"
        for pool in {*relay.pools._pools.values(), *relay.pools.awake()}:
            plan = pool.plan
            if plan.lent or plan.waiting or plan.on_the_way or plan.closing:
                return (
                    f"pool of {pool.database!r} on {pool.node}: {len(plan.lent)} lent, {len(plan.waiting)} waiting, "
                    f"{plan.on_the_way} on the way, {plan.closing} closing"
                )
            counted = self.ledger.mine(pool.limits[0][0])
            if counted != len(plan.idle):
                return f"pool of {pool.database!r}: {len(plan.idle)} servers, {counted} counted"
            for server, _ in plan.idle:
                session = server.session
                if not session.at_rest() or session.dirty or session.uncertain or server.cancels:
                    return (
                        f"an idle server of {pool.database!r}: {len(session.expected)} replies due, status "
                        f"{session.status}, COPY {session.copy_in}, {session._left} bytes and {session._tail!r} of a "
                        f"message, left {session.dirty!r}, uncertain {session.uncertain}, {server.cancels} cancels"
                    )
        tasks = len(asyncio.all_tasks(self.loop)) - 1
        if tasks:
            return f"{tasks} tasks beside the stage's own"
        alive = len(self.backends.alive)
        idle = sum(len(pool.plan.idle) for pool in relay.pools._pools.values())
        return f"{alive} backends for {idle} idle servers" if alive != idle else ""

    def _wrong_books(self, server: ServerConnection) -> Fault:
        """How what we think a server has differs from what it has; "" if it does not."""
        session = server.session
        has = self.backends.alive[server.cancel_key[0]].sql
        settings = {name: value for name, value in has.settings.items() if has.base.get(name) != value}
        wanted = {name: value for name, value in session.parameters.values if has.base.get(name) != value}
        if settings != wanted:
            return f"books: {settings} are set on an idle server, and should be {wanted}"
        statements = has.statements.keys() - {b""} - session.prepared.keys()
        booked = set(session.statements._names)
        return (
            f"books: {statements} are prepared on an idle server, and should be {booked}"
            if statements != booked
            else ""
        )


def _has_server(client: Any) -> bool:
    """Whether something may be under way for it. A replication connection always has one of its own."""
    return getattr(client, "server", None) is not None


def _described(client: Any) -> str:
    """For people: what a client's connection is about."""
    server = getattr(client, "server", None)
    about = {
        name: getattr(client, name, None) for name in ("state", "_blocked", "_pauses", "_backlog", "_closed", "_left")
    }
    if server is not None:
        session = server.session
        about |= {"server": server.state, "expected": len(session.expected), "status": session.status}
        about |= {"left": session._left, "tail": session._tail, "copy_in": session.copy_in, "hold": session.hold}
    return f"{type(client).__name__} {about}"


def _where(context: dict[str, Any]) -> str:
    error = context.get("exception")
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    places = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f" at {' < '.join(reversed(places))}" if places else ""
