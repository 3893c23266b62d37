"""PostgreSQL's units."""

import pytest

from middleware.doctor.units import Value, bytes_of, seconds_of, size, value_of


@pytest.mark.parametrize(
    ("setting", "unit", "kind", "value"),
    [
        ("100", None, "integer", 100),
        ("16384", "8kB", "integer", 128 * 2**20),
        ("4096", "kB", "integer", 4 * 2**20),
        ("1024", "MB", "integer", 2**30),
        ("5", "16MB", "integer", 80 * 2**20),
        ("30000", "ms", "integer", 30.0),
        ("10", "s", "integer", 10.0),
        ("5", "min", "integer", 300.0),
        ("-1", "ms", "integer", -1),
        ("-1", "kB", "integer", -1),
        ("0", "ms", "integer", 0),
        ("2", None, "real", 2.0),
        ("off", None, "bool", "off"),
        ("replica", None, "enum", "replica"),
        ("ANY 1 (a)", None, "string", "ANY 1 (a)"),
    ],
)
def test_rows_of_pg_settings(setting: str, unit: str | None, kind: str, value: Value) -> None:
    assert value_of(setting, unit, kind) == value


@pytest.mark.parametrize(("text", "seconds"), [("5000", 5.0), ("5s", 5.0), ("1.5min", 90.0), ("0", 0.0), ("1h", 3600)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("16GB", 16 * 2**30), ("512 MB", 512 * 2**20), ("1024", 1024), ("1.5gb", 3 * 2**29)]
)
def test_sizes(text: str, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "much", "16 parsecs", "1,5GB", "GB"])
def test_what_is_no_size_or_duration(text: str) -> None:
    for reader in (bytes_of, seconds_of):
        with pytest.raises(ValueError, match="not a number with a unit"):
            reader(text)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1536, "1.5 kB"), (16 * 2**30, "16 GB"), (5 * 2**40, "5 TB"), (2**52, "4096 TB")]
)
def test_sizes_for_people(count: int, shown: str) -> None:
    assert size(count) == shown
