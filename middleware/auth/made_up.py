"""What is made up where nothing is kept: salts of plain passwords, and the secret of a user that does not exist.

Nobody can tell the made-up from the real by asking: it is the same each time, in each worker, and it looks like most
of what is real. It is made by a keyed hash, of which the key is the seed, and costs next to nothing: whoever makes up
names makes no work.
"""

import hmac
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from middleware.auth.rules import kind_of
from middleware.auth.scram import ITERATIONS, SALT_BYTES, Verifier, keys_of, parsed_verifier, verifier_of


class Nobody(msgspec.Struct, frozen=True, array_like=True):
    """What is shown to who does not exist: what most are shown who do."""

    kind: str = "plain"
    """Of which kind its secret seems to be: "plain", "md5" or "scram"."""
    iterations: int = ITERATIONS
    salt_bytes: int = SALT_BYTES
    derives: bool = False
    """Some have SCRAM secrets: to check a password that is shown in clear text is as much work for everybody."""


ASKED_NONE: Final = Nobody("scram", derives=True)
"""Where auth_query is used and has told of nobody yet: PostgreSQL's default."""


class Look(NamedTuple):
    """What can be seen of a secret without knowing it."""

    kind: str
    challenge: tuple[int, int] | None
    """SCRAM's: the iterations, and the length of the salt. None where the secret gives none."""


def look_of(secret: str) -> Look:
    """A secret's."""
    kind = kind_of(secret)
    if kind == "plain":
        return Look(kind, (ITERATIONS, SALT_BYTES))
    parsed = parsed_verifier(secret) if kind == "scram" else None
    return Look(kind, None if parsed is None else (parsed.iterations, len(parsed.salt)))


def nobody_of(looks: Iterable[Look]) -> Nobody:
    """As most of these are."""
    seen = list(looks)
    if not seen:
        return Nobody()
    kinds = Counter(look.kind for look in seen)
    challenges = Counter(look.challenge for look in seen if look.challenge is not None)
    iterations, salt_bytes = challenges.most_common(1)[0][0] if challenges else (ITERATIONS, SALT_BYTES)
    return Nobody(kinds.most_common(1)[0][0], iterations, salt_bytes, "scram" in kinds)


def derived(seed: bytes, user: str, password: str) -> Verifier:
    """What to check a SCRAM proof against, made of a plain password: the work of SCRAM."""
    salt = salt_of(seed, user, SALT_BYTES)
    return verifier_of(keys_of(password, salt, ITERATIONS), salt, ITERATIONS)


def made_up(seed: bytes, user: str, nobody: Nobody) -> Verifier:
    """What no proof fits; no work."""
    key = _hashed(seed, user, "key")
    return Verifier(nobody.iterations, salt_of(seed, user, nobody.salt_bytes), key, key)


def salt_of(seed: bytes, user: str, size: int) -> bytes:
    """The same for a user always, and nothing that one could tell from chance."""
    salt = _hashed(seed, user, "salt")
    while len(salt) < size:
        salt += _hashed(seed, user, f"salt {len(salt)}")
    return salt[:size]


def _hashed(seed: bytes, user: str, what: str) -> bytes:
    return hmac.digest(seed, f"{what}\0{user}".encode(errors="replace"), "sha256")
