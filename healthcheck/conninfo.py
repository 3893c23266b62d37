"""libpq's connection strings (the manual's "Keyword/Value Connection Strings"), as far as pointing a standby elsewhere
needs them."""

import re
from typing import Final

_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\']|\\.)*))")


def parse(conninfo: str) -> dict[str, str]:
    """Its keywords and values. Raises ValueError."""
    found: dict[str, str] = {}
    position = 0
    while conninfo[position:].strip():
        pair = _PAIR.match(conninfo, position)
        if pair is None:
            raise ValueError("not a list of keywords and values")
        value = pair[2] if pair[2] is not None else pair[3]
        found[pair[1]] = re.sub(r"\\(.)", r"\1", value)
        position = pair.end()
    return found


def write(values: dict[str, str]) -> str:
    """The string for them."""
    return " ".join(f"{keyword}={_quoted(value)}" for keyword, value in values.items())


def pointed_at(conninfo: str, host: str, port: int) -> str:
    """The same towards another node. Raises ValueError."""
    values = parse(conninfo)
    # It would win over `host`.
    values.pop("hostaddr", None)
    return write(values | {"host": host, "port": str(port)})


def literal(value: str) -> str:
    """`value` as a string literal of SQL, whatever standard_conforming_strings says."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f" E'{escaped}'" if "\\" in value else f"'{escaped}'"


def _quoted(value: str) -> str:
    if re.fullmatch(r"[^\s\\']+", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
