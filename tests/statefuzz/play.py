"""The clients, and their steps carried out in both worlds."""

import random
from collections import deque
from typing import Final

from middleware.sandbox import Sandbox
from tests.differential.raw_client import Address
from tests.statefuzz import world
from tests.statefuzz.operation import Operation
from tests.statefuzz.pair import STARTUPS, Difference, Pair
from tests.statefuzz.step import Reconnect, Step, last_message

WAIT_TIMEOUT_S: Final = 5.0
"""For a server, and for notifications: what takes longer does not come."""


class Players:
    """All clients of a run."""

    def __init__(self, cluster: Sandbox, observer: world.Observer, endpoint: Address, clients: int) -> None:
        self.observer: Final = observer
        self._cluster: Final = cluster
        direct = world.address(cluster, world.TWIN, cluster.user)
        self.pairs: Final = [Pair(number, endpoint, direct) for number in range(clients)]

    def start(self, rng: random.Random, record: deque[Step]) -> Difference | None:
        """From the beginning: the rows of the start, nothing left on any server, new sessions; how these differ."""
        self.close()
        self.observer.clear(self._cluster)
        self.observer.restore([pair.table for pair in self.pairs])
        # Nobody is told of this change, and reads may go to a standby.
        self._cluster.wait_for_replay()
        for pair in self.pairs:
            step = Step(pair.number, Reconnect(rng.choice(STARTUPS), politely=True, last_words=""))
            record.append(step)
            if (difference := self.play(step)) is not None:
                return difference
        return None

    def again(self, steps: list[Step]) -> Difference | None:
        """From the beginning with these steps; the first difference."""
        self.close()
        self.observer.clear(self._cluster)
        self.observer.restore([self.pairs[number].table for number in {step.client for step in steps}])
        self._cluster.wait_for_replay()
        for step in steps:
            if not self.pairs[step.client].open:
                self.pairs[step.client].connect(STARTUPS[0])
            if (difference := self.play(step)) is not None:
                return difference
        return None

    def play(self, step: Step) -> Difference | None:
        """Do it in both worlds; how they differ."""
        pair = self.pairs[step.client]
        if isinstance(step.act, Operation):
            difference = pair.act(step.act)
            if difference is None and pair.idle and pair.notified:
                pair.notified = False
                difference = self._hear()
            return difference
        if isinstance(step.act, Reconnect):
            if pair.open:
                pair.close(politely=step.act.politely, last_words=last_message(step.act))
                self.observer.wait_until_gone(pair.there.process_id)
                if left := self.observer.locks_left():
                    return Difference("locks", pair.number, step.shown, (left,), (), tuple(pair.history))
            return pair.connect(step.act.startup)
        return pair.probe()

    def _hear(self) -> Difference | None:
        """A notification may be under way: compare what all have got so far."""
        payload = self.observer.mark()
        found = [pair.hear(payload, WAIT_TIMEOUT_S) for pair in self.pairs if pair.open]
        return next((difference for difference in found if difference is not None), None)

    def close(self) -> None:
        """End all sessions."""
        for pair in self.pairs:
            if pair.open:
                pair.close(politely=True)

    def pinned(self) -> int:
        return sum(pair.pinned for pair in self.pairs)

    def occupied(self) -> int:
        return sum(pair.occupied for pair in self.pairs)

    def notifications(self) -> int:
        return sum(pair.notes for pair in self.pairs)
