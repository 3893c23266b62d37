"""Messages the proxy makes itself, as bytes."""

from typing import Final

from middleware.errors import PointsmanError
from middleware.sqlstate import SUCCESSFUL_COMPLETION
from middleware.wire.codes import ERROR_RESPONSE, NOTICE_RESPONSE

READY_IDLE: Final = b"Z\0\0\0\x05I"
"""ReadyForQuery, outside a transaction."""
READY_FAILED: Final = b"Z\0\0\0\x05E"
"""The same in a transaction that has failed."""
SYNC_MESSAGE: Final = b"S\0\0\0\x04"
FLUSH_MESSAGE: Final = b"H\0\0\0\x04"
TERMINATE_MESSAGE: Final = b"X\0\0\0\x04"
PARSE_COMPLETE_MESSAGE: Final = b"1\0\0\0\x04"


def message(code: int, body: bytes) -> bytes:
    """A message's bytes: its code, its length, its body."""
    return code.to_bytes(1, "big") + (len(body) + 4).to_bytes(4, "big") + body


def error_response(error: PointsmanError, severity: str = "") -> bytes:
    """The ErrorResponse for an error of ours, with its own severity unless another is given."""
    fields = [
        ("S", severity or error.severity),
        ("V", severity or error.severity),
        ("C", error.sqlstate),
        ("M", error.message),
        ("D", error.detail),
        ("H", error.hint),
    ]
    body = b"".join(code.encode() + text.encode().replace(b"\0", b"?") + b"\0" for code, text in fields if text)
    return message(ERROR_RESPONSE, body + b"\0")


def notice(text: str) -> bytes:
    """A NoticeResponse of ours, of severity NOTICE."""
    return _notice_response((("S", "NOTICE"), ("V", "NOTICE"), ("C", SUCCESSFUL_COMPLETION), ("M", text)))


def warning(sqlstate: str, text: str, detail: str, hint: str) -> bytes:
    """A NoticeResponse of ours, of severity WARNING."""
    return _notice_response(
        (("S", "WARNING"), ("V", "WARNING"), ("C", sqlstate), ("M", text), ("D", detail), ("H", hint))
    )


def _notice_response(fields: tuple[tuple[str, str], ...]) -> bytes:
    body = b"".join(code.encode() + value.encode().replace(b"\0", b"?") + b"\0" for code, value in fields)
    return message(NOTICE_RESPONSE, body + b"\0")
