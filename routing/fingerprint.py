"""A catalog's fingerprint: several instances that have read the same catalog know it by that.

They read it at different times, each by its own connection, and rows come in no order: so the order of things does not
count, and neither does the version, which each instance counts by itself.
"""

import hashlib
from typing import Any, Final

import msgspec

from routing.catalog import Catalog

DIGEST_BYTES: Final = 16


def fingerprint_of(catalog: Catalog) -> str:
    """In hexadecimal digits."""
    plain = msgspec.to_builtins(msgspec.structs.replace(catalog, version=0, fingerprint=""))
    return hashlib.blake2b(repr(_ordered(plain)).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _ordered(value: Any) -> Any:
    """The same without an order: lists and sets become sorted texts."""
    if isinstance(value, dict):
        return sorted((str(name), _ordered(part)) for name, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sorted(repr(_ordered(part)) for part in value)
    return value
