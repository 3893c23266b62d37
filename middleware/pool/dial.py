"""Opening connections to nodes: names to addresses, sockets, TLS.

Addresses of a name are kept for dns_max_ttl, for all pools and cancel requests of a worker; when they change, whoever
is connected to one that is gone is told by `moved`. Addresses are tried in turn, without waiting for long for each. TLS
is negotiated as libpq does it: asked for by an SSLRequest ("SSL Session Encryption"), or direct.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from middleware.config import NetworkSettings
from middleware.errors import ConnectionLost, PointsmanError
from middleware.sqlstate import INVALID_AUTHORIZATION_SPECIFICATION

SSL_REQUEST: Final = b"\0\0\0\x08\x04\xd2\x16\x2f"

NEXT_ADDRESS_S: Final = 0.25
"""How long an address is given to take a connection before the next one is tried, too."""

Address = tuple[int, str]
"""Family and address."""

Made = Callable[[], asyncio.Protocol]
"""Makes the protocol of a connection that is ready for a startup message."""


class Dialer:
    """One worker's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        network: NetworkSettings,
        moved: Callable[[str, frozenset[str]], None],
    ) -> None:
        self._loop: Final = loop
        self._network = network
        self._moved: Final = moved
        self._known: Final[dict[str, tuple[list[Address], float]]] = {}
        """The addresses of a name, and until when they are used without asking again."""
        self._resolving: Final[dict[str, asyncio.Task[None]]] = {}
        self.sslmode = "disable"
        self.direct = False
        self.context: ssl.SSLContext | None = None

    def use_network(self, network: NetworkSettings) -> None:
        """Open connections with these options from now on, and resolve names as often."""
        self._network = network

    def use(self, sslmode: str, direct: bool, context: ssl.SSLContext | None) -> None:
        """Open connections like this from now on."""
        self.sslmode, self.direct, self.context = sslmode, direct, context

    async def open(self, host: str, port: int, made: Made, *, encrypted: bool | None = None, address: str = "") -> None:
        """Connect: with TLS or without as `encrypted` says, as far as sslmode lets it. Raises OSError, ConnectionLost.

        None is for what sslmode tries first, and with "prefer" also for going on without TLS where there can be none.
        `address` is the one of its addresses to connect to, where that matters.
        """
        if host.startswith("/"):
            await self._loop.create_unix_connection(made, f"{host}/.s.PGSQL.{port}")
            return
        literal = _literal(address)
        left = [literal] if literal else list(await self._addresses(host))
        while True:
            one, at = await self._first_of(left, port)
            try:
                try:
                    await self._go_on(one, host, made, encrypted)
                except (OSError, ConnectionLost):
                    if self.sslmode != "prefer" or encrypted is not None or self.context is None:
                        raise
                    one, at = await self._first_of([at], port)
                    await self._go_on(one, host, made, False)
            except OSError:
                left.remove(at)
                if not left:
                    raise
            else:
                return

    async def _first_of(self, addresses: list[Address], port: int) -> tuple[socket.socket, Address]:
        """A connection to the first address that takes one. Raises OSError.

        In their order; one that does not answer, its packets lost, soon gets company (RFC 8305, "Happy Eyeballs").
        """
        next_ones = iter(addresses)
        attempts: dict[asyncio.Task[None], tuple[socket.socket, Address]] = {}
        failure: OSError | None = None
        try:
            while True:
                at = next(next_ones, None)
                if at is not None:
                    try:
                        one = self._socket(at[0])
                    except OSError as error:
                        # This machine may have no IPv6.
                        failure = failure or error
                        continue
                    attempts[self._loop.create_task(self._loop.sock_connect(one, (at[1], port)))] = one, at
                elif not attempts:
                    assert failure is not None
                    raise failure
                patience_s = None if at is None else NEXT_ADDRESS_S
                done, _ = await asyncio.wait(attempts, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    one, at = attempts.pop(task)
                    try:
                        task.result()
                    except BaseException as error:
                        one.close()
                        if not isinstance(error, OSError):
                            raise
                        failure = failure or error
                    else:
                        return one, at
        finally:
            for task in attempts:
                task.cancel()
            # The loop lets go of a socket when the task that waits for it has ended.
            await asyncio.gather(*attempts, return_exceptions=True)
            for one, _ in attempts.values():
                one.close()

    async def _go_on(self, one: socket.socket, host: str, made: Made, encrypted: bool | None) -> None:
        """It is connected: TLS, as far as that is wanted."""
        try:
            context = self.context
            if context is None or encrypted is False or (self.sslmode == "allow" and not encrypted):
                await self._loop.create_connection(made, sock=one)
            elif self.direct:
                await self._loop.create_connection(made, sock=one, ssl=context, server_hostname=host)
            else:
                await self._negotiate(one, host, made, context)
        except ssl.SSLCertVerificationError as error:
            one.close()
            raise ConnectionLost("certificate verification failed", detail=f"{error.verify_message}.") from None
        except ssl.SSLError as error:
            one.close()
            raise ConnectionLost("TLS handshake failed", detail=f"{error.reason or error}.") from None
        except BaseException:
            one.close()
            raise

    async def _negotiate(self, one: socket.socket, host: str, made: Made, context: ssl.SSLContext) -> None:
        """Ask for TLS, and go on as the answer allows."""
        await self._loop.sock_sendall(one, SSL_REQUEST)
        answer = await self._loop.sock_recv(one, 1)
        if answer == b"S":
            await self._loop.create_connection(made, sock=one, ssl=context, server_hostname=host)
        elif answer == b"N" and self.sslmode in ("allow", "prefer"):
            await self._loop.create_connection(made, sock=one)
        elif answer == b"N":
            raise ConnectionLost("server does not support TLS", detail=f'server_tls_sslmode is "{self.sslmode}".')
        else:
            raise ConnectionResetError("server closed the connection when asked for TLS")

    def _socket(self, family: int) -> socket.socket:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        set_options(one, self._network)
        return one

    # Names

    async def _addresses(self, host: str) -> list[Address]:
        literal = _literal(host)
        if literal is not None:
            return [literal]
        known = self._known.get(host)
        if known is None:
            await self._resolve(host)
            return self._known[host][0]
        self.refresh(host)
        return known[0]

    def refresh(self, host: str) -> None:
        """Have a name resolved again, if it is time for that."""
        known = self._known.get(host)
        if known is not None and known[1] <= self._loop.time() and host not in self._resolving:
            task = self._loop.create_task(self._resolve_again(host))
            self._resolving[host] = task
            task.add_done_callback(lambda _done: self._resolving.pop(host, None))

    async def _resolve_again(self, host: str) -> None:
        before = self._known[host][0]
        try:
            await self._resolve(host)
        except OSError:
            # The old addresses may be good for long.
            self._known[host] = before, self._loop.time() + self._network.dns_max_ttl_s
            return
        now = self._known[host][0]
        if set(now) != set(before):
            self._moved(host, frozenset(address for _, address in now))

    async def _resolve(self, host: str) -> None:
        try:
            found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except ValueError:
            # UnicodeError, say, for a label of no length: no name looks like that.
            raise socket.gaierror(socket.EAI_NONAME, "not the name of a host") from None
        # dict: a name may resolve to one address more than once.
        addresses = list(dict.fromkeys((int(family), str(sockaddr[0])) for family, _, _, _, sockaddr in found))
        self._known[host] = addresses, self._loop.time() + self._network.dns_max_ttl_s


def other_kind(sslmode: str, asked: bool | None, encrypted: bool, error: PointsmanError) -> bool | None:
    """What open() is to be asked for once more, as libpq does it; None where there is nothing else to try.

    The server has refused the login with `error`: pg_hba.conf may let in with TLS whom it does not let in without, and
    the other way round. `asked` and `encrypted`: what open() was asked for, and came to.
    """
    if asked is not None or error.sqlstate != INVALID_AUTHORIZATION_SPECIFICATION:
        return None
    if sslmode == "allow" and not encrypted:
        return True
    return False if sslmode == "prefer" and encrypted else None


def set_options(one: socket.socket, network: NetworkSettings) -> None:
    """What the settings say of TCP. On a listening socket, for all that are accepted there (Linux)."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, network.keepalive)
    for option, value in (
        (socket.TCP_KEEPIDLE, network.keepalive_idle_s),
        (socket.TCP_KEEPINTVL, network.keepalive_interval_s),
        (socket.TCP_KEEPCNT, network.keepalive_count),
        (socket.TCP_USER_TIMEOUT, int(network.user_timeout_s * 1000)),
    ):
        if value:
            one.setsockopt(socket.IPPROTO_TCP, option, value)


def set_again(one: socket.socket, network: NetworkSettings) -> None:
    """The same for a socket that may have had other options: what is to be as the system has it is so again."""
    with socket.socket(one.family, socket.SOCK_STREAM) as fresh:
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT):
            one.setsockopt(socket.IPPROTO_TCP, option, fresh.getsockopt(socket.IPPROTO_TCP, option))
    set_options(one, network)


def _literal(host: str) -> Address | None:
    """An address that is one already."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return int(cast(int, socket.AF_INET if address.version == 4 else socket.AF_INET6)), host
