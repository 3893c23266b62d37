"""Settings made of another pooler's, to be written as a file of ours: what they have in common."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo

from middleware.config.settings import Settings

Values = dict[str, Any]
_UNITS_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_WORDS: Final = {
    "on": "on",
    "yes": "on",
    "true": "on",
    "1": "on",
    "off": "off",
    "no": "off",
    "false": "off",
    "0": "off",
}


class Imported:
    """Values for a file of ours, and `notes`: what has no equivalent, or is to be looked at."""

    def __init__(self) -> None:
        self.values: Values = {}
        self.nodes: dict[str, Values] = {}
        self.users: dict[str, Values] = {}
        self.routes: list[Values] = []
        self.health_check: Values = {}
        self.log: Values = {}
        self.notes: list[str] = []

    def note(self, name: str, why: str) -> None:
        """Say what has become of a setting."""
        self.notes.append(f"{name}: {why}")

    def take(self, name: str, text: str, setting: str, *, unit_s: float = 1.0) -> None:
        """Its value for a setting of ours of the same meaning; durations without a unit are in `unit_s`."""
        try:
            self.values[setting] = converted(Settings.model_fields[setting], text, unit_s)
        except ValueError as error:
            self.note(name, f"not taken: {error}")

    def as_mapping(self) -> Values:
        """As the file would be read."""
        tables = {"log": self.log, "health_check": self.health_check, "nodes": self.nodes, "users": self.users}
        return {**self.values, **tables, "routes": self.routes}

    def as_toml(self) -> str:
        """The file."""
        lines = _lines(self.values)
        if self.log:
            lines += ["", "[log]", *_lines(self.log)]
        lines += ["", "[health_check]", *_lines(self.health_check)]
        for kind, tables in (("nodes", self.nodes), ("users", self.users)):
            for name, table in tables.items():
                key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)
                lines += ["", f"[{kind}.{key}]", *_lines(table)]
        for rule in self.routes:
            lines += ["", "[[routes]]", *_lines(rule)]
        return "\n".join(lines).lstrip("\n") + "\n"


def converted(field: FieldInfo, text: str, unit_s: float = 1.0) -> Any:
    """A word of another's file as a value of the field's kind. Raises ValueError."""
    kind = field.annotation
    kinds = [one for one in get_args(kind) if one is not type(None)]
    if kind is int or int in kinds:
        return int(text)
    if kind is float or float in kinds:
        return round(seconds_of(text, unit_s), 6)
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    allowed = [str(word) for one in (kind, *kinds) for word in get_args(one) if isinstance(word, str)]
    if set(allowed) == {"on", "off"}:
        text = _WORDS.get(text.lower(), text)
    if allowed and text not in allowed:
        raise ValueError(f'"{text}" has no equivalent; known are {", ".join(allowed)}')
    return text


def seconds_of(text: str, unit_s: float) -> float:
    """A duration as PostgreSQL writes it. Raises ValueError."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", text)
    if found is None or (found[2] and found[2] not in _UNITS_S):
        raise ValueError(f'"{text}" is not a duration')
    return float(found[1]) * (_UNITS_S[found[2]] if found[2] else unit_s)


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_written(value)}" for name, value in table.items()]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(one) for one in value)}]"
    return _quoted(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
