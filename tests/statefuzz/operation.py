"""How a statement is sent: as messages, in batches of their own or shared."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from middleware.wire.frontend import Bind, Close, Describe, Execute, Parse, Query, Sync
from tests.statefuzz.phrase import Phrase

SYNC: Final = Sync().encode()


class Part(NamedTuple):
    """Extended-query messages without a Sync, or a Query."""

    kind: str
    shown: str
    data: bytes
    occupies: bool = False
    notifies: bool = False
    resets: bool = False


class Operation(NamedTuple):
    """What a client sends before it waits for answers."""

    form: str
    kinds: tuple[str, ...]
    shown: str
    data: bytes
    readies: int
    """How many ReadyForQuery messages answer it."""
    occupies: bool
    notifies: bool


def extended(phrase: Phrase, describe: bool = True) -> Part:
    """Parse, Bind, Describe, Execute of the unnamed statement."""
    shown = phrase.sql + (f"  -- {', '.join(phrase.arguments)}" if phrase.arguments else "")
    parse, arguments = Parse(b"", phrase.sql.encode()), tuple(argument.encode() for argument in phrase.arguments)
    messages = parse.encode() + Bind(parameters=arguments).encode()
    if describe:
        messages += Describe(b"P").encode()
    data = messages + Execute().encode()
    return Part(phrase.kind, shown, data, phrase.occupies, phrase.notifies, phrase.resets)


def simple(phrase: Phrase) -> Part:
    """A Query."""
    data = Query(phrase.sql.encode()).encode()
    return Part(phrase.kind, phrase.sql, data, phrase.occupies, phrase.notifies, phrase.resets)


def parse_named(name: str, text: str) -> Part:
    data = Parse(name.encode(), text.encode()).encode() + Describe(b"S", name.encode()).encode()
    return Part("Parse", f"Parse {name}: {text}", data)


def run_named(name: str, argument: str | None) -> Part:
    """Bind and Execute; the number of arguments may be wrong."""
    arguments = () if argument is None else (argument.encode(),)
    bind, describe = Bind(statement=name.encode(), parameters=arguments), Describe(b"P")
    data = bind.encode() + describe.encode() + Execute().encode()
    shown = f"Bind {name}({argument or ''}), Describe, Execute"
    return Part("Bind", shown, data, occupies=True)


def close_named(name: str) -> Part:
    return Part("Close", f"Close {name}", Close(b"S", name.encode()).encode())


def open_portal(portal: str, text: str) -> Part:
    """A portal that goes on in later batches of its transaction, and shares its name with cursors."""
    bind, execute = Bind(portal.encode()), Execute(portal.encode(), 1)
    data = Parse(b"", text.encode()).encode() + bind.encode() + execute.encode()
    return Part("portal", f"Parse {text}, Bind to portal {portal}, Execute 1 row", data)


def go_on(portal: str) -> Part:
    return Part("portal", f"Execute 1 row of portal {portal}", Execute(portal.encode(), 1).encode())


def close_portal(portal: str) -> Part:
    return Part("portal", f"Close portal {portal}", Close(b"P", portal.encode()).encode())


def pipeline(parts: Sequence[Part]) -> Operation:
    """All of them in front of one Sync."""
    form = "extended" if len(parts) == 1 else "pipeline"
    return _operation(form, parts, b"".join(part.data for part in parts) + SYNC, 1, ", ")


def queries(parts: Sequence[Part]) -> Operation:
    """A Query each, in one write."""
    form = "Query" if len(parts) == 1 else "Querys in one write"
    return _operation(form, parts, b"".join(part.data for part in parts), len(parts), " | ")


def script(phrases: Sequence[Phrase]) -> Operation:
    """One Query with several statements."""
    data = Query("; ".join(phrase.sql for phrase in phrases).encode()).encode()
    return _operation("Query of several", [simple(phrase) for phrase in phrases], data, 1, "; ")


def _operation(form: str, parts: Sequence[Part], data: bytes, readies: int, between: str) -> Operation:
    kinds, shown = tuple(part.kind for part in parts), between.join(part.shown for part in parts)
    occupies, notifies = any(part.occupies for part in parts), any(part.notifies for part in parts)
    return Operation(form, kinds, f"[{form}] {shown}", data, readies, occupies, notifies)
