"""A worker's use of Access: which rule holds for a visitor, what a proof is checked against, what servers are shown.

Nobody can tell by the answers or by the time they take whether a user exists: who does not is given a secret that
looks like most others (auth.made_up), and no proof fits it. Passwords cost work before SCRAM can check them: that is
done ahead, or, for a password that is shown in clear text, for everybody alike and by the caller, which has threads.
"""

import hashlib
import hmac
import time
from typing import Final

from cachetools import LRUCache

from middleware.auth.access import Access
from middleware.auth.made_up import Nobody, derived, made_up
from middleware.auth.rules import HbaRule, Visitor, first_match, kind_of, mapped
from middleware.auth.scram import Keys, Verifier, keys_of, parsed_verifier

KNOWN_MAX: Final = 10_000
"""Users of whom is kept what auth_query has said, and what they have shown: the most recent ones."""
SALTS_MAX: Final = 16
"""Salts for which a user's keys are kept: one is usual, as all nodes have the same secret."""
LONG_AGO: Final = float("-inf")
FRESH_S: Final = 1.0
"""An answer of auth_query younger than this is not asked for again, however many logins it fails."""


class Authority:
    """Who may come in, as of one Access after the other."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._nobody = access.nobody
        self._asked: LRUCache[str, tuple[float, str | None]] = LRUCache(KNOWN_MAX)
        """What auth_query has said, and when."""
        self._verifiers: LRUCache[tuple[str, str], Verifier] = LRUCache(KNOWN_MAX)
        """By user and secret: derived of plain passwords that are not in the Access, or not yet, or as secrets say."""
        self._credentials: LRUCache[str, ServerCredentials] = LRUCache(KNOWN_MAX)
        self.use(access)

    def use(self, access: Access) -> None:
        """From now on this holds."""
        before, self._access = self._access, access
        self._nobody = access.nobody
        for user in list(self._asked):
            self._expire(user)
        for user, credentials in list(self._credentials.items()):
            if access.secrets.get(user) != before.secrets.get(user):
                credentials.use(access.secrets.get(user))

    # Clients

    def rule(self, visitor: Visitor) -> HbaRule | None:
        """What holds for a visitor; None where nothing lets it in."""
        return first_match(self._access.rules, visitor)

    def must_ask(self, user: str) -> bool:
        """Only auth_query can say whether the user exists."""
        if not self._access.asks or user in self._access.secrets:
            return False
        asked = self._asked.get(user)
        return asked is None or time.monotonic() - asked[0] > self._access.kept_s

    def answered(
        self,
        user: str,
        exists: bool,
        secret: str | None,
        verifier: Verifier | None = None,
        nobody: Nobody | None = None,
    ) -> None:
        """What auth_query has said; the verifier of a plain password, and what nobody is shown from now on."""
        self._asked[user] = time.monotonic(), (secret or "") if exists else None
        self._nobody = nobody or self._nobody
        if verifier is not None and secret:
            self._verifiers[user, secret] = verifier
        if exists:
            self.credentials(user).use(secret or None)

    def failed(self, user: str) -> None:
        """A login has failed: what auth_query has said may be out of date."""
        asked = self._asked.get(user)
        if asked is not None and time.monotonic() - asked[0] > FRESH_S:
            self._expire(user)

    def _expire(self, user: str) -> None:
        """Have the next login ask again. What was said is kept: another login may be in the middle of its proof."""
        self._asked[user] = LONG_AGO, self._asked[user][1]

    def __contains__(self, user: str) -> bool:
        return user in self._access.secrets or self._asked.get(user, (0.0, None))[1] is not None

    def is_mapped(self, rule: HbaRule, certified: str, user: str) -> bool:
        """Whether who has a certificate may be the user."""
        return mapped(self._access.maps, rule.map, certified, user)

    def kind(self, user: str) -> str:
        """Of which kind the user's secret is: "plain", "md5" or "scram"."""
        secret = self._secret(user)
        return kind_of(secret) if secret else self._nobody.kind

    def verifier(self, user: str) -> tuple[Verifier, bool]:
        """What to check a SCRAM proof against; and whether a proof that fits it is one."""
        secret = self._secret(user)
        kind = kind_of(secret) if secret else ""
        if secret and kind == "plain":
            return self._derived(user, secret), True
        if secret and kind == "scram":
            known = self._verifiers.get((user, secret)) or parsed_verifier(secret)
            if known is not None:
                self._verifiers[user, secret] = known
                return known, True
        return made_up(self._access.seed, user, self._nobody), False

    def password_work(self, user: str) -> tuple[bytes, int] | None:
        """By which salt and iterations keys are to be derived of a password in clear text, before it can be checked.

        None for no work. Where one user's secret needs it, it is done for all, whatever theirs is.
        """
        secret = self._secret(user)
        scram = bool(secret) and kind_of(secret or "") == "scram"
        if not scram and not self._nobody.derives:
            return None
        verifier = self.verifier(user)[0] if scram else made_up(self._access.seed, user, self._nobody)
        return verifier.salt, verifier.iterations

    def is_password(self, user: str, password: str, keys: Keys | None) -> bool:
        """Whether it is the user's, as shown in clear text. `keys`: derived as password_work() has said."""
        secret = self._secret(user)
        kind = self.kind(user)
        if kind == "md5":
            shown = "md5" + md5_hex(password.encode() + user.encode())
            return hmac.compare_digest(shown, secret or "") and secret is not None
        if kind == "scram":
            verifier, real = self.verifier(user)
            # A secret that has become one since: its keys are those of another salt, or none.
            stored_key = b"" if keys is None else hashlib.sha256(keys.client_key).digest()
            return hmac.compare_digest(stored_key, verifier.stored_key) and real
        return hmac.compare_digest(password.encode(), (secret or "").encode()) and bool(secret)

    def is_md5(self, user: str, salt: bytes, shown: bytes) -> bool:
        """Whether it is the answer to an MD5 challenge."""
        secret = self._secret(user)
        inner = secret[3:] if secret and kind_of(secret) == "md5" else md5_hex((secret or "").encode() + user.encode())
        return hmac.compare_digest(b"md5" + md5_hex(inner.encode() + salt).encode(), shown) and bool(secret)

    # Servers

    def credentials(self, user: str) -> "ServerCredentials":
        """What to show servers in the user's name."""
        found = self._credentials.get(user)
        if found is None:
            found = self._credentials[user] = ServerCredentials(user, self._secret(user) or None)
        return found

    def _secret(self, user: str) -> str | None:
        if user in self._access.secrets:
            return self._access.secrets[user]
        return self._asked.get(user, (0.0, None))[1]

    def _derived(self, user: str, password: str) -> Verifier:
        if user in self._access.secrets and user in self._access.verifiers:
            return self._access.verifiers[user]
        known = self._verifiers.get((user, password))
        if known is None:
            known = self._verifiers[user, password] = derived(self._access.seed, user, password)
        return known


