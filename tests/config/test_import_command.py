"""`pointsman import`, as a person runs it, and check-config on what it wrote."""

import re
import tomllib
from pathlib import Path

import pytest

from middleware.config.imported import seconds_of
from tests.config.test_cli import pointsman
from tests.config.test_import_pgbouncer import PGBOUNCER
from tests.config.test_import_pgpool import PGPOOL


# What a person sees of each: nothing is missing of the first, the users of the second.
@pytest.mark.parametrize(
    ("name", "text", "listen_port", "note", "missing"),
    [
        ("pgbouncer.ini", PGBOUNCER, 6543, "so_reuseport: set workers", ""),
        ("pgbouncer.conf", PGBOUNCER, 6543, "so_reuseport: set workers", ""),
        ("pgpool.conf", PGPOOL, 9999, "default_pool_size: each client has", "users: missing: auth_type"),
    ],
)
def test_what_is_written_is_taken(
    tmp_path: Path, name: str, text: str, listen_port: int, note: str, missing: str
) -> None:
    (tmp_path / "userlist.txt").write_text('"asker" "secret"\n')
    (tmp_path / name).write_text(text)
    done = pointsman("import", name, cwd=tmp_path)
    assert done.returncode == 0
    values = tomllib.loads(done.stdout)
    assert values["listen_port"] == listen_port
    assert values.get("auth_file", str(tmp_path / "userlist.txt")) == str(tmp_path / "userlist.txt")
    assert f"{name}: {note}" in done.stderr
    (tmp_path / "pointsman.toml").write_text(done.stdout)
    checked = pointsman("check-config", cwd=tmp_path)
    if missing:
        assert f"to be completed: {missing}" in done.stderr
        assert checked.stderr.startswith(f"pointsman.toml: {missing}")
    else:
        assert "to be completed" not in done.stderr
        assert (checked.returncode, checked.stdout) == (0, "pointsman.toml: ok\n")


def test_what_is_no_file_of_theirs(tmp_path: Path) -> None:
    for name, content, why in (
        ("a.ini", b"x", "line 1: "),
        ("a.conf", b"x", "no backend_hostname0"),
        ("b.conf", b"# \xe9", "not UTF-8 at byte 2"),
    ):
        (tmp_path / name).write_bytes(content)
        done = pointsman("import", name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{name}: {why}")
    done = pointsman("import", "missing.ini", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "missing.ini: no such file or directory\n")


@pytest.mark.parametrize(
    ("text", "unit_s", "expected"),
    [("5", 1.0, 5.0), ("5", 1e-3, 0.005), ("1min", 1e-3, 60.0), (" 20 ms", 1.0, 0.02), ("1e3", 1.0, 1000.0)],
)
def test_durations(text: str, unit_s: float, expected: float) -> None:
    assert seconds_of(text, unit_s) == pytest.approx(expected)
    for wrong in ("", "x", "5 weeks", "1.2.3", "."):
        with pytest.raises(ValueError, match="is not a duration"):
            seconds_of(wrong, 1.0)


def test_the_example_of_the_manual_is_what_comes_out(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text()
    ini, said, toml = (re.findall(rf"^```{kind}\n(.*?)^```", page, re.M | re.S)[0] for kind in ("ini", "text", "toml"))
    (tmp_path / "pgbouncer.ini").write_text(ini)
    done = pointsman("import", "pgbouncer.ini", cwd=tmp_path)
    assert done.stdout == toml
    assert done.stderr.replace("pgbouncer.ini: ", "") == said
