"""Patroni's word, from its REST API: `GET /cluster` of any member tells all of them, out of what Patroni agreed on.

In: the URLs, how often to ask. Out: `Patroni`, a monitor's Authority: who leads, as far as that is known. One member's
answer is enough; those that do not answer are passed over for the next, also for members that only Patroni has named.
What follows from the word is decided in roles.py.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec

from healthcheck.guard import Happening
from healthcheck.roles import Member, Word, by_word, highest, strangers
from healthcheck.topology import Observation
from healthcheck.web import TlsFiles, new_client, reason

URLS_MAX: Final = 20
"""Members that are asked."""
SOON_S: Final = 0.2
"""Between two questions while something is wrong."""


class Rest(msgspec.Struct, frozen=True):
    """Where Patroni's members are asked, and how."""

    urls: tuple[str, ...]
    """Such as http://10.0.0.1:8008, of one member or several."""
    period_s: float = 1.0
    timeout_s: float = 5.0
    """For one member's answer."""
    tls: TlsFiles = TlsFiles()


class Patroni:
    """One Pointsman's ear for it. `run` until cancelled."""

    def __init__(self, rest: Rest, tell: Callable[[Happening], None]) -> None:
        self._rest: Final = rest
        self._tell: Final = tell
        self._urls = list(rest.urls)
        self._client: httpx.AsyncClient | None = None
        self._changed: Callable[[], None] = lambda: None
        self._word: Word | None = None
        self._answers = False
        self._said_at = 0.0
        """When it was asked, the last time that it answered."""
        self._news_at = 0.0
        """When a role was last seen to change."""
        self._floor = 0
        self._wanted = anyio.Event()
        self._strangers: tuple[list[str], list[str]] = ([], [])
        self._roles: dict[str, object] = {}
        self.known = False
        """It has been asked at least once."""

    # What a monitor asks

    def begin(self, changed: Callable[[], None]) -> None:
        """`changed` is called whenever its word is another."""
        self._changed = changed

    def counted(self, observations: Sequence[Observation]) -> list[Observation]:
        """The observations as they count by its word."""
        roles: dict[str, object] = {one.name: (one.role, one.up, one.timeline) for one in observations}
        if roles != self._roles:
            # What it said before is not about that.
            self._roles, self._news_at = roles, time.monotonic()
            self._wanted.set()
        if self._word is not None:
            self._tell_of_strangers(strangers(observations, self._word))
        self._floor = 0 if self._fresh() else max(self._floor, highest(observations, self._word))
        return by_word(observations, self._word, self._floor)

    def _fresh(self) -> bool:
        """Whether its word is of now."""
        said_at = self._said_at
        recent = time.monotonic() - said_at <= self._rest.period_s + self._rest.timeout_s
        return self._answers and recent and said_at >= self._news_at

    async def run(self) -> None:
        """Ask in its rhythm."""
        try:
            while True:
                self._wanted = anyio.Event()
                await self._hear()
                await anyio.sleep(min(SOON_S, self._rest.period_s))
                leads = self._word is not None and self._word.leader() is not None
                if self._answers and leads:
                    with anyio.move_on_after(self._rest.period_s):
                        await self._wanted.wait()
        finally:
            await self._close()

    async def _hear(self) -> None:
        before = (self.known, self._fresh(), self._word)
        began = time.monotonic()
        try:
            word = await self._ask()
        except PatroniError as error:
            if self._answers or not self.known:
                self._say("patroni_trouble", f"Patroni does not answer: {error}", bad=True)
            self._answers = False
        else:
            if self.known and not self._answers:
                self._say("patroni_answers", "Patroni answers")
            self._tell_of_news(word)
            self._word, self._answers, self._said_at = word, True, began
        self.known = True
        if (self.known, self._fresh(), self._word) != before:
            self._changed()

    async def _ask(self) -> Word:
        """Of the first member that answers. Raises PatroniError."""
        failures = []
        for url in tuple(self._urls):
            try:
                word, others = await self._ask_one(url)
            except PatroniError as error:
                failures.append(f"{url}: {error}")
                # The last to be asked next time.
                self._urls.remove(url)
                self._urls.append(url)
            else:
                self._learn(others)
                return word
        # New connections next time, over certificates that are read anew.
        await self._close()
        raise PatroniError("; ".join(failures))

    async def _ask_one(self, url: str) -> tuple[Word, list[str]]:
        timeout_s = self._rest.timeout_s
        try:
            if self._client is None:
                self._client = new_client(self._rest.urls, self._rest.tls, timeout_s)
            with anyio.fail_after(timeout_s):
                response = await self._client.get(f"{url}/cluster")
            response.raise_for_status()
            return read(response.json())
        except TimeoutError:
            raise PatroniError(f"no answer within {timeout_s:g} s") from None
        except httpx.HTTPStatusError as error:
            raise PatroniError(f"status {error.response.status_code}") from None
        except (httpx.HTTPError, OSError) as error:
            raise PatroniError(reason(error, timeout_s)) from None
        except (ValueError, msgspec.ValidationError):
            raise PatroniError("does not answer as Patroni does") from None

    def _learn(self, urls: Sequence[str]) -> None:
        """Members that it has named may be asked when those of the settings do not answer."""
        schemes = {urlsplit(url).scheme for url in self._rest.urls}
        for url in urls:
            if url not in self._urls and len(self._urls) < URLS_MAX and urlsplit(url).scheme in schemes:
                self._urls.append(url)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await client.aclose()

    # What is told

    def _tell_of_news(self, word: Word) -> None:
        before = self._word
        leader, led = word.leader(), before.leader() if before else None
        if leader is not None and (led is None or led.name != leader.name):
            self._say("patroni_leader", f"Patroni says that {leader.name} leads")
        if leader is None and (before is None or led is not None):
            self._say("patroni_no_leader", "Patroni says that nobody leads", bad=True)
        if word.paused != (before is not None and before.paused):
            text = "Patroni is paused: it fails nobody over" if word.paused else "Patroni is not paused any more"
            self._say("patroni_paused" if word.paused else "patroni_resumed", text, bad=word.paused)

    def _tell_of_strangers(self, found: tuple[list[str], list[str]]) -> None:
        if found == self._strangers:
            return
        self._strangers = found
        nodes, members = found
        if nodes:
            text = f"not among Patroni's members, so not used as the primary: {', '.join(nodes)}"
            self._say("patroni_unknown", text, bad=True)
        if members:
            text = f"members of Patroni's cluster that no [nodes.NAME] has: {', '.join(members)}"
            self._say("patroni_unknown", text, bad=True)

    def _say(self, what: str, text: str, *, bad: bool = False) -> None:
        self._tell(Happening(time.time(), what, text, "", bad))