class ServerCredentials:
    """What logs in to servers in a user's name: its password, what is kept of it, or what its own login has shown."""

    def __init__(self, user: str, secret: str | None) -> None:
        self.user: Final = user
        self._secret = secret
        self._shown: str | None = None
        self._keys: dict[tuple[bytes, int], Keys] = {}

    def use(self, secret: str | None) -> None:
        """It has changed, or not."""
        if secret != self._secret:
            self._secret = secret
            self._shown = None
            self._keys = {}

    def shown_password(self, password: str) -> None:
        """The user has told its password, and it was right."""
        self._shown = password

    def shown_keys(self, keys: Keys, salt: bytes, iterations: int) -> None:
        """The user has proved to know its password, by SCRAM with this salt."""
        if len(self._keys) >= SALTS_MAX:
            self._keys = {}
        self._keys[salt, iterations] = keys

    def password(self) -> str | None:
        """In clear text."""
        return self._secret if self._secret and kind_of(self._secret) == "plain" else self._shown

    def md5(self) -> str | None:
        """md5(password + user), in hexadecimal."""
        if self._secret and kind_of(self._secret) == "md5":
            return self._secret[3:]
        password = self.password()
        return None if password is None else md5_hex(password.encode() + self.user.encode())

    def keys(self, salt: bytes, iterations: int) -> Keys | None:
        """SCRAM's, for what a server asks; derived once."""
        known = self._keys.get((salt, iterations))
        password = self.password()
        if known is None and password is not None:
            known = keys_of(password, salt, iterations)
            self.shown_keys(known, salt, iterations)
        return known


def md5_hex(data: bytes) -> str:
    """The protocol's own use of MD5; PostgreSQL's secrets are made of it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
