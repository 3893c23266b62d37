"""Each check by its rows, and what all of them have in common."""

from typing import Any

import msgspec
import pytest

from middleware.doctor.checks import CHAPTERS, diagnose, name_of
from middleware.doctor.facts import Case, Database, DatabaseRole, Machine, NodeFacts
from middleware.doctor.finding import Finding
from tests.doctor.made import GB, MB, NOW, ONE_PER_SEVERITY, PRIMARY, made
from tests.doctor.rows import MANY, ONE_NODE, TABLE, THIRD, THREE_NODES, A, E, Row, W, both, databases, roles, settings


def _of(check: str, case: Case) -> list[Finding]:
    return [finding for finding in diagnose(case) if finding.check == check]


def test_a_case_with_nothing_to_find() -> None:
    assert diagnose(made()) == ()


@pytest.mark.parametrize("row", TABLE, ids=[f"{row.check}-{row.severity or 'none'}-{n}" for n, row in enumerate(TABLE)])
def test_what_a_check_finds(row: Row) -> None:
    found = _of(row.check, made(**row.case))
    assert {finding.severity for finding in found} == ({row.severity} if row.severity else set())
    for finding in found:
        assert all((finding.what, finding.why, finding.change))
        assert "s3cret-word" not in f"{finding}"


def test_each_check_has_a_case_that_finds_and_one_that_does_not() -> None:
    names = [name_of(check) for _, checks in CHAPTERS for check in checks]
    assert len(names) == len(set(names))
    assert {row.check for row in TABLE if row.severity} == set(names)
    assert {row.check for row in TABLE if not row.severity} == set(names)


def test_a_node_that_did_not_answer_is_one_finding_and_the_others_are_looked_at() -> None:
    case = made(standby={"why": "no answer within 5 s"}, primary={"fsync": "off"})
    assert [(finding.check, finding.node) for finding in diagnose(case)] == [("unasked", "db2"), ("fsync", "db1")]


def test_nobody_answers() -> None:
    case = made(primary={"why": "connection refused"}, standby={"why": "connection refused"})
    assert {finding.check for finding in diagnose(case)} == {"unasked"}


def test_errors_come_first() -> None:
    found = diagnose(made(*ONE_PER_SEVERITY))
    assert [finding.severity for finding in found] == [E, E, W, A]


@pytest.mark.parametrize(
    ("case", "check", "change"),
    [
        (settings(default_pool_size=87), "max_connections", "default_pool_size = 86, or max_connections = 101"),
        (
            {"settings": {"default_pool_size": 50}, "instances": 2},
            "max_connections",
            "default_pool_size = 40, or max_connections = 120",
        ),
        (settings(reserve_pool_size=70), "max_connections", "pools of 86 servers each, reserves included, or max"),
        (
            databases(*(Database(f"d{n}") for n in range(90))),
            "max_connections",
            "fewer pools or instances, or max_connections = 1814 on every node, or --database",
        ),
        (
            databases(*(Database(f"d{n}") for n in range(100))),
            "max_connections",
            "fewer pools or instances, or --database",
        ),
        (
            databases(Database("a"), Database("b")) | {"instances": 2, "settings": {"users": MANY}},
            "max_connections",
            "max_db_connections = 20, or max_connections",
        ),
        (roles(DatabaseRole("app", connection_limit=9)), "role_limit", "max_user_connections = 9, or ALTER ROLE"),
        (both(memory_bytes=5 * GB), "work_mem", "smaller shared_buffers"),
        ({"machine": Machine(500, 8, NOW)}, "file_descriptors", "LimitNOFILE=843"),
    ],
)
def test_the_value_to_change_to(case: dict[str, Any], check: str, change: str) -> None:
    assert _of(check, made(**case))[0].change.startswith(change)


@pytest.mark.parametrize("size", [86, 40])
def test_what_is_advised_for_pools_is_enough(size: int) -> None:
    """The advice, followed, leaves nothing to find."""
    instances = 86 // size
    before = _of("max_connections", made({"default_pool_size": size + 1}, instances=instances))
    advised = int(before[0].change.split(" = ")[1].split(",")[0])
    assert not _of("max_connections", made({"default_pool_size": advised}, instances=instances))


def test_the_advised_work_mem_is_enough() -> None:
    node = {"memory_bytes": 5400 * MB}
    found = _of("work_mem", made(primary=node, standby=node))
    kilobytes = int(found[0].change.removeprefix("work_mem = ").split("kB")[0])
    again = {**node, "work_mem": kilobytes * 1024}
    assert not _of("work_mem", made(primary=again, standby=again))


def test_two_primaries_and_a_standby_of_one() -> None:
    case = made({"nodes": THREE_NODES}, standby={"in_recovery": False, "timeline": 2}, more=(THIRD,))
    assert [finding.what for finding in _of("primaries", case)] == [
        "2 primaries: db1 (timeline 1), db2 (timeline 2)",
    ]


def test_a_rule_names_itself_and_the_top_level_is_told_once() -> None:
    case = made({"query_wait_timeout": 10, "routes": [{"name": "r", "database": "app"}]})
    assert [finding.what.partition(" ")[0] for finding in _of("query_wait_timeout", case)] == ["query_wait_timeout"]
    case = made({"routes": [{"name": "r", "database": "app", "query_wait_timeout": 10}]})
    assert [finding.what[:8] for finding in _of("query_wait_timeout", case)] == ["rule r: "]


def test_facts_that_are_not_known_are_not_judged() -> None:
    unknown = NodeFacts("db1", version=180_001, system_identifier=7, databases=PRIMARY.databases, roles=PRIMARY.roles)
    found = diagnose(msgspec.structs.replace(made(ONE_NODE), nodes=(unknown,)))
    assert {finding.check for finding in found} == {"no_standby", "memory_not_known", "cores"}
