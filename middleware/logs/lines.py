"""An event as a line. Values are made plain, then written as text or JSON, so that nothing in them ends the line.

In: an event's text, level, subject and fields. Out: one line without its end; of a traceback in text, more lines, each
of them indented, which no event begins with.
"""

import functools
import json
import re
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import Any, Final

from pydantic import SecretStr

LINE_BYTES_MAX: Final = 4096
"""PIPE_BUF on Linux: what is not longer is written to a pipe as a whole, whoever else writes there."""
TEXT_CHARS_MAX: Final = 2000
"""Of one value."""
CUT: Final = "[..]"

_encode: Final = json.JSONEncoder().encode
"""ASCII alone, with all else escaped."""
_one_word: Final = re.compile(r'[^\x00-\x20"=\\\x7f-\U0010ffff]+').fullmatch
"""Printable ASCII but for what would need quotes."""

Plain = str | int | float | bool | list[Any] | dict[str, Any]

_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_BOLD: Final = "\x1b[1m"
_OFF: Final = "\x1b[0m"

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def plain(value: object) -> Plain:
    """A value that both forms can write: text for all that is no number or list."""
    if isinstance(value, str):
        if len(value) <= TEXT_CHARS_MAX:
            return value
        text = value
    elif isinstance(value, int | float):
        return value
    elif isinstance(value, bytes):
        # Names as they are on the wire.
        text = value.decode(errors="replace")
    elif isinstance(value, Enum):
        return plain(value.value)
    elif isinstance(value, SecretStr):
        text = str(value)
    elif isinstance(value, Mapping):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    else:
        text = str(value)
    return cut(text, TEXT_CHARS_MAX)


def cut(text: str, chars_max: int) -> str:
    """`text`, or its beginning and its end where it is longer."""
    if len(text) <= chars_max:
        return text
    keep = max(0, chars_max - len(CUT))
    head = (keep + 1) // 2
    return text[:head] + CUT + text[len(text) - (keep - head) :]


def traceback_of(exc_info: ExcInfo) -> str:
    """A traceback without local variables."""
    return "".join(traceback.format_exception(*exc_info)).rstrip("\n")


def timestamp(now: float) -> str:
    """`now` (time.time()) in UTC."""
    second = int(now)
    return f"{_to_the_second(second)}.{int((now - second) * 1_000_000):06}Z"


@functools.lru_cache(maxsize=2)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def as_json(now: float, level: str, subject: str, name: str, event: str, fields: Mapping[str, Plain]) -> str:
    """One line of ASCII."""
    values: dict[str, Any] = {"timestamp": timestamp(now), "level": level, "subject": subject}
    if name:
        values["id"] = name
    values["event"] = event
    values.update(fields)
    while True:
        line = _encode(values)
        if len(line) < LINE_BYTES_MAX or not _shorten(values):
            return line


def as_text(
    now: float | None, level: str, subject: str, event: str, fields: Mapping[str, Plain], *, colours: bool
) -> str:
    """One line for people, and the lines of a traceback; `now` is None where who reads it keeps the time."""
    values: dict[str, Any] = dict(fields)
    while True:
        text = _as_text(now, level, subject, event, values, colours=colours)
        if (
            len(text) < LINE_BYTES_MAX // 4
            or len(text.encode(errors="replace")) < LINE_BYTES_MAX
            or not _shorten(values)
        ):
            return text


def _as_text(
    now: float | None, level: str, subject: str, event: str, fields: Mapping[str, Any], *, colours: bool
) -> str:
    words = [] if now is None else [timestamp(now)]
    shown = f"[{level:<9}]"
    words.append(f"{_COLOURS.get(level, '')}{shown}{_OFF}" if colours else shown)
    words.append(f"{subject}:")
    words.append(f"{_BOLD}{event}{_OFF}" if colours else event)
    words.extend(f"{name}={word(value)}" for name, value in fields.items() if name != EXCEPTION)
    lines = [" ".join(words)]
    if EXCEPTION in fields:
        lines.extend("    " + escaped(line) for line in str(fields[EXCEPTION]).split("\n"))
    return "\n".join(lines)


EXCEPTION: Final = "exception"


def word(value: object) -> str:
    """A value in a line of text: as it is where it is one plain word, else in double quotes."""
    if isinstance(value, str):
        if _one_word(value):
            return value
        text = value
    elif isinstance(value, bool):
        return "true" if value else "false"
    elif isinstance(value, int | float):
        return str(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped(quoted)}"'


def escaped(text: str) -> str:
    """With all that is not printable as a backslash's escape: the ends of lines, what moves a terminal's cursor, what
    turns the direction of writing round."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(char: str) -> str:
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _shorten(values: MutableMapping[str, Any]) -> bool:
    """Halve the longest value, to make the line shorter; False where that helps no more."""
    name = max(values, key=lambda one: _length(values[one]), default="")
    value = values.get(name)
    length = _length(value)
    if length < 2 * len(CUT):
        return False
    values[name] = cut(value if isinstance(value, str) else json.dumps(value), length // 2)
    return True


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    return len(json.dumps(value)) if isinstance(value, list | dict) else 0
