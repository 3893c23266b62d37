"""PostgreSQL's units: durations in seconds, sizes in bytes, and both as people read them."""

import re
from typing import Final

_BYTES: Final = {"": 1, "B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_VALUE: Final = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")

Value = float | str
"""A setting: a number (seconds, bytes, or what it counts), or a word."""


def value_of(setting: str, unit: str | None, kind: str) -> Value:
    """A row of pg_settings; -1 and 0 mean what they mean whatever the unit."""
    if kind not in ("integer", "real"):
        return setting
    number = int(setting) if kind == "integer" else float(setting)
    if number <= 0 or not unit:
        return number
    if unit in _SECONDS:
        return number * _SECONDS[unit]
    # "8kB" and "16MB" are units too.
    count, name = re.fullmatch(r"(\d*)(\w+)", unit).groups()  # type: ignore[union-attr] # matches any unit there is
    return number * int(count or 1) * _BYTES[name]


def seconds_of(text: str) -> float:
    """A duration as somebody wrote it for a setting whose unit is ms. Raises ValueError."""
    number, unit = _parts(text)
    return number * _SECONDS[unit or "ms"] if (unit or "ms") in _SECONDS else _refuse(text)


def bytes_of(text: str) -> int:
    """A size as somebody wrote it: "16GB", "512 MB". Raises ValueError."""
    number, unit = _parts(text)
    known = {name.lower(): factor for name, factor in _BYTES.items()}
    return int(number * known[unit.lower()]) if unit.lower() in known else int(_refuse(text))


def _parts(text: str) -> tuple[float, str]:
    match = _VALUE.fullmatch(text)
    return (float(match[1]), match[2]) if match else (_refuse(text), "")


def _refuse(text: str) -> float:
    raise ValueError(f"not a number with a unit: {text!r}")


def size(count: float) -> str:
    """Bytes for people: at most three digits before the point."""
    for name in ("B", "kB", "MB", "GB"):
        if abs(count) < 1024:
            return f"{count:.4g} {name}"
        count /= 1024
    return f"{count:.4g} TB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds:g} s"
