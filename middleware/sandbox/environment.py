"""Names and the environment that every program of a sandbox gets."""

from __future__ import annotations

import os

SUPERUSER = "postgres"


#: What programs need of ours to be found and to start. The rest may hold secrets, and the servers' user is another one
#: when we are root; some of it would also steer libpq or the server elsewhere, or change their messages.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


def environment(**variables: str) -> dict[str, str]:
    """``variables``, and no more of our own environment than a program needs."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "LC_ALL": "C", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", **variables}
