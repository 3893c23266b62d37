"""As whom PostgreSQL runs: it refuses root."""

import os
import pwd
from typing import Final, NamedTuple

CANDIDATES: Final = ("postgres", "nobody")


class User(NamedTuple):
    """An account to run a server under."""

    name: str
    uid: int
    gid: int


def server_user() -> User | None:
    """The account for servers when we are root, or None when they can run as we do."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, entry.pw_uid, entry.pw_gid)
    # An uid that no account has is as good: PostgreSQL needs its number only, if told its user names.
    return User("65534", 65534, 65534)
