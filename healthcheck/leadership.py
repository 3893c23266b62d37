"""Which of several Pointsmans may act: the one that holds a key in etcd, under a lease that it must keep alive.

etcd's v3 API over HTTP (its gRPC gateway: JSON, keys and values in base64). The key is put by a transaction that
succeeds for one only, and goes with the lease when its holder does not renew it for `ttl_s`.

Who leads believes so only as long as the lease cannot have run out: from the moment *before* it asked for it or renewed
it, by its own clock, and less a margin. So two never lead at once, unless a clock runs slower than another by the margin
over one `ttl_s`; and whoever is paused for longer than that finds, when it goes on, that it does not lead.
"""

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import httpx
import msgspec

MARGIN: Final = 0.2
"""The share of the lease that is not relied on."""
RENEWALS: Final = 3
"""How often it is renewed within its time."""


class Etcd(msgspec.Struct, frozen=True):
    """Where it is, and what is held there."""

    hosts: tuple[str, ...]
    """URLs, such as http://10.0.0.5:2379."""
    key: str
    name: str
    """Of this Pointsman, for people."""
    ttl_s: int
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Etcd({self.hosts}, {self.key!r}, {self.name!r})"


class Leadership:
    """One Pointsman's claim. run() until cancelled; leads() at any time."""

    def __init__(self, etcd: Etcd, changed: Callable[[bool, str], None]) -> None:
        """`changed` is told when it begins to lead or stops, and why."""
        self._etcd: Final = etcd
        self._changed: Final = changed
        self._lease = ""
        self._until = 0.0
        self._led = False
        self._trouble = ""

    async def leads(self) -> bool:
        """Whether it may act now."""
        return time.monotonic() < self._until

    async def run(self) -> None:
        """Try to lead, and go on leading."""
        pause_s = self._etcd.ttl_s / RENEWALS
        async with httpx.AsyncClient(timeout=pause_s) as client:
            try:
                while True:
                    try:
                        await self._claim(client)
                        self._trouble = ""
                    except (httpx.HTTPError, KeyError, ValueError) as error:
                        self._trouble = f"etcd: {error or type(error).__name__}"
                    self._tell()
                    await anyio.sleep(pause_s / 2 if self._trouble else pause_s)
                    self._tell()
            finally:
                self._until = 0.0
                with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                    await self._resign(client)

    async def _claim(self, client: httpx.AsyncClient) -> None:
        """Renew the lease, or get one, and the key with it. Raises httpx.HTTPError, KeyError, ValueError."""
        etcd, began = self._etcd, time.monotonic()
        headers = await self._token(client)
        if self._lease:
            renewed = await self._ask(client, "lease/keepalive", {"ID": self._lease}, headers)
            if int(renewed["result"].get("TTL", 0)) <= 0:
                self._lease = ""
        if not self._lease:
            self._until = 0.0
            self._lease = str((await self._ask(client, "lease/grant", {"TTL": etcd.ttl_s}, headers))["ID"])
        key = _text(etcd.key)
        put = {"request_put": {"key": key, "value": _text(etcd.name), "lease": self._lease}}
        get = {"request_range": {"key": key}}
        absent = {"key": key, "target": "CREATE", "create_revision": "0"}
        answer = await self._ask(
            client, "kv/txn", {"compare": [absent], "success": [put], "failure": [get]}, headers
        )
        held = answer.get("succeeded", False)
        if not held:
            holder = answer["responses"][0]["response_range"]["kvs"][0]
            held = str(holder.get("lease", "")) == self._lease
        if held:
            self._until = began + etcd.ttl_s * (1.0 - MARGIN)
        else:
            self._until = 0.0

    async def _token(self, client: httpx.AsyncClient) -> dict[str, str]:
        etcd = self._etcd
        if not etcd.user:
            return {}
        answer = await self._ask(client, "auth/authenticate", {"name": etcd.user, "password": etcd.password}, {})
        return {"Authorization": str(answer["token"])}

    async def _ask(
        self, client: httpx.AsyncClient, what: str, body: dict[str, Any], headers: dict[str, str]
    ) -> dict[str, Any]:
        """Ask the first host that answers. Raises httpx.HTTPError."""
        failure: httpx.HTTPError | None = None
        for host in self._etcd.hosts:
            try:
                answer = await client.post(f"{host}/v3/{what}", json=body, headers=headers)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                failure = failure or error
            else:
                told: dict[str, Any] = answer.json()
                return told
        assert failure is not None
        raise failure

    async def _resign(self, client: httpx.AsyncClient) -> None:
        """Let go of the key, for another to lead at once."""
        if self._lease:
            try:
                await self._ask(client, "lease/revoke", {"ID": self._lease}, await self._token(client))
            except (httpx.HTTPError, KeyError, ValueError):
                self._lease = ""

    def _tell(self) -> None:
        leads = time.monotonic() < self._until
        if leads != self._led:
            self._led = leads
            self._changed(leads, self._trouble)


def hosts(text: str) -> Sequence[str]:
    """`host:port` or URLs with commas between, as URLs."""
    found = [one.strip().rstrip("/") for one in text.split(",") if one.strip()]
    return [one if "://" in one else f"http://{one}" for one in found]


def _text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()
