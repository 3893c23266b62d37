"""The same input on a connection to a model backend itself: what a client is to be answered through the relay, too."""

import asyncio
from typing import Final

from middleware.errors import ProtocolViolation
from middleware.session.batch import LENGTH_MAX
from middleware.wire import codes
from middleware.wire.frontend import decode_frontend
from tests.wirefuzz.client import MemoryClient
from tests.wirefuzz.corpus import split
from tests.wirefuzz.memory import MemoryLoop, connect
from tests.wirefuzz.mutate import Input, Pace
from tests.wirefuzz.postgres import Backends, Postgres

TURNS: Final = 3
SLEEP_S: Final = 6.0


async def play(loop: MemoryLoop, one: Input, keeps_unnamed: bool = True) -> MemoryClient:
    """Play it, and wait for what takes its time."""
    client = MemoryClient()
    backend = Postgres(loop, Backends(), keeps_unnamed)
    connect(loop, client, backend)
    for packet in one.login:
        client.send(packet)
        await loop.quiet()
    for chunk in one.chunks():
        if client.closed:
            break
        client.send(chunk)
        if one.pace is Pace.TURN:
            for _ in range(TURNS):
                await asyncio.sleep(0)
        elif one.pace is Pace.BYTES:
            await asyncio.sleep(0)
        else:
            await loop.quiet()
    await loop.quiet()
    while backend.busy():
        await asyncio.sleep(SLEEP_S)
        await loop.quiet()
    client.drop()
    await loop.quiet()
    return client


ENDS_BATCH: Final = (codes.SYNC, codes.QUERY, codes.FUNCTION_CALL)


def unfinished(stream: bytes) -> bool:
    """Whether it ends within a batch: it is gathered then, and need not have been answered."""
    pieces = split(stream)
    last = pieces[-1] if pieces else b""
    whole = len(last) >= 5 and len(last) == 1 + int.from_bytes(last[1:5], "big")
    return bool(last) and not (whole and last[0] in ENDS_BATCH)


def malformed(stream: bytes) -> bool:
    """Whether some message of it is none, by its type, its length or its fields."""
    for piece in split(stream):
        if piece[0] not in LENGTH_MAX:
            return True
        if len(piece) >= 5 and len(piece) == 1 + int.from_bytes(piece[1:5], "big"):
            try:
                decode_frontend(piece[0], piece[5:])
            except ProtocolViolation:
                return True
        elif len(piece) >= 5 and not 4 <= int.from_bytes(piece[1:5], "big") <= LENGTH_MAX[piece[0]]:
            return True
    return False


def says_goodbye(stream: bytes) -> bool:
    """Whether a Terminate is in it: what is not answered by then need not be."""
    return any(piece[0] == codes.TERMINATE for piece in split(stream))


EXTENDED: Final = (codes.PARSE, codes.BIND, codes.DESCRIBE, codes.EXECUTE, codes.CLOSE)


def executes_within(stream: bytes) -> bool:
    """Whether a Query may use what PREPARE has made, where a Sync is due: a server that lacks it cannot be given it."""
    if b"prepare" not in stream.lower():
        return False
    open_ = False
    for piece in split(stream):
        if open_ and piece[0] == codes.QUERY:
            return True
        open_ = piece[0] in EXTENDED or (open_ and piece[0] != codes.SYNC)
    return False


def difference(one: Input, through: MemoryClient, directly: MemoryClient) -> str:
    """How what was heard through the relay differs from what is right; "" if it does not.

    A batch that is not finished may still be gathered. A message that is malformed may end the connection at once, even
    where PostgreSQL would skip it or answer with an ERROR; what was asked before it need not be answered then. So may
    what has no place in a COPY, if that has failed before.
    """
    here, there = heard(through), heard(directly)
    stream = b"".join(one.pieces)
    if one.pace is not Pace.STEP:
        # An unnamed statement that could not be parsed, used ahead of that answer, is parsed again: no less an error.
        here, there = ([word.replace("!42601", "!26000") for word in words] for words in (here, there))
    if here == there or executes_within(stream) or (unfinished(stream) and there[: len(here)] == here):
        return ""
    if here[-2:] == ["!08P01 FATAL", "closed"]:
        answers = here[:-2]
        in_copy = "CopyInResponse" in answers
        while in_copy and answers and answers[-1][0] != "Z":
            # The answer to what should have been the COPY's failure.
            answers.pop()
        if (in_copy or malformed(stream)) and there[: len(answers)] == answers:
            return ""
    if here[-1:] == ["closed"] == there[-1:] and there[: len(here) - 1] == here[:-1] and says_goodbye(stream):
        return ""
    return f"through the relay {here}, directly {there}"


def heard(client: MemoryClient) -> list[str]:
    """The words behind the login, and whether it was closed."""
    since = client.welcomed()
    words = client.words(since) if since >= 0 else ["no login"]
    return [*words, "closed"] if client.ended_by_peer else words
