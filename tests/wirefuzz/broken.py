"""Servers that do not keep to the protocol: what a model backend says, mutated; in the login, in answers, out of turn.

A saboteur decides, by the seed of an input, at which of a backend's writes something happens, and what. Only backends
of the database "broken" are touched, and only while it is armed.
"""

import asyncio
import functools
import random
from collections import deque
from typing import Final

from middleware.auth.scram import ITERATIONS, ServerExchange, Verifier, keys_of, verifier_of
from middleware.errors import PointsmanError
from middleware.wire.backend import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    CommandComplete,
    DataRow,
    NoticeResponse,
    ParameterStatus,
    ReadyForQuery,
)
from middleware.wire.frontend import SASLInitialResponse, SASLResponse
from tests.wirefuzz import mutate
from tests.wirefuzz.corpus import split
from tests.wirefuzz.postgres import Backends, Postgres

DATABASE: Final = b"broken"
SALT: Final = b"0123456789abcdef"
KEPT: Final = 200
LATE_S: Final = 0.1
WRITES: Final = 8

ON_ANSWERS: Final[tuple[mutate.Mutation, ...]] = (
    mutate.flip,
    mutate.set_byte,
    mutate.length,
    mutate.length,
    mutate.kind,
    mutate.drop,
    mutate.duplicate,
    mutate.swap,
    mutate.shuffle,
    mutate.truncate,
    mutate.shorten,
    mutate.without_zeros,
    mutate.zeros,
    mutate.counts,
    mutate.bare_noise,
    mutate.stop,
)
UNASKED: Final = (
    DataRow((b"unasked",)).encode(),
    CommandComplete(b"SELECT 1").encode(),
    ReadyForQuery(b"I").encode(),
    ReadyForQuery(b"T").encode(),
    NoticeResponse(((b"S", b"WARNING"), (b"C", b"01000"), (b"M", b"hm"))).encode(),
    ParameterStatus(b"TimeZone", b"Asia/Tokyo").encode(),
    b"1\0\0\0\x04",
    b"G\0\0\0\x07\0\0\0",
)
ACTS: Final = ("mutate", "mutate", "mutate", "mutate", "graft", "close", "half-close", "silence", "late")


class Saboteur:
    """What is done to the next writes of all backends of that database."""

    def __init__(self) -> None:
        self.keeps_state = False
        """No backend drops anything at DISCARD ALL."""
        self._rng: random.Random | None = None
        self._at: set[int] = set()
        self._writes = 0
        self._said: deque[bytes] = deque(maxlen=KEPT)
        """What backends of that database have said, whoever's it was."""

    def arm(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._writes = 0
        self._at = {self._rng.randrange(WRITES) for _ in range(self._rng.choice((1, 1, 2, 4)))}

    def disarm(self) -> None:
        self._rng = None

    def says(self, data: bytes, backend: "BrokenPostgres") -> bytes:
        """What a backend says where it wanted to say `data`."""
        rng = self._rng
        if rng is None:
            return data
        pieces = split(data)
        self._said.extend(pieces)
        self._writes += 1
        if self._writes - 1 not in self._at:
            return data
        act = rng.choice(ACTS)
        if act == "mutate":
            for _ in range(rng.choice((1, 1, 2))):
                if pieces:
                    pieces = rng.choice(ON_ANSWERS)(rng, pieces)
            return b"".join(pieces)
        if act == "graft":
            at = rng.randrange(len(pieces) + 1)
            return b"".join([*pieces[:at], rng.choice(self._said), *pieces[at:]])
        if act in ("close", "half-close"):
            backend.end_after_this(half=act == "half-close")
            return data[: rng.randrange(len(data) + 1)]
        if act == "silence":
            return b""
        unasked = rng.choice(UNASKED)
        backend.say_later(unasked[: rng.randrange(1, len(unasked) + 1)])
        return data


class BrokenPostgres(Postgres):
    """A backend under a saboteur. In that database it asks for the proof that its user is named after."""

    def __init__(self, saboteur: Saboteur, loop: asyncio.AbstractEventLoop, backends: Backends) -> None:
        super().__init__(loop, backends)
        self.sql.discards = not saboteur.keeps_state
        self._saboteur: Final = saboteur
        self._exchange: ServerExchange | None = None
        self._proving = False

    def write(self, data: bytes) -> None:
        if self.startup.get(b"database") == DATABASE:
            data = self._saboteur.says(data, self)
        self._transport.write(data)

    def say_later(self, data: bytes) -> None:
        self._loop.call_later(LATE_S, self._say_late, data)

    def _say_late(self, data: bytes) -> None:
        if not self.ended:
            self._transport.write(data)

    def end_after_this(self, half: bool) -> None:
        self.ended = True
        self._loop.call_soon(self._transport.write_eof if half else self._transport.close)

    # Proofs

    def log_in(self) -> None:
        user = self.startup.get(b"user", b"")
        if self.startup.get(b"database") != DATABASE or user not in (b"plain", b"md5", b"scram"):
            self.welcome()
            return
        self._proving = True
        if user == b"plain":
            self.write(AuthenticationCleartextPassword().encode())
        elif user == b"md5":
            self.write(AuthenticationMD5Password(b"salt").encode())
        else:
            self.write(AuthenticationSASL((b"SCRAM-SHA-256",)).encode())

    def _start(self) -> bool:
        if not self._proving:
            return super()._start()
        if len(self._pending) < 5 or len(self._pending) <= int.from_bytes(self._pending[1:5], "big"):
            return False
        length = int.from_bytes(self._pending[1:5], "big")
        body, self._pending = self._pending[5 : length + 1], self._pending[length + 1 :]
        try:
            self._take_proof(body)
        except PointsmanError:
            # What the saboteur has made of the challenge.
            self._end()
            return False
        return True

    def _take_proof(self, body: bytes) -> None:
        if self.startup.get(b"user") != b"scram":
            self.welcome()
        elif self._exchange is None:
            first = SASLInitialResponse.decode(body)
            self._exchange = ServerExchange(scram_verifier(), False, "scram", b"", plus_offered=False)
            self.write(AuthenticationSASLContinue(self._exchange.first(first.mechanism, first.data or b"")).encode())
        else:
            final = self._exchange.final(SASLResponse.decode(body).data)
            self.write(AuthenticationSASLFinal(final).encode())
            self.welcome()


@functools.cache
def scram_verifier() -> Verifier:
    return verifier_of(keys_of("scram", SALT, ITERATIONS), SALT, ITERATIONS)
