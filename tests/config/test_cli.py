"""The commands that need no cluster, run as a person runs them."""

import os
import subprocess
import sys
from pathlib import Path

GOOD = '[health_check]\nuser = "m"\n[nodes.db1]\nhost = "127.0.0.1"\n[users.app]\npassword = "s3cret-word"\n'


def pointsman(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command's outcome."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    return subprocess.run(
        [sys.executable, "-m", "middleware", *arguments],
        cwd=cwd,
        env=clean | {"NO_COLOR": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_config_says_ok(tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text(GOOD)
    done = pointsman("check-config", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "pointsman.toml: ok\n", "")


def test_check_config_lists_mistakes(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("workers = 0\nlisten_prt = 1\n" + GOOD)
    done = pointsman("check-config", "-c", "p.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "p.toml: workers: 0 is not allowed: a whole number from 1 to 256",
        "p.toml: listen_prt: unknown, did you mean listen_port?",
    ]


def test_serve_refuses_what_check_config_refuses(tmp_path: Path) -> None:
    done = pointsman("serve", "-c", "nowhere.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "nowhere.toml: no such file or directory\n")


def test_serve_tells_an_address_it_cannot_have_in_one_line(tmp_path: Path) -> None:
    # 192.0.2.0/24 is for documentation: no machine has it.
    (tmp_path / "p.toml").write_text('listen_addr = "192.0.2.1"\n[log]\nlevel = "error"\n' + GOOD)
    done = pointsman("serve", "-c", "p.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "pointsman: could not listen on 192.0.2.1:6432: cannot assign requested address\n"


def test_version_and_help(tmp_path: Path) -> None:
    assert pointsman("--version", cwd=tmp_path).stdout.startswith("pointsman ")
    shown = pointsman("--help", cwd=tmp_path).stdout
    assert "serve" in shown
    assert "check-config" in shown


def test_settings_prints_the_reference(tmp_path: Path) -> None:
    done = pointsman("settings", cwd=tmp_path)
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == page.read_text(), "make it anew: pointsman settings > docs/settings.md"
    for name in ("listen_port", "auth_query", "query_wait_timeout", "max_replica_lag", "pool_size", "catalog_refresh"):
        assert f"| `{name}` |" in done.stdout
    assert "HikariCP: `leakDetectionThreshold`" in done.stdout
