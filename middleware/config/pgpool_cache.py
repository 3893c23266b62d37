"""What a pgpool.conf says of its in-memory query cache, as settings of ours.

Sizes, times and lists are taken although it is off there: it may be turned on at run time here.
"""

import re
from typing import Final

from middleware.config.imported import Imported, is_on
from middleware.config.pgpool_reads import UNITS, take_expressions

_DEFAULTS: Final = {"memqcache_total_size": "64MB", "memqcache_maxcache": "400kB", "memqcache_expire": "0"}
"""pgpool-II's, written out where it is on."""
_SIZES: Final = {"memqcache_total_size": "query_cache_size", "memqcache_maxcache": "max_cached_result_size"}
_OTHERS: Final = {
    "memqcache_memcached_host": "memcached is not known here; see cache_redis_url",
    "memqcache_memcached_port": "memcached is not known here; see cache_redis_url",
    "memqcache_max_num_cache": "query_cache_size bounds the answers that are kept, by their bytes",
    "memqcache_cache_block_size": "answers are not kept in blocks",
    "memqcache_oiddir": "nothing is kept in files",
}


def query_cache(found: Imported, pairs: dict[str, str]) -> None:
    """Take what is said of it out of `pairs`."""
    on = is_on(pairs.pop("memory_cache_enabled", "off"))
    said = {name: pairs.pop(name) for name in list(pairs) if "memqcache_" in name}
    if on:
        said = {**_DEFAULTS, **said}
        found.values["query_cache"] = "on"
        found.note(
            "memory_cache_enabled", 'it is used where pool_mode is "transaction" or "statement"; see query-cache.md'
        )
    for name, setting in _SIZES.items():
        _size(found, name, setting, said.pop(name, ""))
    _fit(found)
    expire = said.pop("memqcache_expire", "")
    if expire:
        found.take("memqcache_expire", expire, "query_cache_ttl")
    unsafe = said.pop("cache_unsafe_memqcache_table_list", "").split(",")
    take_expressions(found, "cache_unsafe_memqcache_table_list", "cache_unsafe_relations", unsafe)
    if on:
        _notes(found, said)


def _notes(found: Imported, said: dict[str, str]) -> None:
    """What has no equivalent."""
    if said.pop("cache_safe_memqcache_table_list", "").strip():
        found.note(
            "cache_safe_memqcache_table_list",
            "not needed: views and unlogged tables are kept as others are; cache_safe_relations would keep nothing "
            "but these, and what is on both lists is not kept here",
        )
    method = said.pop("memqcache_method", "shmem")
    if method != "shmem":
        found.note("memqcache_method", f'"{method}" is not known here; several Pointsmans share answers in Redis')
    if not is_on(said.pop("memqcache_auto_cache_invalidation", "on")):
        found.note("memqcache_auto_cache_invalidation", "an answer always ends when its tables change")
    for name in said:
        found.note(name, _OTHERS.get(name, "has no equivalent"))


def _size(found: Imported, name: str, setting: str, text: str) -> None:
    size = re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", text)
    if size is not None and size[2] in UNITS:
        found.take(name, str(int(size[1]) * UNITS[size[2]]), setting)
    elif text:
        found.note(name, f'not taken: "{text}" is not a size')


def _fit(found: Imported) -> None:
    """An answer is not larger than all of them."""
    values = found.values
    total = values.get("query_cache_size", 67_108_864)
    if values.get("max_cached_result_size", 1_048_576) > total:
        values["max_cached_result_size"] = total
        found.note("max_cached_result_size", f"{total}: an answer cannot be larger than query_cache_size")
