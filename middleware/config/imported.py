"""Settings made of another pooler's, to be written as a file of ours: what they have in common.

What is written is taken by check-config, but for NEEDS: what only a person can supply.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo

from middleware.config.settings import Settings

Values = dict[str, Any]
NEEDS: Final = (
    "nodes",
    "users",
    "auth_user",
    "auth_file",
    "auth_hba_file",
    "auth_ident_file",
    *(f"{side}_tls_{kind}_file" for side in ("client", "server") for kind in ("cert", "key", "ca")),
)
"""Where something may be missing from what was imported: nodes and users that are not in the file, a password that is
not, files that are not here or cannot be used."""
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
        self.put(self.values, setting, Settings.model_fields[setting], name, text, unit_s)

    def put(self, table: Values, key: str, field: FieldInfo, name: str, text: str, unit_s: float = 1.0) -> None:
        """The same for a key of any table. What `field` would refuse is not written, or brought within its bounds."""
        try:
            value = converted(field, text, unit_s)
        except ValueError as error:
            self.note(name, f"not taken: {error}")
            return
        fits = self.fitting(name, field, value)
        if fits is not None:
            table[key] = fits

    def fitting(self, name: str, field: FieldInfo, value: Any) -> Any:
        """The value, or the next one that is allowed; None where there is none."""
        low, high = _bound(field, "ge"), _bound(field, "le")
        above, length = _bound(field, "gt"), _bound(field, "min_length")
        allowed = (field.json_schema_extra or {})["allowed"]  # type: ignore[index] # every setting says so
        if length and len(value) < length:
            self.note(name, "not taken: nothing is said")
            return None
        if above is not None and value <= above:
            self.note(name, f"not taken: {value:.10g} is not allowed: {allowed}")
            return None
        fits = low if low is not None and value < low else high if high is not None and value > high else value
        if fits != value:
            if re.search(r"port\d*$", name):
                self.note(name, f"not taken: {value} is not allowed: {allowed}")
                return None
            self.note(name, f"{value:.10g} is not allowed: {allowed}; {fits:.10g} is written")
        return fits

    def user(self, name: str, password: str) -> bool:
        """Its password; False where it cannot be one of ours."""
        if not password or not 1 <= len(name.encode()) <= 63 or "\0" in name:
            self.note(f"user {name}", "not taken: its name has 1 to 63 bytes, and its password is not empty")
            return False
        self.users[name] = {"password": password}
        return True

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
        return whole_of(text)
    if kind is float or float in kinds:
        return round(seconds_of(text, unit_s), 6)
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    allowed = [str(word) for one in (kind, *kinds) for word in get_args(one) if isinstance(word, str)]
    word = text.lower() if allowed else text
    if set(allowed) == {"on", "off"}:
        word = _WORDS.get(word, word)
    if allowed and word not in allowed:
        raise ValueError(f'"{text}" has no equivalent; known are {", ".join(allowed)}')
    return word


def whole_of(text: str) -> int:
    """A whole number as C's strtol reads one of any base: 0777 is octal, 0x1ff hexadecimal. Raises ValueError."""
    found = re.fullmatch(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\s*", text, re.ASCII)
    if found is None:
        raise ValueError(f'"{text}" is not a whole number')
    digits = found[2]
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    return int(found[1] + digits, base)


def mode_of(text: str) -> str:
    """The permissions of a file, in the base the text is in, as our setting has them: octal. Raises ValueError."""
    return f"{whole_of(text) & 0o777:04o}"


def is_on(text: str) -> bool:
    """A switch; what is no word for one is off."""
    return _WORDS.get(text.lower()) == "on"


def seconds_of(text: str, unit_s: float) -> float:
    """A duration as PostgreSQL writes it. Raises ValueError."""
    found = re.fullmatch(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([a-z]*)\s*", text)
    if found is None or (found[2] and found[2] not in _UNITS_S):
        raise ValueError(f'"{text}" is not a duration')
    return float(found[1]) * (_UNITS_S[found[2]] if found[2] else unit_s)


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(one, name) for one in field.metadata if getattr(one, name, None) is not None), None)


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_written(value)}" for name, value in table.items()]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(one) for one in value)}]"
    return _quoted(value) if isinstance(value, str) else _decimal(value) if isinstance(value, float) else str(value)


def _decimal(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
