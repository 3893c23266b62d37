"""In how many ways a statement can be sent: each gives the bytes of one exchange, or of two that belong together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from middleware.wire.fields import Message
from middleware.wire.frontend import PORTAL, STATEMENT, Bind, Close, Describe, Execute, Flush, Parse, Query, Sync

TEXT: Final = 0
BINARY: Final = 1
MIXED: Final = 2
"""The first column as text, the second as binary, and so on by turns: of a statement whose columns are counted."""


class Asked(msgspec.Struct, frozen=True):
    """A statement, and what is given for its parameters."""

    sql: str
    columns: int
    """How many its answer has."""
    parameters: tuple[bytes | None, ...] = ()
    parameter_formats: tuple[int, ...] = ()
    parameter_types: tuple[int, ...] = ()


class Exchange(msgspec.Struct, frozen=True):
    """Bytes, and how many ReadyForQuery answer them; `before` is an exchange that comes first, its answer apart."""

    send: bytes
    number: int = 1
    before: bytes = b""


Way = Callable[[Asked, int], Exchange]


def _encoded(*messages: Message) -> bytes:
    return b"".join(message.encode() for message in messages)


def _parse(asked: Asked, name: bytes = b"") -> Parse:
    return Parse(name, asked.sql.encode(), asked.parameter_types)


def _bind(asked: Asked, result_format: int, statement: bytes = b"", portal: bytes = b"") -> Bind:
    formats: Mapping[int, tuple[int, ...]] = {
        TEXT: (),
        BINARY: (1,),
        MIXED: tuple(number % 2 for number in range(asked.columns)),
    }
    return Bind(portal, statement, asked.parameter_formats, asked.parameters, formats[result_format])


def _simple(asked: Asked, result_format: int) -> Exchange:
    return Exchange(Query(asked.sql.encode()).encode())


def _unnamed(asked: Asked, result_format: int) -> Exchange:
    return Exchange(_encoded(_parse(asked), _bind(asked, result_format), Execute(), Sync()))


def _portal_described(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format)
    return Exchange(_encoded(_parse(asked), bind, Describe(PORTAL), Execute(), Sync()))


def _statement_described(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format)
    return Exchange(_encoded(_parse(asked), Describe(STATEMENT), bind, Execute(), Sync()))


def _both_described(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format)
    described = (_parse(asked), Describe(STATEMENT), bind, Describe(PORTAL), Execute(), Sync())
    return Exchange(_encoded(*described))


def _named_at_once(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format, b"named")
    return Exchange(_encoded(_parse(asked, b"named"), bind, Describe(PORTAL), Execute(), Sync()))


def _named_before(asked: Asked, result_format: int) -> Exchange:
    before = _encoded(_parse(asked, b"named"), Describe(STATEMENT, b"named"), Sync())
    return Exchange(_encoded(_bind(asked, result_format, b"named"), Execute(), Sync()), before=before)


def _named_before_described(asked: Asked, result_format: int) -> Exchange:
    before = _encoded(_parse(asked, b"named"), Sync())
    bind = _bind(asked, result_format, b"named")
    return Exchange(_encoded(bind, Describe(PORTAL), Execute(), Sync()), before=before)


def _flushed(asked: Asked, result_format: int) -> Exchange:
    """As asyncpg does it."""
    before = _encoded(_parse(asked, b"named"), Describe(STATEMENT, b"named"), Flush(), Sync())
    return Exchange(_encoded(_bind(asked, result_format, b"named"), Execute(), Sync()), before=before)


def _named_portal(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format, portal=b"door")
    closed = (Describe(PORTAL, b"door"), Execute(b"door"), Close(PORTAL, b"door"), Sync())
    return Exchange(_encoded(_parse(asked), bind, *closed))


def _twice_in_a_batch(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format)
    return Exchange(_encoded(_parse(asked), bind, Execute(), bind, Describe(PORTAL), Execute(), Sync()))


def _pipeline(asked: Asked, result_format: int) -> Exchange:
    bind = _bind(asked, result_format)
    return Exchange(_encoded(_parse(asked), bind, Execute(), Sync(), _parse(asked), bind, Execute(), Sync()), 2)


def _in_pieces(asked: Asked, result_format: int) -> Exchange:
    """The portal is suspended after each row, and closed by the end of the batch."""
    bind = _bind(asked, result_format)
    return Exchange(_encoded(_parse(asked), bind, Execute(b"", 1), Execute(b"", 1), Execute(b"", 0), Sync()))


SIMPLE: Final[Mapping[str, Way]] = {"simple": _simple}
PLAIN: Final[Mapping[str, Way]] = {
    "unnamed": _unnamed,
    "unnamed, portal described": _portal_described,
    "unnamed, statement described": _statement_described,
    "unnamed, both described": _both_described,
    "named, at once": _named_at_once,
    "named before": _named_before,
    "named before, portal described": _named_before_described,
    "flushed": _flushed,
}
"""What drivers do, one answer for each: these are found in the cache."""
ODD: Final[Mapping[str, Way]] = {
    "named portal": _named_portal,
    "twice in a batch": _twice_in_a_batch,
    "pipeline": _pipeline,
    "in pieces": _in_pieces,
}
"""What may be cached or not, and is the same either way."""
FORMATS: Final = {"text": TEXT, "binary": BINARY, "mixed": MIXED}


def ways(asked: Asked, choices: Sequence[Mapping[str, Way]]) -> Iterator[tuple[str, Exchange]]:
    """All exchanges for a statement, by name."""
    for choice in choices:
        for name, way in choice.items():
            if way is _simple:
                if not asked.parameters:
                    yield name, way(asked, TEXT)
                continue
            for format_name, result_format in FORMATS.items():
                yield f"{name}, {format_name}", way(asked, result_format)
