"""Mutations of a stream that is a list of messages, and how the stream is then delivered."""

import random
from collections.abc import Callable
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from middleware.wire.frontend import Flush, Query, Sync, Terminate
from tests.wirefuzz.corpus import LOGINS, SESSIONS, Session, startup

CODES: Final = b"QPBDECHSXFdcfp"
BACKEND_CODES: Final = b"RSKZ123nIsCtTDVAENGHWdcv"
LENGTHS: Final = (0, 1, 3, 4, 5, 8, 255, 10_000, 10_001, 65_536, 0x3FFF_FFFF, 0x4000_0000, 2**31 - 1, 2**31, 2**32 - 1)
BYTES: Final = (0, 1, 0x27, 0x3B, 0x7F, 0x80, 0xFF)
STORM: Final = 40
PIECES_MAX: Final = 200


class Ending(Enum):
    """What the client does when all is sent."""

    STAY = "stays"
    HALF = "half-closes"
    DROP = "drops its connection"


class Pace(Enum):
    """How what it sends arrives."""

    WHOLE = "at once"
    STEP = "message by message, each when all before it is answered"
    TURN = "message by message, the next before the answer"
    BYTES = "byte by byte"
    RANDOM = "cut at random"


class Input(NamedTuple):
    """One stream. `login` is sent first, a packet at a time where the server answers them."""

    name: str
    login: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    ending: Ending = Ending.STAY
    pace: Pace = Pace.STEP
    seed: int = 0
    """Of where it is cut."""
    sabotage: int | None = None
    """The seed of what its servers do (see broken.py); None where they do as they should."""
    legal_login: bool = True
    """Its login is as it was recorded, and succeeds."""

    def chunks(self) -> list[bytes]:
        """What is sent after the login, as it is sent."""
        stream = b"".join(self.pieces)
        if self.pace is Pace.WHOLE:
            return [stream] if stream else []
        if self.pace is Pace.BYTES:
            return [stream[at : at + 1] for at in range(len(stream))]
        if self.pace is Pace.RANDOM:
            rng = random.Random(self.seed)
            edges = sorted({0, len(stream), *(rng.randrange(len(stream) + 1) for _ in range(8))})
            return [stream[start:end] for start, end in pairwise(edges)]
        return [piece for piece in self.pieces if piece]


Mutation = Callable[[random.Random, list[bytes]], list[bytes]]


def _pick(rng: random.Random, pieces: list[bytes]) -> int:
    return rng.randrange(len(pieces))


def _at(pieces: list[bytes], index: int, *instead: bytes) -> list[bytes]:
    return [*pieces[:index], *instead, *pieces[index + 1 :]]


