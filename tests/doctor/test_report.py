"""What people and programs are shown."""

import io
import json

from rich.console import Console

from middleware.doctor.checks import diagnose
from middleware.doctor.facts import Case
from middleware.doctor.report import as_json, show
from tests.doctor.made import ONE_PER_SEVERITY, made


def shown(case: Case, width: int = 80) -> str:
    text = io.StringIO()
    show(Console(file=text, width=width, highlight=False), case, diagnose(case))
    return text.getvalue()


def test_by_severity_and_once_for_nodes_that_are_alike() -> None:
    lines = shown(made(*ONE_PER_SEVERITY)).splitlines()
    assert lines[:3] == [
        "node  role     version  max_connections  for clients  each  needed  advised",
        "db1   primary  18.1                 100           92    92      26       17",
        "db2   standby  18.1                 100           92    92      26       17",
    ]
    assert [line for line in lines if line.endswith("(1)")] == ["Errors (1)", "Warnings (1)", "Advice (1)"]
    assert "  db1, db2: fsync is off" in lines
    assert "      change: fsync = on  [fsync]" in lines


def test_it_wraps_at_the_width_and_leaves_no_blanks_behind() -> None:
    for width in (60, 79, 140):
        lines = shown(made(*ONE_PER_SEVERITY), width).splitlines()
        # The table's rows alone are filled up.
        assert all(line == line.rstrip() for line in lines[3:])
        assert max(len(line) for line in lines) <= width


def test_a_node_that_did_not_answer() -> None:
    lines = shown(made(standby={"why": "connection refused"})).splitlines()
    assert lines[2].split() == ["db2", "not", "asked", "?", "?", "?", "?", "?", "?"]
    assert "  db2: it could not be asked: connection refused" in lines


def test_nothing_to_change() -> None:
    assert shown(made()).endswith("\nNothing to change was found.\n")


def test_json() -> None:
    case = made(*ONE_PER_SEVERITY, instances=2)
    document = json.loads(as_json(case, diagnose(case)))
    assert document["instances"] == 2
    assert document["nodes"][1] == {
        "node": "db2",
        "role": "standby",
        "version": "18.1",
        "max_connections": 100,
        "for_clients": 92,
        "for_each_instance": 46,
        "needed_by_each": 26,
        "cores_formula": 17,
        "memory_bytes": 16 * 2**30,
    }
    assert [(one["severity"], one["check"], one["node"]) for one in document["findings"]] == [
        ("error", "fsync", "db1"),
        ("error", "fsync", "db2"),
        ("warning", "hot_standby_feedback", "db2"),
        ("advice", "client_idle_timeout", ""),
    ]
    assert list(document["findings"][0]) == ["check", "severity", "node", "what", "why", "change"]
