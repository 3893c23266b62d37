"""etcd's v3 API over HTTP: its gRPC gateway, which speaks JSON with keys and values in base64.

In: where etcd is, and who asks. Out: `ask`, one request to the first member that answers. What is asked, and what the
answers mean, is leadership.py's part.
"""

import base64
from typing import Any, Final

import httpx
import msgspec

from healthcheck.web import TlsFiles, new_client, reason

AUTHENTICATE: Final = "auth/authenticate"


class Members(msgspec.Struct, frozen=True):
    """An etcd cluster, and how it is asked."""

    urls: tuple[str, ...]
    """Such as http://10.0.0.5:2379, of one member or several."""
    user: str = ""
    """"" where etcd wants nobody's name."""
    password: str = ""
    tls: TlsFiles = TlsFiles()

    def __repr__(self) -> str:
        # The generated one would print the password.
        return f"Members({self.urls})"


class EtcdError(Exception):
    """No member has answered, or one has refused. The text says why, for people."""


class EtcdClient:
    """Asks one member at a time, first the one that answered last. Not for concurrent use."""

    def __init__(self, members: Members, timeout_s: float) -> None:
        """`timeout_s`: for one member's answer."""
        self._members: Final = members
        self._timeout_s: Final = timeout_s
        self._urls = list(members.urls)
        self._token = ""
        self._client: httpx.AsyncClient | None = None

    async def ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, such as "kv/range". Raises EtcdError.

        Where a member does not answer the next one is asked the same: the request may then have been carried out twice.
        """
        failures = []
        for url in tuple(self._urls):
            try:
                answer = await self._ask_one(url, what, body)
            except EtcdError as error:
                failures.append(f"{url}: {error}")
                self._urls.remove(url)
                self._urls.append(url)
            else:
                return answer
        # New connections next time, over certificates that are read anew.
        await self.close()
        raise EtcdError("; ".join(failures))

    async def close(self) -> None:
        """Drop the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ask_one(self, url: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        if not self._members.user:
            return await self._post(url, what, body)
        if self._token:
            try:
                return await self._post(url, what, body)
            except Refused as refused:
                if "auth" not in str(refused):
                    raise
                # Tokens have an end, and members that restart forget them.
                self._token = ""
        who = {"name": self._members.user, "password": self._members.password}
        self._token = str((await self._post(url, AUTHENTICATE, who)).get("token", ""))
        return await self._post(url, what, body)

    async def _post(self, url: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._client is None:
                self._client = new_client(self._members.urls, self._members.tls, self._timeout_s)
            headers = {"Authorization": self._token} if self._token else {}
            response = await self._client.post(f"{url}/v3/{what}", json=body, headers=headers)
            answer: object = response.json()
        except (httpx.HTTPError, OSError) as error:
            raise EtcdError(reason(error, self._timeout_s)) from None
        except ValueError:
            raise EtcdError(f"answers with status {response.status_code}, and not as etcd does") from None
        if not isinstance(answer, dict):
            raise EtcdError("does not answer as etcd does")
        wrong = answer.get("error")
        if wrong or response.is_error:
            # A stream's error is an object, any other a text.
            text = wrong.get("message", "") if isinstance(wrong, dict) else wrong
            raise Refused(str(text or answer.get("message") or f"status {response.status_code}"))
        return answer


class Refused(EtcdError):
    """A member has answered with an error."""


def encoded(text: str) -> str:
    """A key or a value, as the gateway takes it."""
    return base64.b64encode(text.encode()).decode()


def decoded(text: object) -> str:
    """A key or a value of an answer. Raises ValueError."""
    return base64.b64decode(str(text), validate=True).decode()