class PatroniError(Exception):
    """No member has answered as Patroni does. The text says why, for people."""


def read(answer: object) -> tuple[Word, list[str]]:
    """What the JSON of /cluster says, and where its members are asked. Raises msgspec.ValidationError."""
    told = msgspec.convert(answer, _Cluster)
    members = tuple(
        Member(
            one.name,
            one.role,
            one.state,
            one.host,
            int(one.port) if isinstance(one.port, int) or one.port.isdecimal() else 0,
            one.timeline if isinstance(one.timeline, int) else None,
            one.lag if isinstance(one.lag, int) else None,
            one.tags.get("noloadbalance") in (True, "true"),
        )
        for one in told.members
    )
    places = [urlsplit(one.api_url) for one in told.members]
    return Word(members, told.pause), [f"{place.scheme}://{place.netloc}" for place in places if place.netloc]


class _Told(msgspec.Struct):
    """A member, as far as it matters here."""

    name: str
    role: str
    state: str = "unknown"
    api_url: str = ""
    host: str = ""
    port: int | str = 0
    timeline: int | str | None = None
    lag: int | str | None = None
    """"unknown" where it is not known."""
    tags: dict[str, Any] = {}


class _Cluster(msgspec.Struct):
    members: list[_Told]
    pause: bool = False
