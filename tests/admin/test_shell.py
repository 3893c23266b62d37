"""What the shell makes of an answer's values."""

import msgspec
import pytest

from middleware.admin.table import Value
from middleware.cli.remote import Answer


@pytest.mark.parametrize("value", [553, -1, 2**53 + 1, 2.5, "553", "", True, False, None])
def test_a_value_keeps_its_type_on_its_way(value: Value) -> None:
    line = msgspec.json.encode({"rows": [[value]]})
    rows = msgspec.json.decode(line, type=Answer).rows
    assert rows is not None
    assert (rows[0][0], type(rows[0][0])) == (value, type(value))
