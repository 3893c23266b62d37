"""A replication connection's stream from its server, as far as it must be understood: where messages end, and whether
the connection may.

The manual's "Streaming Replication Protocol": a walsender answers simple queries as other backends do, and streams, in
COPY-both mode, from CopyBothResponse on until both sides have said CopyDone. A stream has no end of its own, and its
client takes it up again elsewhere: it may be ended between any two messages. A command (BASE_BACKUP takes hours) would
have to begin anew.

    AT_REST --the client sends--> AT_WORK --ReadyForQuery--> AT_REST
                                  AT_WORK --CopyBothResponse--> STREAMING --CopyDone, or an error--> AT_WORK
"""

from typing import Final

from middleware.wire.codes import COPY_BOTH_RESPONSE, COPY_DONE, ERROR_RESPONSE, READY_FOR_QUERY

AT_REST: Final = 0
AT_WORK: Final = 1
STREAMING: Final = 2

HEADER_BYTES: Final = 5

REPLICATION_OFF: Final = 0
PHYSICAL: Final = 1
LOGICAL: Final = 2

PHYSICAL_DATABASE: Final = b"replication"
"""What stands for the database of a physical connection, which has none: the word for it in pg_hba.conf."""


def replication_of(value: bytes) -> int | None:
    """What a startup message's `replication` asks for: REPLICATION_OFF, PHYSICAL or LOGICAL; None for nothing valid.

    As PostgreSQL reads it: "database", or a boolean, of which a beginning is enough.
    """
    word = value.decode(errors="replace").lower()
    if word == "database":
        return LOGICAL
    if word and (word == "1" or "true".startswith(word) or "yes".startswith(word) or word == "on"):
        return PHYSICAL
    if word and (word == "0" or "false".startswith(word) or "no".startswith(word) or word in ("of", "off")):
        return REPLICATION_OFF
    return None


class ReplicationStream:
    """What one server has sent since its login."""

    __slots__ = ("_ahead", "_begun", "last", "state")

    def __init__(self) -> None:
        self.state = AT_REST
        self.last = 0
        """The code of the message that came last, or is coming."""
        self._ahead = 0
        """Bytes of it that are still to come."""
        self._begun = b""
        """A header that is not whole."""

    def sent(self) -> None:
        """The client has sent something."""
        if self.state == AT_REST:
            self.state = AT_WORK

    def feed(self, data: bytes) -> None:
        """The server has sent something. Raises ValueError where that can be no message."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        position = self._ahead
        while position + HEADER_BYTES <= len(data):
            length = int.from_bytes(data[position + 1 : position + HEADER_BYTES], "big")
            if length < 4:
                raise ValueError(f"a message of length {length}")
            self._take(data[position])
            position += 1 + length
        if position < len(data):
            self._begun, position = data[position:], len(data)
        self._ahead = position - len(data)

    def _take(self, code: int) -> None:
        self.last = code
        if code == READY_FOR_QUERY:
            self.state = AT_REST
        elif code == COPY_BOTH_RESPONSE:
            self.state = STREAMING
        elif code in (COPY_DONE, ERROR_RESPONSE) and self.state == STREAMING:
            self.state = AT_WORK

    def whole(self) -> bool:
        """Whether a message of ours may follow: the last one has come to its end."""
        return not self._ahead and not self._begun

    def may_end(self) -> bool:
        """Whether nothing is lost by ending it now that its client cannot take up elsewhere."""
        return self.state != AT_WORK and self.whole()
