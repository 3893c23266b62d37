"""Mutated streams to `pointsman serve` with PostgreSQL behind it: sockets, TLS and uvloop, which the stage has not.

Many hostile clients at once on one worker. Each sends all it has and closes its side, or its connection: the endpoint
must close within a deadline. Beside them clients of the same pools run statements whose answers are known. Afterwards
the worker must be the same process, its log without a bug, its memory and descriptors where they were, and every
server at rest.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop

from middleware.sandbox import Sandbox
from tests.certificates import Certificates
from tests.conftest import Endpoint, pointsman
from tests.wirefuzz.corpus import USER
from tests.wirefuzz.mutate import Ending, Input, Pace, login_input, session_input

CLIENTS: Final = 16
POOL_SIZE: Final = 24
CLOSE_S: Final = 30.0
"""How long the endpoint may take to close: a login's timeout, or a statement's two seconds and a busy machine."""
DELAY_MAX_S: Final = 10.0
"""A neighbour's statement: no measure of speed, on a machine that others use."""
GROWTH_MAX_MB: Final = 64
WARM_UP: Final = 500
SETTLE_S: Final = 30.0
BUSY: Final = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}' AND state <> 'idle'"
SET_UP: Final = f"""
CREATE ROLE {USER} LOGIN PASSWORD '{USER}';
GRANT ALL ON SCHEMA public TO {USER};
-- Others' may be there still.
DROP TABLE IF EXISTS diff_rows, diff_copy, diff_plan;
"""
TABLES: Final = """
CREATE TABLE t (n int);
CREATE TABLE diff_rows (n int, word text);
INSERT INTO diff_rows SELECT n, 'word ' || n FROM generate_series(1, 9) n;
CREATE TABLE diff_copy (n int, word text);
CREATE TABLE diff_plan (n int);
"""
EXCERPT_CHARACTERS: Final = 4000
BUGS: Final = ("a bug has ended", "Traceback", "Fatal error", "worker exited", "exited with")


@dataclass
class RealTally:
    inputs: int = 0
    over_tls: int = 0
    neighbours: int = 0
    """Statements of theirs."""
    delay_s: float = 0.0
    growth_mb: float = 0.0
    descriptors: int = 0
    wall_s: float = 0.0
    faults: list[str] = field(default_factory=list)


class _Run:
    """One run, from the first input to the last."""

    def __init__(
        self, endpoint: Endpoint, certificates: Certificates, inputs: int, seed: int, done: Callable[[], None]
    ):
        self._endpoint: Final = endpoint
        self._inputs: Final = inputs
        self._seed: Final = seed
        self._done: Final = done
        self._next = 0
        self._over = False
        self.tally: Final = RealTally()
        self.at_rest: tuple[float, int] | None = None
        """The worker's megabytes and descriptors after the first inputs."""
        self._context: Final = ssl.create_default_context(cafile=certificates.path("ca.pem"))
        self._context.check_hostname = False
        self._context.set_alpn_protocols(["postgresql"])

    async def run(self) -> None:
        neighbours = [asyncio.create_task(self._neighbour(number)) for number in range(2)]
        try:
            await asyncio.gather(*(self._hostile() for _ in range(CLIENTS)))
        finally:
            self._over = True
            await asyncio.gather(*neighbours)

    async def _hostile(self) -> None:
        while self._next < self._inputs and not self.tally.faults:
            number = self._next
            self._next += 1
            rng = random.Random(f"{self._seed}/{number}")
            one = session_input(rng) if rng.random() < 0.7 else login_input(rng)
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._play(one, tls=rng.random() < 0.03)
            except TimeoutError:
                self.tally.faults.append(
                    f"hang: not closed after {CLOSE_S:g} s, --real, seed {self._seed}, {number}: {one}"
                )
            self.tally.inputs += 1
            if self.tally.inputs == WARM_UP:
                self.at_rest = weight(self._endpoint)
            self._done()

    async def _play(self, one: Input, tls: bool) -> None:
        """Send it; return when the endpoint has closed. What breaks is the connection, and is meant to."""
        # uvloop's RuntimeError: the transport was closed between a look at it and its use.
        with contextlib.suppress(OSError, RuntimeError, ssl.SSLError):
            reader, writer = await asyncio.open_connection(
                self._endpoint.host,
                self._endpoint.port,
                ssl=self._context if tls else None,
                ssl_shutdown_timeout=1 if tls else None,
            )
            self.tally.over_tls += tls
            heard = asyncio.create_task(reader.read(-1))
            try:
                await self._send(one, writer)
                if one.ending is not Ending.DROP:
                    if writer.can_write_eof():
                        writer.write_eof()
                    else:
                        writer.write(b"X\0\0\0\x04")
                        await asyncio.sleep(0.01)
                        writer.close()
                    await heard
            finally:
                heard.cancel()
                writer.transport.abort()

    async def _send(self, one: Input, writer: asyncio.StreamWriter) -> None:
        for packet in one.login:
            writer.write(packet)
            if one.pace is not Pace.WHOLE:
                # An encryption request is answered before more may come.
                await asyncio.sleep(0.002)
        for chunk in one.chunks():
            if writer.is_closing():
                break
            writer.write(chunk)
            if one.pace is Pace.STEP:
                await asyncio.sleep(0)
        await writer.drain()

    async def _neighbour(self, number: int) -> None:
        name = f"neighbour {number}"
        endpoint = self._endpoint
        client: Any = await asyncpg.connect(
            host=endpoint.host,
            port=endpoint.port,
            user=USER,
            password=USER,
            database="app",
            ssl=False,
            server_settings={"application_name": name},
        )
        try:
            while not self._over:
                await self._ask(client, name)
        except Exception as error:
            self.tally.faults.append(f"neighbour: {name}: {error!r}")
        finally:
            client.terminate()

    async def _ask(self, client: Any, name: str) -> None:
        began = time.monotonic()
        self.tally.neighbours += 1
        said = f"{name} says {self.tally.neighbours % 50}"
        heard = await client.fetchval(f"SELECT '{said}' || $1", "!")
        shown = await client.fetchval("SELECT current_setting('application_name')")
        async with client.transaction():
            within = await client.fetchval("SELECT current_setting('application_name')")
        took = time.monotonic() - began
        self.tally.delay_s = max(self.tally.delay_s, took)
        if (heard, shown, within) != (f"{said}!", name, name):
            self.tally.faults.append(
                f"neighbour: {name} asked for {said!r} and was told {heard!r}, {shown!r}, {within!r}"
            )
        if took > DELAY_MAX_S:
            self.tally.faults.append(f"neighbour: {name} waited for {took:.1f} s")
        await asyncio.sleep(0.02)


