"""The GUCs a client wants, and how a server that serves many clients is given them.

They come from its startup message, which PostgreSQL applies to the session it starts, and from what it has SET since.
Our servers outlive the clients they are lent to, so each server knows whose parameters it has, and the difference is
sent in front of a client's first message, in the same write. set_config() is used rather than SET because it takes the
value as one string, as a startup message does (SET search_path TO 'a, b' would name one schema), and any name.
"""

import re
from collections.abc import Iterable
from typing import Final

from routing.catalog import ANYWHERE, SearchPath
from routing.router import is_on, search_path_of

NOT_GUCS: Final = frozenset({b"user", b"database", b"replication", b"options"})
"""Keys of a startup message that are no settings ("Message Formats", StartupMessage)."""

ROLES: Final = (b"session_authorization", b"role")
"""Settings that say who one is, in the order they are to be set: the first puts the second back."""

RESHAPES_STATEMENTS: Final = frozenset({b"search_path", b"role", b"session_authorization"})
"""Settings under which the same text may mean another statement."""

NAMES_MAX: Final = 100
"""Settings in one startup message. PostgreSQL bounds them by the packet's 10 000 bytes alone."""

OWN_PREFIX: Final = "pointsman."

_custom_name: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)+")

NO_WARNINGS: Final = frozenset({b"error", b"fatal", b"panic"})
"""Values of client_min_messages."""

PLAIN_ENCODINGS: Final = frozenset({b"utf8", b"utf-8", b"unicode"})


class StartupParameters:
    """The settings one client has asked for. Equal ones are one object (see Interned), so `is` compares them."""

    __slots__ = (
        "_becomes_another",
        "_search_path",
        "hears_no_warnings",
        "isolation",
        "opaque_backslash",
        "opaque_encoding",
        "own",
        "read_only",
        "reshapes",
        "values",
    )

    def __init__(self, values: tuple[tuple[bytes, bytes], ...]) -> None:
        self.values: Final = values
        known = dict(values)
        self.reshapes: Final = not RESHAPES_STATEMENTS.isdisjoint(known)
        encoding = known.get(b"client_encoding", b"utf8").strip(b"\"' ").lower()
        self.opaque_encoding: Final = encoding not in PLAIN_ENCODINGS
        """Bytes above 127 need not be UTF-8: a text that has some is not read."""
        scs = known.get(b"standard_conforming_strings", b"on").lower()
        self.opaque_backslash: Final = scs not in (b"on", b"true", b"yes", b"1")
        """A backslash may escape a quote in plain strings: a text that has one is not read."""
        self.hears_no_warnings: Final = known.get(b"client_min_messages", b"").lower() in NO_WARNINGS
        self._search_path: Final = known.get(b"search_path")
        self._becomes_another: Final = b"role" in known or b"session_authorization" in known
        isolation = known.get(b"default_transaction_isolation", b"").strip(b"\"' ").lower()
        self.isolation: Final = isolation.decode(errors="replace")
        """That of its transactions; "" where it has not said."""
        read_only = known.get(b"default_transaction_read_only")
        self.read_only: Final = None if read_only is None else is_on(read_only.decode(errors="replace"))
        """Whether its transactions are read-only unless they say otherwise; None where it has not said."""
        self.own: Final = tuple(
            (name.decode(errors="replace").removeprefix(OWN_PREFIX), value.decode(errors="replace").lower())
            for name, value in values
            if name.startswith(OWN_PREFIX.encode())
        )
        """Settings of ours, without the prefix."""

    def path_for(self, user: bytes) -> SearchPath | None:
        """The schemas that names may mean; None where the client has not said so at login."""
        if self._becomes_another:
            return ANYWHERE
        if self._search_path is None:
            return None
        return search_path_of(self._search_path.decode(errors="replace"), user.decode(errors="replace"))

    def opaque(self, text: bytes) -> bool:
        """Whether the grammar we read with could take `text` for something else than the server does."""
        return (self.opaque_encoding and not text.isascii()) or (self.opaque_backslash and b"\\" in text)


NONE: Final = StartupParameters(())
"""No settings beyond the server's own: what a fresh server has."""


