"""The ParameterStatus messages for a client's login, as a server has told them to another of its kind.

What its parameters are under its own settings only a server knows: so the first of a database, user and settings needs
one at its login, and waits for it like a statement. application_name is left out of that, for many clients have one of
their own each: where PostgreSQL takes it as it is, its ParameterStatus can be made here.
"""

from typing import Final

import cachetools

from middleware.session.parameters import StartupParameters
from middleware.wire.build import message
from middleware.wire.codes import PARAMETER_STATUS

KINDS_MAX: Final = 1000
"""What is remembered; beyond it the kind that was asked for longest ago is forgotten."""
NAME: Final = b"application_name"
NAME_BYTES_MAX: Final = 63
"""PostgreSQL cuts it off there (NAMEDATALEN)."""

_Pairs = tuple[tuple[bytes, bytes], ...]
_Kind = tuple[bytes, bytes, _Pairs, bool]
"""Database, user, settings, and whether an application_name comes on top."""


class Welcomes:
    """Those of one worker."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Final[cachetools.LRUCache[_Kind, bytes]] = cachetools.LRUCache(KINDS_MAX)

    def clear(self) -> None:
        """Other nodes may say otherwise."""
        self._known.clear()

    def known(self, database: bytes, user: bytes, parameters: StartupParameters) -> bytes | None:
        """What a client is to be told, or None where a server must be asked."""
        pairs, name = _split(parameters)
        told = self._known.get((database, user, pairs, name is not None))
        if told is None or name is None:
            return told
        return told + _status(NAME, name)

    def learn(self, database: bytes, user: bytes, parameters: StartupParameters, reported: dict[bytes, bytes]) -> bytes:
        """A server has been asked; returns what its client is to be told."""
        pairs, name = _split(parameters)
        told = b"".join(_status(*pair) for pair in reported.items() if pair[0] != NAME or name is None)
        self._known[database, user, pairs, name is not None] = told
        return told if name is None else told + _status(NAME, name)


def _split(parameters: StartupParameters) -> tuple[_Pairs, bytes | None]:
    """Its settings, and beside them its application_name, if it has one whose value is certain."""
    pairs = parameters.values
    name = dict(pairs).get(NAME)
    # Other bytes are shown as PostgreSQL escapes them: as "?", or since 16 in hexadecimal.
    if name is None or not all(32 <= byte <= 126 for byte in name):
        return pairs, None
    return tuple(pair for pair in pairs if pair[0] != NAME), name[:NAME_BYTES_MAX]


def _status(name: bytes, value: bytes) -> bytes:
    return message(PARAMETER_STATUS, name + b"\0" + value + b"\0")