def flip(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    index = _pick(rng, pieces)
    piece = bytearray(pieces[index])
    if piece:
        piece[rng.randrange(len(piece))] ^= 1 << rng.randrange(8)
    return _at(pieces, index, bytes(piece))


def set_byte(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    index = _pick(rng, pieces)
    piece = bytearray(pieces[index])
    if piece:
        piece[rng.randrange(len(piece))] = rng.choice(BYTES)
    return _at(pieces, index, bytes(piece))


def length(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """The length field says something else."""
    index = _pick(rng, pieces)
    piece = pieces[index]
    old = int.from_bytes(piece[1:5], "big")
    new = rng.choice((*LENGTHS, max(0, old - 1), old + 1)) % 2**32
    return _at(pieces, index, piece[:1] + new.to_bytes(4, "big") + piece[5:])


def kind(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """The type is another's."""
    index = _pick(rng, pieces)
    code = rng.choice(CODES + BACKEND_CODES) if rng.random() < 0.8 else rng.randrange(256)
    return _at(pieces, index, bytes([code]) + pieces[index][1:])


def drop(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    return _at(pieces, _pick(rng, pieces))


def duplicate(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    index = _pick(rng, pieces)
    return _at(pieces, index, *[pieces[index]] * rng.choice((2, 2, 3, 10)))


def swap(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    one, other = _pick(rng, pieces), _pick(rng, pieces)
    changed = list(pieces)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


def shuffle(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    return rng.sample(pieces, len(pieces))


def truncate(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A message is cut off, and the next follows."""
    index = _pick(rng, pieces)
    return _at(pieces, index, pieces[index][: rng.randrange(len(pieces[index]) + 1)])


def shorten(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A message loses bytes from its middle or end, its length field saying so."""
    index = _pick(rng, pieces)
    code, body = pieces[index][:1], pieces[index][5:]
    start = rng.randrange(len(body) + 1)
    return _at(pieces, index, _message(code, body[:start] + body[start + rng.choice((1, 1, 2, 4, 1000)) :]))


def without_zeros(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A string does not end."""
    index = _pick(rng, pieces)
    code, body = pieces[index][:1], pieces[index][5:]
    return _at(pieces, index, _message(code, body.replace(b"\0", b"x", rng.choice((1, 2, -1)))))


def zeros(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A string ends too soon."""
    index = _pick(rng, pieces)
    code, body = pieces[index][:1], pieces[index][5:]
    at = rng.randrange(len(body) + 1)
    return _at(pieces, index, _message(code, body[:at] + b"\0" * rng.choice((1, 2, 8)) + body[at:]))


def counts(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A count of things that are not there."""
    index = _pick(rng, pieces)
    code, body = pieces[index][:1], pieces[index][5:]
    number = rng.choice((b"\xff\xff", b"\x7f\xff", b"\x80\x00", b"\x00\x01", b"\x01\x00", b"\x00\x00"))
    at = rng.randrange(len(body) + 1)
    return _at(pieces, index, _message(code, body[:at] + number + body[at + 2 :]))


def noise(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """A message of a known type holds anything."""
    index = _pick(rng, pieces)
    return _at(pieces, index, _message(bytes([rng.choice(CODES)]), rng.randbytes(rng.choice((0, 1, 4, 30, 300)))))


def bare_noise(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """What is no message."""
    index = _pick(rng, pieces)
    return _at(pieces, index, rng.randbytes(rng.choice((1, 5, 40))), pieces[index])


def storm(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    one = rng.choice((Sync().encode(), Flush().encode(), Sync().encode() + Flush().encode()))
    index = _pick(rng, pieces)
    return _at(pieces, index, pieces[index], *[one] * rng.randint(1, STORM))


def terminate(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    index = _pick(rng, pieces)
    return _at(pieces, index, pieces[index], Terminate().encode())


def stop(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """It ends at any byte."""
    index = _pick(rng, pieces)
    return [*pieces[:index], pieces[index][: rng.randrange(len(pieces[index]) + 1)]]


def splice(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    other = rng.choice(SESSIONS).messages
    return [*pieces[: _pick(rng, pieces) + 1], *other[rng.randrange(len(other) + 1) :]]


def graft(rng: random.Random, pieces: list[bytes]) -> list[bytes]:
    """Some messages of another session among these."""
    other = rng.choice(SESSIONS).messages
    start, index = rng.randrange(len(other)), _pick(rng, pieces)
    return [*pieces[:index], *other[start : start + rng.randint(1, 4)], *pieces[index:]]


def _message(code: bytes, body: bytes) -> bytes:
    return code + (len(body) + 4).to_bytes(4, "big") + body


MUTATIONS: Final[tuple[Mutation, ...]] = (
    flip,
    set_byte,
    length,
    kind,
    drop,
    duplicate,
    swap,
    shuffle,
    truncate,
    shorten,
    without_zeros,
    zeros,
    counts,
    noise,
    bare_noise,
    storm,
    terminate,
    stop,
    splice,
    graft,
)
SPOILERS: Final = frozenset({length, kind, truncate, bare_noise, flip, set_byte})
"""They mostly leave no boundaries between messages: one of them is enough."""

PACES: Final = (Pace.WHOLE, Pace.STEP, Pace.STEP, Pace.TURN, Pace.RANDOM, Pace.RANDOM)
ENDINGS: Final = (Ending.STAY, Ending.STAY, Ending.HALF, Ending.DROP)


def mutated(rng: random.Random, pieces: list[bytes]) -> tuple[list[bytes], list[str]]:
    """The same after none to four mutations, and their names."""
    names = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        if not pieces:
            break
        mutation = rng.choice(MUTATIONS)
        if mutation in SPOILERS and any(name in names for name in ("length", "kind", "truncate", "bare_noise")):
            continue
        pieces = mutation(rng, pieces)[:PIECES_MAX]
        names.append(mutation.__name__)
    return pieces, names


def session_input(rng: random.Random) -> Input:
    """A mutated session behind a login that succeeds."""
    session = rng.choice(SESSIONS)
    pieces, names = mutated(rng, list(session.messages))
    if rng.random() < 0.5:
        # Answers to all that is not a part of something unfinished.
        pieces = [*pieces, Sync().encode()]
    return _input(rng, session, session.login, pieces, names)


def login_input(rng: random.Random) -> Input:
    """A mutated login, and what would come behind it."""
    session = rng.choice(LOGINS if rng.random() < 0.8 else SESSIONS)
    login, names = mutated(rng, list(session.login))
    return _input(rng, session, tuple(login), list(session.messages), names)._replace(legal_login=False)


def server_input(rng: random.Random, number: int) -> Input:
    """A client that does nothing wrong, and whose servers do."""
    session = rng.choice(SESSIONS)
    own = [Query(b"select 'victim %d'" % number).encode()]
    name = rng.choice(("trusty", "trusty", "plain", "md5", "scram"))
    one = _input(rng, session, (startup(name, "broken"),), [*own, *session.messages, *own], ["servers"])
    return one._replace(sabotage=rng.randrange(2**32), legal_login=False)


def _input(
    rng: random.Random, session: Session, login: tuple[bytes, ...], pieces: list[bytes], names: list[str]
) -> Input:
    name = " + ".join((session.name, *names))
    pace = Pace.BYTES if rng.random() < 0.03 and sum(map(len, pieces)) < 600 else rng.choice(PACES)
    return Input(name, login, tuple(pieces), rng.choice(ENDINGS), pace, rng.randrange(2**32))
