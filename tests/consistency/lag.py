"""Standbys that lag: replay is paused and resumed at random, on the nodes themselves.

A paused standby goes on to receive WAL and to answer queries, of an ever older state.
"""

import asyncio
import random
import time
from typing import Any, Final

import asyncpg

from middleware.sandbox import Sandbox

INTERVAL_MIN_S: Final = 0.05
INTERVAL_MAX_S: Final = 1.5
SUPERUSER: Final = "postgres"


class Lag:
    """Turns a random standby's replay off, or on again, time after time; at the end all replay."""

    def __init__(self, cluster: Sandbox, rng: random.Random) -> None:
        self.pauses = 0
        self.paused_s = {node.name: 0.0 for node in cluster.standbys}
        """Seconds for which each standby's replay was paused."""
        self.all_paused_s = 0.0
        self._urls = {node.name: cluster.url(node, SUPERUSER) for node in cluster.standbys}
        self._rng = rng
        self._paused: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. The first standby pauses at once: a short load meets lag, too."""
        nodes: dict[str, Any] = {}
        try:
            for name, url in self._urls.items():
                nodes[name] = await asyncpg.connect(url)
            while not stop.is_set():
                name = self._rng.choice(list(nodes))
                await self._toggle(name, nodes[name])
                await self._rest(stop, self._rng.uniform(INTERVAL_MIN_S, INTERVAL_MAX_S))
        finally:
            for node in nodes.values():
                await node.execute("SELECT pg_wal_replay_resume()")
                await node.close()

    async def _toggle(self, name: str, node: Any) -> None:
        if name in self._paused:
            await node.execute("SELECT pg_wal_replay_resume()")
            self._paused.remove(name)
        else:
            await node.execute("SELECT pg_wal_replay_pause()")
            self._paused.add(name)
            self.pauses += 1

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            pass
        rested = time.monotonic() - began
        for name in self._paused:
            self.paused_s[name] += rested
        if len(self._paused) == len(self.paused_s):
            self.all_paused_s += rested
