"""The grammar of a pgpool.conf: `name = value` lines, comments behind them, and included files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

INCLUDES_MAX: Final = 10
_LINE: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*=?\s*('(?:[^'\\]|\\.|'')*'|[^#\s]*)")
_RENAMED: Final = {
    "socket_dir": "unix_socket_directories",
    "black_function_list": "write_function_list",
    "white_function_list": "read_only_function_list",
    "black_memqcache_table_list": "cache_unsafe_memqcache_table_list",
    "white_memqcache_table_list": "cache_safe_memqcache_table_list",
    "black_query_pattern_list": "primary_routing_query_pattern_list",
    "follow_master_command": "follow_primary_command",
}
"""What older versions call it."""


def assignments(path: Path, text: str, missing: Callable[[str, str], None], depth: int = 0) -> dict[str, str]:
    """Values by today's names; the last one counts. A backslash within quotes is kept, as there: expressions need it.
    `missing` is told of files that cannot be read. Raises ValueError."""
    if depth > INCLUDES_MAX:
        raise ValueError(f"{path}: files include each other")
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match is None:
            continue
        name, value = _RENAMED.get(match[1], match[1]), match[2]
        if value.startswith("'"):
            value = value[1:-1].replace("''", "'")
        if name == "include":
            file = path.parent / value
            try:
                included = file.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                why = (getattr(error, "strerror", None) or "not UTF-8").lower()
                missing(f"include {value}", f"cannot be read ({why}): what it says is MISSING here")
                continue
            found.update(assignments(file, included, missing, depth + 1))
        else:
            found[name] = value
    return found
