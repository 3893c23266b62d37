"""The settings of the query cache, as a group of Settings (see middleware.config.connections)."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, SecretStr

from middleware.config.fields import one_of, seconds, setting, whole
from middleware.config.tables import QueryCacheMode

CacheWatch = Literal["auto", "logical", "poll", "off"]

BYTES_MAX: Final = 2**62
REDIS_URL_WORDS: Final = "redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], rediss:// for TLS, or unix://PATH"
REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
REDIS_OPTIONS: Final = {
    "rediss": {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"},
    "unix": {"db", "username", "password"},
}
"""What may be behind a question mark, as its package has it."""


class QueryCache(BaseModel):
    """The query cache

    Answers to reads that are kept, and given again until what they were read from changes: see
    [query-cache.md](query-cache.md)."""

    query_cache: QueryCacheMode = one_of(
        "off",
        QueryCacheMode,
        'Whether answers are kept: all that can be ("on"), those to statements that ask for it ("hint"), or none. '
        "Where every rule has it off, the cache is off as a whole, and no session or statement can turn it on; "
        "`pointsman cache` can.",
        peers="pgpool: memory_cache_enabled",
    )
    query_cache_size: int = whole(
        67_108_864,
        1,
        BYTES_MAX,
        "Bytes of answers that each worker keeps. At the bound: the least recently used go.",
        peers="pgpool: memqcache_total_size",
    )
    max_cached_result_size: int = whole(
        1_048_576, 1, BYTES_MAX, "Bytes of an answer. A longer one is not kept.", peers="pgpool: memqcache_maxcache"
    )
    query_cache_ttl: float = seconds(
        60.0,
        "How long an answer is kept, where a statement does not say. 0 for as long as it holds.",
        zero=True,
        peers="pgpool: memqcache_expire",
    )
    cache_safe_functions: tuple[str, ...] = setting(
        (),
        "a list of regular expressions",
        "Functions, with or without schema, whose answers may be kept though they are declared STABLE.",
    )
    cache_safe_relations: tuple[str, ...] = setting(
        (),
        "a list of regular expressions",
        "Tables and views, with or without schema. Where any is given, only answers read from these are kept.",
    )
    cache_unsafe_relations: tuple[str, ...] = setting(
        (),
        "a list of regular expressions",
        "And those from which nothing is kept.",
        peers="pgpool: cache_unsafe_memqcache_table_list",
    )
    cache_watch: CacheWatch = one_of(
        "auto",
        CacheWatch,
        "How writes are noticed that do not pass through this Pointsman: by logical decoding, by the counters of "
        'pg_stat_user_tables ("poll"), by the better one that the primary allows ("auto"), or not at all.',
    )
    cache_watch_interval: float = seconds(1.0, "Between two looks at the counters.")
    cache_watch_publication: str = setting(
        "pointsman_cache",
        "the name of a publication",
        "The publication for logical decoding, where it is to be made by someone else than the role of [health_check].",
        min_length=1,
        max_length=63,
    )
    cache_redis_url: SecretStr = setting(
        SecretStr(""),
        f'{REDIS_URL_WORDS}, or ""',
        'A Redis or Valkey in which several Pointsmans share answers; "" for none. Needs `cache_watch` by logical '
        "decoding, and `pip install 'pointsman[redis]'`. Behind `rediss://..?`: ssl_ca_certs, ssl_certfile, "
        "ssl_keyfile, ssl_check_hostname, joined by `&`.",
    )
    cache_redis_timeout: float = seconds(0.02, "How long an answer of it is waited for, before a node is asked.")


def cache_mistakes(settings: Any) -> Iterator[tuple[tuple[str], str]]:
    """What the fields do not show on their own, as in middleware.config.contradictions, but for the patterns."""
    if settings.max_cached_result_size > settings.query_cache_size:
        yield (
            ("max_cached_result_size",),
            f"{settings.max_cached_result_size} is not allowed: at most query_cache_size ({settings.query_cache_size})",
        )
    url = settings.cache_redis_url.get_secret_value()
    if url and not _names_redis(url):
        # It may hold a password: not shown.
        yield ("cache_redis_url",), f"the value is not allowed: {REDIS_URL_WORDS}"
    elif url and find_spec("redis") is None:
        yield ("cache_redis_url",), "the package redis is not installed: pip install 'pointsman[redis]'"
    if url and settings.cache_watch in ("poll", "off"):
        yield (
            ("cache_redis_url",),
            f'needs cache_watch = "logical" or "auto", not "{settings.cache_watch}": '
            "instances tell by the positions of logical decoding which answers hold",
        )


def _names_redis(url: str) -> bool:
    """Whether it is a URL that the package can go by."""
    try:
        parts = urlsplit(url)
        port, options = parts.port, parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    if parts.scheme not in REDIS_SCHEMES or parts.fragment or re.search(r"\s", url):
        return False
    if not options.keys() <= REDIS_OPTIONS.get(parts.scheme, set()):
        return False
    if parts.scheme == "unix":
        return len(parts.path) > 1 and port is None
    return bool(parts.hostname) and port != 0 and re.fullmatch(r"(/\d*)?", parts.path) is not None
