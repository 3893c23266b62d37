"""Values of the console's answers as PostgreSQL sends them, in text and in binary ("Formats and Format Codes")."""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from middleware.admin.table import OIDS, Column, ColumnType, Value
from middleware.wire.backend import Column as Described

TEXT: Final = 0
BINARY: Final = 1

SIZES: Final[dict[ColumnType, int]] = {"bool": 1, "int4": 4, "int8": 8, "float8": 8, "timestamptz": 8}
"""In bytes, in binary; of the others it varies."""

EPOCH_2000_S: Final = 946_684_800
"""PostgreSQL's moments count from 2000, UTC."""
INT4_MAX: Final = (1 << 31) - 1
NUMERIC_BASE_DIGITS: Final = 4
NUMERIC_NEGATIVE: Final = 0x4000

_INT4: Final = struct.Struct("!i")
_INT8: Final = struct.Struct("!q")
_FLOAT8: Final = struct.Struct("!d")
_EMPTY_ARRAY: Final = struct.Struct("!iii")
"""Dimensions, whether there are nulls, and the type of its elements."""
_NUMERIC: Final = struct.Struct("!HhHH")


def described(columns: tuple[Column, ...], formats: tuple[int, ...]) -> tuple[Described, ...]:
    """What a RowDescription says of them. `formats`: none for all text, one for all, or one each."""
    return tuple(
        [
            Described(
                column.name.encode(), OIDS[column.type], SIZES.get(column.type, -1), format=format_of(formats, at)
            )
            for at, column in enumerate(columns)
        ]
    )


def format_of(formats: tuple[int, ...], column: int) -> int:
    """The format of one column, by what Bind says of all."""
    if not formats:
        return TEXT
    return formats[0] if len(formats) == 1 else formats[column]


def encoded(columns: tuple[Column, ...], formats: tuple[int, ...], row: tuple[Value, ...]) -> tuple[bytes | None, ...]:
    """A row's values."""
    return tuple(
        [
            None
            if value is None
            else _binary(column.type, value)
            if format_of(formats, at) == BINARY
            else text_of(column.type, value).encode(errors="replace")
            for at, (column, value) in enumerate(zip(columns, row, strict=True))
        ]
    )


def text_of(kind: ColumnType, value: str | bool | float) -> str:
    """A value as PostgreSQL prints it."""
    match kind:
        case "bool":
            return "t" if value else "f"
        case "int4":
            return str(_int4(value))
        case "int8":
            return str(int(value))
        case "numeric":
            return format(_decimal(value), "f")
        case "float8":
            return repr(float(value))
        case "timestamptz":
            return moment(float(value))
        case _:
            # A zero would end it.
            return str(value).replace("\0", "?")


def moment(at_s: float) -> str:
    """A moment as PostgreSQL prints it in UTC."""
    shown = datetime.fromtimestamp(round(at_s, 6), UTC)
    fraction = f".{shown.microsecond:06}".rstrip("0") if shown.microsecond else ""
    return f"{shown:%Y-%m-%d %H:%M:%S}{fraction}+00"


def _binary(kind: ColumnType, value: str | bool | float) -> bytes:
    match kind:
        case "bool":
            return b"\1" if value else b"\0"
        case "int4":
            return _INT4.pack(_int4(value))
        case "int8":
            return _INT8.pack(int(value))
        case "float8":
            return _FLOAT8.pack(float(value))
        case "numeric":
            return _binary_numeric(_decimal(value))
        case "timestamptz":
            return _INT8.pack(round((float(value) - EPOCH_2000_S) * 1_000_000))
        case "text[]":
            return _EMPTY_ARRAY.pack(0, 0, OIDS["text"])
        case _:
            return str(value).replace("\0", "?").encode(errors="replace")


def _int4(value: str | bool | float) -> int:
    """The nearest that there is: some of PgBouncer's columns are narrow."""
    return max(-INT4_MAX - 1, min(INT4_MAX, int(value)))


def _decimal(value: str | bool | float) -> Decimal:
    """Of a float the shortest that reads back as the same."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _binary_numeric(value: Decimal) -> bytes:
    """Digits of base 10000: their number, the weight of the first, the sign, and the decimals that are shown."""
    whole, _, decimals = format(value.copy_abs(), "f").partition(".")
    digits = whole.lstrip("0")
    digits = digits.rjust(-(-len(digits) // NUMERIC_BASE_DIGITS) * NUMERIC_BASE_DIGITS, "0")
    weight = len(digits) // NUMERIC_BASE_DIGITS - 1
    digits += decimals.ljust(-(-len(decimals) // NUMERIC_BASE_DIGITS) * NUMERIC_BASE_DIGITS, "0")
    groups = [int(digits[at : at + NUMERIC_BASE_DIGITS]) for at in range(0, len(digits), NUMERIC_BASE_DIGITS)]
    while groups and groups[-1] == 0:
        groups.pop()
    while groups and groups[0] == 0:
        del groups[0]
        weight -= 1
    if not groups:
        weight = 0
    sign = NUMERIC_NEGATIVE if value < 0 and groups else 0
    return _NUMERIC.pack(len(groups), weight, sign, len(decimals)) + struct.pack(f"!{len(groups)}H", *groups)
