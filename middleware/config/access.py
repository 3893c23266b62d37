"""Who may come in, made of the settings and of the files they name."""

import hashlib
from secrets import token_bytes as random_bytes
from typing import Final

from middleware.auth import Access, HbaRule
from middleware.auth.hba import hba_rules, user_mappings
from middleware.auth.made_up import ASKED_NONE, look_of, nobody_of
from middleware.auth.userlist import userlist
from middleware.config.fields import plain
from middleware.config.settings import Settings

SEED_CHARACTERS_MIN: Final = 24
_KINDS: Final = {"cert": "hostssl"}
"""The connections for which an auth_type stands, where not for all."""


def access_of(settings: Settings, seed: bytes) -> Access:
    """Read the files. Raises FileMistake."""
    if settings.auth_type == "hba":
        rules = hba_rules(settings.auth_hba_file)
    else:
        kind = _KINDS.get(settings.auth_type, "any")
        everybody = ("=all",)
        anywhere = ("=all", "=replication")
        rules = (HbaRule(kind, anywhere, everybody, (), settings.auth_type, where="auth_type"),)
    maps = user_mappings(settings.auth_ident_file) if settings.auth_ident_file else ()
    secrets = userlist(settings.auth_file) if settings.auth_file else {}
    secrets.update((name, plain(user.password) or None) for name, user in settings.users.items())
    asks = bool(settings.auth_user)
    nobody = ASKED_NONE if asks else nobody_of(look_of(secret) for secret in secrets.values() if secret)
    return Access(rules, maps, secrets, seed, asks, settings.auth_query_ttl, nobody=nobody)


def seed_of(settings: Settings) -> bytes:
    """What salts are made of: the same after each start with the same passwords, and in each Pointsman that has them.

    Made of those in the settings, all at once: whoever has been shown a salt may try guesses of them against it, which
    scrypt makes dear (some 0.1 s and 32 MB each, a hundred times a guess by logging in). Random where they are too
    short together for that to hold.
    """
    known = {plain(user.password) for user in settings.users.values()} | {plain(settings.health_check.password)}
    words = sorted(word for word in known if word)
    if sum(map(len, words)) < SEED_CHARACTERS_MIN:
        return random_bytes(32)
    joined = "\0".join(words).encode()
    return hashlib.scrypt(joined, salt=b"pointsman: salts", n=2**15, r=8, p=1, maxmem=2**26, dklen=32)
