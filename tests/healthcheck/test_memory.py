"""The state file: what it keeps, what it refuses, and what is left when a write fails."""

import os
from pathlib import Path

import pytest

from healthcheck.line import Credentials
from healthcheck.memory import Remembered, StateFile
from healthcheck.monitor import Monitor, Target
from healthcheck.state import Rhythm
from healthcheck.topology import Topology


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    assert file.read() is None
    file.write(Remembered(7, 2))
    assert file.read() == Remembered(7, 2)
    file.write(Remembered(7, 3))
    assert StateFile(tmp_path / "state").read() == Remembered(7, 3)
    assert os.listdir(tmp_path) == ["state"]


def test_a_lower_timeline_is_never_written_over_a_higher_one(tmp_path: Path) -> None:
    """By another Pointsman with the same file, or one that has been told less."""
    StateFile(tmp_path / "state").write(Remembered(7, 3))
    StateFile(tmp_path / "state").write(Remembered(7, 2))
    assert StateFile(tmp_path / "state").read() == Remembered(7, 3)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b'{"timeline": 2}', b'{"system_identifier": 7, "timeline": "x"}', b"\xff"]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="it is not a state file of Pointsman's"):
        StateFile(tmp_path / "state").read()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(tmp_path / "state")
    file.write(Remembered(7, 2))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.write(Remembered(7, 3))
    assert file.read() == Remembered(7, 2)
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize(
    ("one", "other", "beyond"),
    [
        (Remembered(7, 2), None, True),
        (Remembered(7, 2), Remembered(7, 1), True),
        (Remembered(7, 2), Remembered(7, 2), False),
        (Remembered(7, 2), Remembered(7, 3), False),
        (Remembered(7, 2), Remembered(8, 1), False),
    ],
)
def test_which_says_more(one: Remembered, other: Remembered | None, beyond: bool) -> None:
    assert one.beyond(other) is beyond


@pytest.mark.parametrize(
    ("topology", "remembered"),
    [
        (Topology(), None),
        (Topology(system_identifier=7), None),
        (Topology(timeline=2), None),
        (Topology(system_identifier=7, timeline=2), Remembered(7, 2)),
    ],
)
def test_what_a_topology_has_to_be_remembered_for(topology: Topology, remembered: Remembered | None) -> None:
    assert Remembered.of(topology) == remembered


def test_a_monitor_knows_the_highest_of_its_own_cluster() -> None:
    monitor = Monitor([Target("a", "a", 1)], Credentials("u", None, "d"), Rhythm(), lambda _: None)
    for told, known in (
        (Remembered(7, 2), Remembered(7, 2)),
        (Remembered(7, 1), Remembered(7, 2)),
        (Remembered(8, 5), Remembered(7, 2)),
        (Remembered(7, 3), Remembered(7, 3)),
    ):
        monitor.know(told)
        assert Remembered.of(monitor.topology) == known
