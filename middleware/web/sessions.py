"""Who is logged in to the dashboard, and how often it may be tried.

In: a password, the one that is set, an address, now. Out: a session's token, or how long to wait. No I/O, no clock;
all of it is in memory, so a restart ends all sessions.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from typing import Final

LIFETIME_S: Final = 12 * 3600.0
IDLE_S: Final = 3600.0
"""Without a page that is open and without a request."""
SESSIONS_MAX: Final = 50
"""At the bound: the one that was used longest ago ends."""

WINDOW_S: Final = 60.0
FAILURES_MAX: Final = 5
"""Of an address, within WINDOW_S."""
FAILURES_MAX_ALL: Final = 60
"""Of all together: what one who has many addresses may try. Who is logged in stays so."""
ADDRESSES_MAX: Final = 1000
"""Whose failures are remembered."""


class Session:
    """Somebody who has shown the password."""

    def __init__(self, now: float) -> None:
        self.csrf: Final = secrets.token_urlsafe(24)
        """What each request that does something brings in a header, which only a page of ours can read."""
        self.begun_at: Final = now
        self.used_at = now

    def over(self, now: float) -> bool:
        """It has lived too long, or lain idle."""
        return now - self.begun_at >= LIFETIME_S or now - self.used_at >= IDLE_S

    def has(self, csrf: str) -> bool:
        """That is its token."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class Sessions:
    """All of them. They hold for the password that they were begun with: another one ends them."""

    def __init__(self) -> None:
        self._sessions: Final[OrderedDict[bytes, Session]] = OrderedDict()
        """By the token's digest: finding one by what a stranger sends tells nothing of those that there are."""
        self._password = b""

    def begin(self, password: str, now: float) -> str:
        """A new session's token. `password`: the one that is set, and was shown."""
        self._hold(password)
        token = secrets.token_urlsafe(32)
        for key in [key for key, one in self._sessions.items() if one.over(now)]:
            del self._sessions[key]
        while len(self._sessions) >= SESSIONS_MAX:
            self._sessions.popitem(last=False)
        self._sessions[_digest(token)] = Session(now)
        return token

    def find(self, token: str, password: str, now: float) -> Session | None:
        """The session of a token, which is used now; None where there is none, or none any more."""
        self._hold(password)
        key = _digest(token)
        session = self._sessions.get(key)
        if session is None:
            return None
        if session.over(now):
            del self._sessions[key]
            return None
        session.used_at = now
        self._sessions.move_to_end(key)
        return session

    def end(self, token: str) -> None:
        """Log out."""
        self._sessions.pop(_digest(token), None)

    def _hold(self, password: str) -> None:
        digest = _digest(password)
        if digest != self._password:
            self._sessions.clear()
            self._password = digest


class Attempts:
    """Logins that have failed, of late."""

    def __init__(self) -> None:
        self._all: Final[deque[float]] = deque(maxlen=FAILURES_MAX_ALL)
        self._by_address: Final[OrderedDict[str, deque[float]]] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """How long nobody is let in from there; 0 for not at all."""
        own = self._by_address.get(address)
        return max(_left(self._all, now), 0.0 if own is None else _left(own, now))

    def failed(self, address: str, now: float) -> None:
        """Once more."""
        self._all.append(now)
        own = self._by_address.setdefault(address, deque(maxlen=FAILURES_MAX))
        own.append(now)
        self._by_address.move_to_end(address)
        if len(self._by_address) > ADDRESSES_MAX:
            self._by_address.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """What was mistyped there is forgotten."""
        self._by_address.pop(address, None)


def same(shown: str, password: str) -> bool:
    """Whether the password is the one that is set: never where none is; in a time that does not tell how much fits."""
    return hmac.compare_digest(_digest(shown), _digest(password)) and bool(password)


def _left(failures: deque[float], now: float) -> float:
    """Until the oldest of them is out of the window, where there are as many as may be."""
    if len(failures) < (failures.maxlen or 0):
        return 0.0
    return max(0.0, failures[0] + WINDOW_S - now)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
