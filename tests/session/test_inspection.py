"""What PostgreSQL says of a session's state, and what it never says."""

import pytest

from middleware.session.inspection import findings
from middleware.wire.backend import DataRow


def test_rows_are_read() -> None:
    found = findings([DataRow((b"settings", b"TimeZone", b"CET")).body(), DataRow((b"listen", None, None)).body()])
    assert found is not None
    assert found.settings == {b"timezone": b"CET"}
    assert found.found == {"listen"}


@pytest.mark.parametrize("row", [b"", b"\0\x01\0\0\0\0", b"\0\x03\0\0\0\x09x"])
def test_what_is_no_answer_is_none(row: bytes) -> None:
    assert findings([row]) is None
