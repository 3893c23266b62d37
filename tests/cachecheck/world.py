"""What the clients of a load share: where they connect, the registers and who writes them, the history."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import asyncpg

from middleware.sandbox import Sandbox
from tests.cachecheck.history import DIRECT, History, Operation, Register
from tests.cachecheck.registers import KINDS, SCHEMA, Kind, Look
from tests.conftest import Endpoint

HOT_S: Final = 0.2
"""For so long all clients prefer one look at one register: it is read often enough to be found cached."""
DEFINE_S: Final = 3.0
"""Between two times that something is defined anew. Until the catalog was read again, nothing is cached: that takes a
second or two on a machine that is busy with other things."""
RESOLVE_TIMEOUT_S: Final = 60.0
SUPERUSER: Final = "postgres"


class Spot(NamedTuple):
    """A register, where it is."""

    kind: Kind
    key: int

    @property
    def register(self) -> str:
        return f"{self.kind.name}/{self.key}"


def spots(server_version: int, instances: Sequence[str]) -> dict[Spot, str]:
    """All registers, and through which instance each is written; DIRECT gets none of DDL."""
    made = {}
    for kind in KINDS:
        if server_version < kind.server_version:
            continue
        for number in range(kind.keys or max(2, len(instances))):
            candidates = [one for one in instances if one != DIRECT or any(way.directly for way in kind.ways)]
            made[Spot(kind, number + 1)] = candidates[number % len(candidates)]
    return made


def schema(all_spots: Mapping[Spot, str]) -> str:
    """SQL that makes all tables and registers."""
    kinds = {spot.kind.name: spot.kind for spot in all_spots}
    seeds = "".join(f"{spot.kind.seed.replace('$1', str(spot.key))};\n" for spot in all_spots)
    return SCHEMA + "".join(kind.schema for kind in kinds.values()) + seeds


class World:
    """Written to by all clients of one event loop."""

    def __init__(
        self,
        cluster: Sandbox,
        endpoints: Mapping[str, Endpoint],
        all_spots: Mapping[Spot, str],
        rng: random.Random,
        done: Callable[[int], float],
        telling: bool = False,
    ) -> None:
        self.history: Final = History(
            {
                spot.register: Register(spot.register, instance, all(way.directly for way in spot.kind.ways))
                for spot, instance in all_spots.items()
            }
        )
        self.spots: Final = dict(all_spots)
        self.stop: Final = asyncio.Event()
        self.failures: Final[Counter[str]] = Counter()
        """Statements that did not succeed, by SQLSTATE."""
        self.telling: Final = telling
        """Sessions ask to be told where their statements went."""
        self.sessions = 0
        self.defined_at = 0.0
        """When something was defined last."""
        self.looks: Final[Counter[str]] = Counter()
        """Reads by kind."""
        self.ways: Final[Counter[str]] = Counter()
        """Writes by kind and way."""
        self.forms: Final[Counter[str]] = Counter()
        """Writes by what became of their transaction."""
        self._cluster: Final = cluster
        self._endpoints: Final = endpoints
        self._rng: Final = rng
        self._done: Final = done
        self._snapshots: Final[Iterator[int]] = itertools.count(1)
        self._versions: Final[dict[str, int]] = dict.fromkeys(self.history.registers, 0)
        self._all: Final = list(all_spots)
        self._weights: Final = [spot.kind.weight for spot in all_spots]
        self._hot = self.choose(rng)
        self._hot_until = 0.0

    def may_define(self, now: float) -> bool:
        """Whether something may be defined anew."""
        return now - self.defined_at >= DEFINE_S

    # Where to connect

    def endpoint(self, instance: str) -> Endpoint:
        """Of one of the Pointsmans, or of the primary as of now."""
        if instance != DIRECT:
            return self._endpoints[instance]
        primary, any_one = self._cluster.primary, next(iter(self._endpoints.values()))
        return any_one._replace(host=primary.host, port=primary.port)

    def instances(self) -> list[str]:
        """The Pointsmans' names."""
        return list(self._endpoints)

    # What is written and read

    def choose(self, rng: random.Random) -> tuple[Spot, Look]:
        """A look at a register: first at those of a kind that nobody has looked at yet."""
        unseen = [spot for spot in self._all if spot.kind.name not in self.looks]
        spot = rng.choice(unseen) if unseen else rng.choices(self._all, self._weights)[0]
        return spot, rng.choice(spot.kind.looks)

    def hot(self, now: float) -> tuple[Spot, Look]:
        """What all look at just now."""
        if now > self._hot_until:
            self._hot, self._hot_until = self.choose(self._rng), now + HOT_S
        return self._hot

    def next_version(self, spot: Spot) -> int:
        """For the one who writes it."""
        self._versions[spot.register] += 1
        return self._versions[spot.register]

    def snapshot(self) -> int:
        """A number for a transaction with a snapshot of its own."""
        return next(self._snapshots)

    def record(self, operation: Operation) -> None:
        """Keep it."""
        self.history.operations.append(operation)
        self.progress()

    def progress(self) -> float:
        """The part of the load that is done; at 1 it is told to stop."""
        done = self._done(len(self.history.operations))
        if done >= 1:
            self.stop.set()
        return done

    # Beside the load

    async def base(self) -> dict[str, int]:
        """Each register as the primary has it, asked directly."""
        connection = await asyncpg.connect(self._cluster.url(user=SUPERUSER))
        try:
            return {spot.register: await _version(connection, spot) for spot in self.spots}
        finally:
            await connection.close()

    async def resolve(self, gid: str) -> None:
        """Roll a prepared transaction back if it is there: it holds locks until somebody does."""
        until = time.monotonic() + RESOLVE_TIMEOUT_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._cluster.url(user=SUPERUSER), timeout=5)
                try:
                    await connection.execute(f"ROLLBACK PREPARED '{gid}'", timeout=5)
                    return
                except asyncpg.UndefinedObjectError:
                    return
                finally:
                    connection.terminate()
            await asyncio.sleep(0.1)
        raise AssertionError(f"prepared transaction {gid} could not be resolved")

    async def resolve_all(self) -> None:
        """After a failover: what was prepared and not committed is nobody's any more."""
        connection = await asyncpg.connect(self._cluster.url(user=SUPERUSER))
        try:
            gids = [row[0] for row in await connection.fetch("SELECT gid FROM pg_prepared_xacts")]
        finally:
            await connection.close()
        for gid in gids:
            await self.resolve(gid)


async def _version(connection: asyncpg.Connection, spot: Spot) -> int:
    """What a register is, by the first look that shows a version and nothing else."""
    look = next(look for look in spot.kind.looks if look.columns == ("version",))
    return int(await connection.fetchval(look.sql, spot.key) or 0)