def weight(endpoint: Endpoint) -> tuple[float, int]:
    """The workers' memory in megabytes, and their descriptors."""
    workers = endpoint.workers()
    return (
        sum(worker.memory_info().rss for worker in workers) / 1024 / 1024,
        sum(worker.num_fds() for worker in workers),
    )


def run(
    cluster: Sandbox, directory: Path, inputs: int, seed: int, done: Callable[[], None] = lambda: None
) -> RealTally:
    """Play them against an endpoint of its own in front of the cluster, which is left as it was."""
    certificates = Certificates(directory)
    rules = directory / "hba.conf"
    rules.write_text(f"host all {USER} all trust\nhost all all all scram-sha-256\n")
    cluster.query(SET_UP, database=cluster.database)
    cluster.passwords[USER] = USER
    try:
        cluster.query(TABLES, user=USER, database=cluster.database)
        cluster.wait_for_replay()
        server = pointsman(
            cluster,
            directory,
            workers=1,
            default_pool_size=POOL_SIZE,
            auth_type="hba",
            auth_hba_file=str(rules),
            client_tls_sslmode="allow",
            client_login_timeout=5,
            **certificates.server_settings(),
        )
        with server as endpoint:
            return _run(cluster, endpoint, server, _Run(endpoint, certificates, inputs, seed, done))
    finally:
        del cluster.passwords[USER]
        cluster.query(f"DROP OWNED BY {USER} CASCADE; DROP ROLE {USER}", database=cluster.database)
        cluster.wait_for_replay()


def _run(cluster: Sandbox, endpoint: Endpoint, server: pointsman, one: _Run) -> RealTally:
    began, workers = time.monotonic(), [worker.pid for worker in endpoint.workers()]
    tally = one.tally
    uvloop.run(one.run())
    tally.wall_s = time.monotonic() - began
    if [worker.pid for worker in endpoint.workers()] != workers:
        tally.faults.append("crash: a worker was restarted")
    _settle(cluster, endpoint, tally, one.at_rest)
    log = server.log()
    places = [place for bug in BUGS if (place := log.find(bug)) >= 0]
    if places:
        tally.faults.append(f"bug: {log[max(0, min(places) - 200) : min(places) + EXCERPT_CHARACTERS]}")
    return tally


def _settle(cluster: Sandbox, endpoint: Endpoint, tally: RealTally, at_rest: tuple[float, int] | None) -> None:
    """No server is busy, and the worker holds no more than after the first inputs."""
    before = at_rest or weight(endpoint)
    until = time.monotonic() + SETTLE_S
    while True:
        busy = sum(int(cluster.query(BUSY, node)[0][0]) for node in cluster.nodes)
        after = weight(endpoint)
        # The servers of the pools may be there or not.
        over = busy == 0 and after[1] <= before[1] + 2 * POOL_SIZE
        if over or time.monotonic() > until:
            break
        time.sleep(0.2)
    tally.growth_mb, tally.descriptors = after[0] - before[0], after[1] - before[1]
    if busy:
        tally.faults.append(f"leak: {busy} servers are busy for nobody")
    if tally.descriptors > 2 * POOL_SIZE:
        tally.faults.append(f"leak: {tally.descriptors} more descriptors than after {WARM_UP} inputs")
    if tally.growth_mb > GROWTH_MAX_MB:
        tally.faults.append(f"leak: {tally.growth_mb:.0f} MB more than after {WARM_UP} inputs")
