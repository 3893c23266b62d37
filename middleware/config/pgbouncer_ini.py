"""The grammar of a pgbouncer.ini: sections of `key = value` lines, included files, and connection strings.

As PgBouncer reads it: a line may be indented, `;` and `#` begin a comment at its start alone, and a value goes to the
line's end.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

Sections = dict[str, dict[str, str]]

INCLUDES_MAX: Final = 10
"""Files that include each other, as there."""
_INCLUDE: Final = re.compile(r"%include[ \t]+(.*)")
_SECTION: Final = re.compile(r"\[([^\]]*)\](.*)")
_PAIR: Final = re.compile(r"""(?:'([^']+)'|"((?:[^"]|"")+)"|([\w.*-]+))[ \t]*=[ \t]*(.*)""")
_PARAMETER: Final = re.compile(r"\s*([^\s=]+)\s*=\s*('(?:[^']|'')*'|[^'\s]\S*)")


def is_pgbouncer_ini(text: str) -> bool:
    """It has a section that only PgBouncer's file has."""
    return re.search(r"^\s*\[(databases|pgbouncer)\]", text, re.MULTILINE) is not None


def sections(path: Path, text: str, missing: Callable[[str, str], None]) -> Sections:
    """What the file says, by section and key; the last one counts. `missing` is told of files that cannot be read: the
    line, and why. Raises ValueError."""
    found: Sections = {}
    _read(path, text, missing, found, "", 0)
    return found


def _read(path: Path, text: str, missing: Callable[[str, str], None], found: Sections, section: str, depth: int) -> str:
    """Returns the section it ends in: that is where the including file goes on."""
    if depth > INCLUDES_MAX:
        raise ValueError(f"{path}: files include each other")
    for number, line in enumerate(text.split("\n"), 1):
        rest = line.strip()
        while (begins := _SECTION.match(rest)) is not None:
            section, rest = begins[1], begins[2].strip()
            found.setdefault(section, {})
        include = _INCLUDE.match(rest)
        if include is not None:
            name = path.parent / include[1]
            try:
                included = name.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                why = (getattr(error, "strerror", None) or "not UTF-8").lower()
                missing(rest, f"cannot be read ({why}): what it says is MISSING here")
                continue
            section = _read(name, included, missing, found, section, depth + 1)
            continue
        if not rest or rest[0] in ";#":
            continue
        pair = _PAIR.fullmatch(rest)
        if pair is None or not section:
            raise ValueError(f"line {number}: not a key = value{' of a section' if pair else ''}")
        key = pair[1] or (pair[2] or "").replace('""', '"') or pair[3]
        found[section][key] = pair[4]
    return section


def parameters(text: str) -> dict[str, str]:
    """A connection string: `key=value key='with spaces'`. Raises ValueError."""
    found: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        pair = _PARAMETER.match(text, at)
        if pair is None or pair[2] == "''":
            raise ValueError("not a connection string: key=value ..")
        value = pair[2]
        found[pair[1]] = value[1:-1].replace("''", "'") if value.startswith("'") else value
        at = pair.end()
    return found
