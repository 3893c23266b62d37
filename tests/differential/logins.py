"""Ways in, to be tried on PostgreSQL and on Pointsman: what a frontend sends first."""

from typing import Final

import msgspec

from middleware.wire.codes import PROTOCOL_3_0, PROTOCOL_3_2
from middleware.wire.frontend import GSSENCRequest, SSLRequest, StartupMessage
from tests.differential.raw_client import Address


class Login(msgspec.Struct, frozen=True):
    """A startup message, with `encryption` asked for in front of it, or bytes that are none."""

    name: str
    parameters: tuple[tuple[bytes, bytes], ...] = ()
    protocol: int = PROTOCOL_3_0
    defaults: bool = True
    """User and database are put in front of the parameters."""
    password: str | None = None
    encryption: tuple[bytes, ...] = ()
    raw: bytes | None = None
    difference: str = ""
    """Why what a refusal says may differ; empty where it may not."""

    def packet(self, address: Address) -> bytes:
        if self.raw is not None:
            return self.raw
        who = ((b"user", address.user.encode()), (b"database", address.database.encode()))
        return StartupMessage((*(who if self.defaults else ()), *self.parameters), self.protocol).encode()


SILENCE: Final = "PostgreSQL tells its log alone"

LOGINS: Final = [
    Login("plain"),
    Login("protocol 3.1", protocol=PROTOCOL_3_0 + 1),
    Login("protocol 3.2", protocol=PROTOCOL_3_2),
    Login("protocol 3.3", protocol=PROTOCOL_3_2 + 1),
    Login("protocol 3.9999", protocol=PROTOCOL_3_0 + 9999),
    Login("protocol 2.0", protocol=0x0002_0000, difference="PostgreSQL refuses it in the format of protocol 2"),
    Login("protocol 4.0", protocol=0x0004_0000),
    Login("unknown option", ((b"_pq_.one", b"1"), (b"_pq_.two", b"2"))),
    Login("unknown option of protocol 3.2", ((b"_pq_.one", b"1"),), PROTOCOL_3_2),
    Login("settings", ((b"application_name", b"it"), (b"timezone", b"CET"), (b"DateStyle", b"German"))),
    Login("options", ((b"options", b"-c timezone=CET --intervalstyle=iso_8601 -c application_name=a\\ b"),)),
    Login("settings of an extension", ((b"my.setting", b"1"),)),
    Login("unknown setting", ((b"nonsense", b"1"),)),
    Login("unknown setting in options", ((b"options", b"-c nonsense=1"),)),
    Login("invalid value", ((b"timezone", b"Nowhere"),)),
    Login("invalid value in options", ((b"options", b"-c statement_timeout=soon"),)),
    Login("option without a value", ((b"options", b"-c timezone"),)),
    Login("option unheard of", ((b"options", b"-/"),)),
    Login("setting of the server's start", ((b"shared_buffers", b"1GB"),)),
    Login("other encoding", ((b"client_encoding", b"LATIN1"),)),
    Login("SSLRequest", encryption=(SSLRequest().encode(),)),
    Login("GSSENCRequest", encryption=(GSSENCRequest().encode(),)),
    Login("GSSENCRequest, SSLRequest", encryption=(GSSENCRequest().encode(), SSLRequest().encode())),
    Login("wrong password", password="wrong"),
    Login("unknown user", ((b"user", b"nobody"), (b"database", b"app")), defaults=False),
    Login("unknown database", ((b"database", b"nowhere"),)),
    Login("no user", ((b"database", b"app"),), defaults=False),
    Login("no parameters", defaults=False),
    Login("garbage", raw=b"GET / HTTP/1.1\r\n\r\n", difference=SILENCE),
    Login("too short", raw=b"\0\0\0\x04", difference=SILENCE),
    Login("too long", raw=b"\0\0\x27\x15\0\x03\0\0", difference=SILENCE),
    Login("no terminator", raw=b"\0\0\0\x11\0\x03\0\0user\0app\0"),
    Login("junk behind", raw=b"\0\0\0\x13\0\x03\0\0user\0app\0\0x"),
]
