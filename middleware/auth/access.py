"""What is known of who may come in, as one value that travels to the workers."""

import msgspec

from middleware.auth.made_up import Nobody
from middleware.auth.rules import HbaRule, UserMapping
from middleware.auth.scram import Verifier


class Access(msgspec.Struct, frozen=True):
    """Who may come in. The same for all workers of a Pointsman."""

    rules: tuple[HbaRule, ...] = ()
    maps: tuple[UserMapping, ...] = ()
    secrets: dict[str, str | None] = {}
    """By user: a password, or what PostgreSQL keeps of one ("md5..", "SCRAM-SHA-256$.."); None where there is none."""
    seed: bytes = b""
    """Secret; salts are made of it, also those of users that do not exist."""
    asks: bool = False
    """Users who are not here are asked for by auth_query."""
    kept_s: float = 60.0
    """How long its answers are used."""
    verifiers: dict[str, Verifier] = {}
    """Derived ahead of plain passwords, by user; of those that are missing, one is derived when it is needed."""
    nobody: Nobody = Nobody()
    """What is shown to users who do not exist."""

    def __repr__(self) -> str:
        return f"Access({len(self.rules)} rules, {len(self.secrets)} users)"
