"""The fewest inputs, of the fewest messages and bytes, under which the same kind of fault comes up on a new stage."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tests.wirefuzz.mutate import Input, Pace

TRIALS_MAX: Final = 600
BYTES_MAX: Final = 400
"""Of a message that is made shorter byte by byte."""

Fails = Callable[[list[Input]], bool]
"""Plays inputs on a stage of their own; whether the fault comes up again."""


class _Budget:
    def __init__(self, fails: Fails) -> None:
        self._fails: Final = fails
        self.left = TRIALS_MAX

    def __call__(self, inputs: list[Input]) -> bool:
        if self.left <= 0:
            return False
        self.left -= 1
        return self._fails(inputs)


def shrink(inputs: Sequence[Input], fails: Fails) -> list[Input]:
    """`inputs` end with the one at which the fault came up. Empty where it does not come up again."""
    tried = _Budget(fails)
    found: list[Input] = []
    size = 1
    while size < 2 * len(inputs):
        if tried(list(inputs[-size:])):
            found = list(inputs[-size:])
            break
        size *= 2
    if not found:
        return []
    found = [*fewest(found[:-1], lambda rest: tried([*rest, found[-1]])), found[-1]]
    for index in range(len(found) - 1, -1, -1):
        found[index] = _smaller(found, index, tried)
    return found


def _smaller(inputs: list[Input], index: int, tried: _Budget) -> Input:
    """One of them with fewer messages, and shorter ones."""
    one = inputs[index]
    if one.pace is Pace.RANDOM:
        cut = one._replace(pieces=tuple(one.chunks()), pace=Pace.STEP)
        one = cut if tried([*inputs[:index], cut, *inputs[index + 1 :]]) else one

    def with_pieces(pieces: list[bytes]) -> bool:
        return tried([*inputs[:index], one._replace(pieces=tuple(pieces)), *inputs[index + 1 :]])

    pieces = fewest(list(one.pieces), with_pieces)
    for at, piece in enumerate(pieces):
        if len(piece) <= BYTES_MAX:
            pieces = _shorter(pieces, at, with_pieces)
    return one._replace(pieces=tuple(pieces))


def _shorter(pieces: list[bytes], at: int, fails: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The same with as few bytes of one of them as will do."""

    def with_bytes(kept: list[bytes]) -> list[bytes]:
        return [*pieces[:at], b"".join(kept), *pieces[at + 1 :]]

    each = [pieces[at][place : place + 1] for place in range(len(pieces[at]))]
    return with_bytes(fewest(each, lambda kept: fails(with_bytes(kept))))


T = TypeVar("T")


def fewest(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """Delta debugging: leave out larger parts first, then smaller ones, for as long as it still fails."""
    if not items or fails([]):
        return []
    size = len(items) // 2
    while size:
        start = 0
        while start < len(items):
            rest = items[:start] + items[start + size :]
            if len(rest) < len(items) and fails(rest):
                items = rest
            else:
                start += size
        size //= 2
    return items
