"""Names and the environment that every program of a sandbox gets."""

from __future__ import annotations

import os

SUPERUSER = "postgres"


def environment(**variables: str) -> dict[str, str]:
    """Ours and ``variables``, without what would steer libpq or the server elsewhere or change its messages."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**inherited, "LC_ALL": "C", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", **variables}
