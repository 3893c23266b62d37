"""Who may come in, made of the settings and of the files they name."""

from typing import Final

from middleware.auth import Access, HbaRule
from middleware.auth.hba import hba_rules, user_mappings
from middleware.auth.userlist import userlist
from middleware.config.fields import plain
from middleware.config.settings import Settings

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
    return Access(rules, maps, secrets, seed, bool(settings.auth_user), settings.auth_query_ttl)