def gucs_of(startup: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The settings in a startup message's parameters, `options` taken apart, sorted by name.

    Raises ValueError, with PostgreSQL's words, for options we cannot take.
    """
    found = dict(parse_options(startup.get(b"options", b"")))
    for name, value in startup.items():
        if name not in NOT_GUCS and not name.startswith(b"_pq_."):
            found[name.lower()] = value
    if len(found) > NAMES_MAX:
        raise ValueError(f"too many settings in startup packet: more than {NAMES_MAX}")
    return tuple(sorted(found.items()))


def parse_options(options: bytes) -> list[tuple[bytes, bytes]]:
    """`-c name=value`, `-cname=value` and `--name=value`, separated by spaces that a backslash can escape."""
    words = _split(options)
    found: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == b"-c" and position < len(words):
            setting = words[position]
            position += 1
        elif (word.startswith(b"-c") and len(word) > 2) or (word.startswith(b"--") and len(word) > 2):
            setting = word[2:]
        else:
            raise ValueError(f"invalid command-line argument for server process: {word.decode(errors='replace')}")
        name, equals, value = setting.partition(b"=")
        if not equals:
            raise ValueError(f"{word.decode(errors='replace')} {setting.decode(errors='replace')} requires a value")
        found.append((name.replace(b"-", b"_").lower(), value))
    return found


def _split(options: bytes) -> list[bytes]:
    """Split at unescaped white space, as PostgreSQL's pg_split_opts does."""
    words: list[bytes] = []
    word = bytearray()
    begun = escaped = False
    for byte in options:
        if escaped:
            word.append(byte)
            escaped = False
        elif byte == 0x5C:
            escaped = begun = True
        elif byte in b" \t\n\r\v\f":
            if begun:
                words.append(bytes(word))
                word.clear()
            begun = False
        else:
            word.append(byte)
            begun = True
    if begun:
        words.append(bytes(word))
    return words


def change_query(have: StartupParameters, want: StartupParameters) -> bytes:
    """The SQL that takes a server from one client's settings to another's; empty where there is nothing to change.

    Roles are put back first and taken last: what one role may set another may not.
    """
    before, after = dict(have.values), dict(want.values)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not changed:
        return b""
    roles = [name for name in ROLES if name in before or name in after]
    parts = [b"RESET " + _identifier(name) for name in reversed(roles) if name in before]
    parts += [b"RESET " + _identifier(name) for name in before if name not in after and name not in roles]
    wanted = [(name, value) for name, value in after.items() if name in changed and name not in roles]
    wanted += [(name, after[name]) for name in roles if name in after]
    if wanted:
        parts.append(set_query(wanted))
    return b";".join(parts)


def setting_names(data: bytes) -> list[bytes]:
    """What in some bytes could be the name of a custom setting, in lower case: no list has these."""
    return sorted({name.lower() for name in _custom_name.findall(data)})[:NAMES_MAX]


def set_query(values: Iterable[tuple[bytes, bytes]], local: bool = False) -> bytes:
    """The SQL that sets all of them, for the session or (local) the transaction."""
    end = b",true)" if local else b",false)"
    calls = (b"pg_catalog.set_config(" + literal(name) + b"," + literal(value) + end for name, value in values)
    return b"SELECT " + b",".join(calls)


def _identifier(name: bytes) -> bytes:
    return b".".join(b'"' + part.replace(b'"', b'""') + b'"' for part in name.split(b"."))


def literal(value: bytes) -> bytes:
    # E'' reads the same under either standard_conforming_strings.
    return b"E'" + value.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'"


class Interned:
    """One StartupParameters object per set of settings, and the changes between them, both bounded."""

    def __init__(self, size_max: int = 1000) -> None:
        self.size_max: Final = size_max
        self._known: dict[tuple[tuple[bytes, bytes], ...], StartupParameters] = {(): NONE}
        self._changes: dict[tuple[StartupParameters, StartupParameters], bytes] = {}

    def of(self, values: tuple[tuple[bytes, bytes], ...]) -> StartupParameters:
        """The object for `values`. At the bound all are forgotten: those in use live on, and differ from new ones."""
        known = self._known.get(values)
        if known is None:
            if len(self._known) >= self.size_max:
                self._known = {(): NONE}
            known = self._known[values] = StartupParameters(values)
        return known

    def change(self, have: StartupParameters, want: StartupParameters) -> bytes:
        """change_query(), remembered."""
        query = self._changes.get((have, want))
        if query is None:
            if len(self._changes) >= self.size_max:
                self._changes = {}
            query = self._changes[have, want] = change_query(have, want)
        return query
