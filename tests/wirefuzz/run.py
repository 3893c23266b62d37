"""Runs in memory: parts of some hundred inputs, each on a stage of its own, in as many processes as are given.

A part is made by the seed of the run and its own number alone, so any part can be played again by itself.
"""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

from tests.wirefuzz.mutate import Input, login_input, server_input, session_input
from tests.wirefuzz.shrink import shrink
from tests.wirefuzz.stage import Stage
from tests.wirefuzz.tally import Finding, Tally

PART_INPUTS: Final = 500
SORTS: Final = (("session", 6), ("login", 2), ("servers", 2))


class Plant(Enum):
    """A bug to be found."""

    NONE = "none"
    RAISE = "raise"
    """A CancelRequest for another worker makes the control channel raise."""
    DIRTY = "dirty"
    """DISCARD ALL does nothing: a server is handed over with what its client has left on it."""


class Plan(NamedTuple):
    """What to play."""

    inputs: int
    seed: int
    jobs: int = 1
    findings_max: int = 1
    """Begin no more parts then."""
    plant: Plant = Plant.NONE
    only: int | None = None
    """One part alone."""
    shrinks: bool = True

    def parts(self) -> list[tuple[int, int]]:
        """The number and the size of each."""
        whole = [(part, PART_INPUTS) for part in range(self.inputs // PART_INPUTS)]
        if self.inputs % PART_INPUTS:
            whole.append((len(whole), self.inputs % PART_INPUTS))
        return whole if self.only is None else [(self.only, PART_INPUTS)]


def inputs_of(seed: int, part: int) -> Iterator[tuple[str, Input]]:
    """The inputs of a part with their sorts, without end."""
    rng = random.Random(f"{seed}/{part}")
    sorts = [sort for sort, weight in SORTS for _ in range(weight)]
    number = 0
    while True:
        sort = rng.choice(sorts)
        number += 1
        if sort == "session":
            yield sort, session_input(rng)
        elif sort == "login":
            yield sort, login_input(rng)
        else:
            yield sort, server_input(rng, number)


def run(plan: Plan, done: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Play it all; `done` is told of each part that is over."""
    tally, began = Tally(), time.monotonic()
    tasks = [(plan, part, size) for part, size in plan.parts()]
    if plan.jobs == 1:
        for task in tasks:
            _take(tally, play_part(task), done)
            if len(tally.findings) >= plan.findings_max:
                break
    else:
        with multiprocessing.get_context("spawn").Pool(plan.jobs) as processes:
            for over in processes.imap_unordered(play_part, tasks):
                _take(tally, over, done)
                if len(tally.findings) >= plan.findings_max:
                    break
    tally.wall_s = time.monotonic() - began
    return tally


def _take(tally: Tally, over: Tally, done: Callable[[Tally], None]) -> None:
    tally.add(over)
    done(over)


def play_part(task: tuple[Plan, int, int]) -> Tally:
    """One part, up to its first fault."""
    plan, part, size = task
    tally, played = Tally(), list[Input]()
    with stage_for(plan.plant) as stage:
        for sort, one in islice(inputs_of(plan.seed, part), size):
            played.append(one)
            client = stage.play(one)
            tally.inputs[sort] += 1
            tally.mutations.update(one.name.split(" + ")[1:])
            state = "welcomed" if client.welcomed() >= 0 else "refused"
            tally.endings[f"{state}, {'closed by us' if client.ended_by_peer else 'left open'}"] += 1
            if stage.faults:
                break
        tally.servers_opened, tally.delay_s, tally.compared = stage.connections, stage.delay_s, stage.compared
        faults = list(stage.faults)
    if faults:
        fewest = shrink(played, fails_with(faults[0], plan.plant)) if plan.shrinks else []
        tally.findings.append(
            Finding(faults[0], plan.seed, part, len(played) - 1, tuple(fewest or played[-1:]), bool(fewest))
        )
    return tally


def stage_for(plant: Plant) -> Stage:
    stage = Stage()
    stage.saboteur.keeps_state = plant is Plant.DIRTY
    if plant is Plant.RAISE:
        stage.control.raises = RuntimeError
    return stage


def fails_with(fault: str, plant: Plant = Plant.NONE) -> Callable[[list[Input]], bool]:
    """Whether a fault of the same kind comes up on a new stage."""
    kind = fault.partition(":")[0]

    def fails(inputs: list[Input]) -> bool:
        with stage_for(plant) as stage:
            for one in inputs:
                stage.play(one)
                if stage.faults:
                    return any(found.partition(":")[0] == kind for found in stage.faults)
        return False

    return fails
