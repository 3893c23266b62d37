"""What a node of the compose demo does, by what it is and what its peers say: deploy/node/decide.sh, run as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NODE = Path(__file__).parents[2] / "deploy" / "node" / "node.sh"

OURS = "7400000000000000001"
#: Differs in the last digit alone: as floating point numbers the two are equal.
OTHERS = "7400000000000000002"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def primary(name: str, timeline: int, cluster: str = OURS) -> str:
    return f"{name} primary {timeline} {cluster}"


def standby(name: str, timeline: int, cluster: str = OURS) -> str:
    return f"{name} standby {timeline} {cluster}"


def starting(name: str) -> str:
    return f"{name} starting - -"


def unknown(name: str) -> str:
    return f"{name} unknown - -"


def down(name: str) -> str:
    return f"{name} down - -"


def answer(subcommand: str, words: str, table: tuple[str, ...]) -> str:
    done = subprocess.run(
        ["bash", str(NODE), subcommand, *words.split()],
        input="".join(f"{line}\n" for line in table),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout.strip()


class Case(NamedTuple):
    title: str
    own: str
    peers: tuple[str, ...]
    expected: str


FIRST = "none - - yes"
LATER = "none - - no"
BROKEN = "broken - - yes"
WAS_PRIMARY = f"primary 2 {OURS} yes"
WAS_STANDBY = f"standby 2 {OURS} no"

DECISIONS = [
    Case("the first node of all makes the cluster", FIRST, (down("db2"), down("db3")), "init"),
    Case("a lone first node too", FIRST, (), "init"),
    Case("others wait for it", LATER, (down("db1"), down("db3")), "wait there is no primary to clone from"),
    Case("and clone it", LATER, (primary("db1", 1), down("db3")), "clone db1"),
    Case("a first node that lost its data clones", FIRST, (primary("db2", 2), standby("db3", 2)), "clone db2"),
    Case(
        "and makes no second cluster beside standbys",
        FIRST,
        (standby("db2", 2), down("db3")),
        "wait there is no primary to clone from",
    ),
    Case("nor beside one that starts", FIRST, (starting("db2"), down("db3")), "wait there is no primary to clone from"),
    Case("nor beside one that refuses us", FIRST, (unknown("db2"),), "wait there is no primary to clone from"),
    Case("what a rewind left half-made is cloned", BROKEN, (primary("db2", 2), down("db3")), "clone db2"),
    Case("and never made anew", BROKEN, (down("db2"), down("db3")), "wait there is no primary to clone from"),
    Case("of two primaries the newer is cloned", LATER, (primary("db1", 2), primary("db3", 10)), "clone db3"),
    Case(
        "of two on one timeline neither",
        LATER,
        (primary("db1", 2), primary("db3", 2)),
        "wait more than one primary on timeline 2",
    ),
    Case("alone, it leads again", WAS_PRIMARY, (down("db2"), down("db3")), "primary"),
    Case(
        "standbys without another primary are its own", WAS_PRIMARY, (standby("db2", 2), standby("db3", 1)), "primary"
    ),
    Case("a newer primary is followed", WAS_PRIMARY, (primary("db2", 3), standby("db3", 3)), "follow db2"),
    Case("by number, not by text", WAS_PRIMARY, (primary("db2", 10), down("db3")), "follow db2"),
    Case("the newest of them", WAS_PRIMARY, (primary("db2", 3), primary("db3", 4)), "follow db3"),
    Case("though another is still starting", WAS_PRIMARY, (primary("db2", 3), starting("db3")), "follow db2"),
    Case("an older primary has to give way itself", WAS_PRIMARY, (primary("db2", 1), down("db3")), "primary"),
    Case(
        "two histories of one timeline are a person's matter",
        WAS_PRIMARY,
        (primary("db2", 2), standby("db3", 2)),
        "wait db2 is primary on the same timeline 2; to clone it, remove the data directory",
    ),
    Case(
        "a standby that has seen a newer timeline keeps it down",
        WAS_PRIMARY,
        (down("db2"), standby("db3", 3)),
        "wait db3 has seen timeline 3, and this was primary on timeline 2",
    ),
    Case(
        "even beside an older primary",
        WAS_PRIMARY,
        (primary("db2", 1), standby("db3", 3)),
        "wait db3 has seen timeline 3, and this was primary on timeline 2",
    ),
    Case("one that starts may yet be it", WAS_PRIMARY, (starting("db2"),), "wait db2 does not say yet what it is"),
    Case("one that refuses us too", WAS_PRIMARY, (unknown("db3"),), "wait db3 does not say yet what it is"),
    Case("a standby starts as it was", WAS_STANDBY, (down("db1"), down("db3")), "standby"),
    Case("beside standbys too", WAS_STANDBY, (standby("db1", 3), starting("db3")), "standby"),
    Case("it follows its primary", WAS_STANDBY, (primary("db1", 2), down("db3")), "follow db1"),
    Case("or a newer one", WAS_STANDBY, (down("db1"), primary("db3", 3)), "follow db3"),
    Case("but none on an older timeline", WAS_STANDBY, (primary("db1", 1), down("db3")), "standby"),
    Case(
        "a primary of another cluster is nobody's to follow",
        WAS_STANDBY,
        (primary("db1", 3, OTHERS),),
        "wait db1 is the primary of another cluster",
    ),
    Case(
        "nor to lead beside",
        WAS_PRIMARY,
        (down("db2"), primary("db3", 1, OTHERS)),
        "wait db3 is the primary of another cluster",
    ),
    Case("a standby of another cluster has no say", WAS_PRIMARY, (standby("db2", 9, OTHERS),), "primary"),
]


@pytest.mark.parametrize("case", DECISIONS, ids=lambda case: case.title)
def test_what_to_do_while_postgresql_does_not_run(case: Case) -> None:
    assert answer("decide", case.own, case.peers) == case.expected


LEADS = f"primary 2 {OURS} f"
FOLLOWS = f"standby 2 {OURS} t"
LAGS = f"standby 2 {OURS} f"

REVIEWS = [
    Case("a primary with its standbys", LEADS, (standby("db2", 2), down("db3")), "keep"),
    Case("gives way to a newer one", LEADS, (primary("db2", 3), standby("db3", 3)), "yield db2"),
    Case("not to an older one", LEADS, (primary("db2", 1),), "keep"),
    Case("not to one on the same timeline", LEADS, (primary("db2", 2),), "keep"),
    Case("not to another cluster's", LEADS, (primary("db2", 3, OTHERS),), "keep"),
    Case("a standby follows the primary", FOLLOWS, (primary("db1", 2), down("db3")), "follow db1"),
    Case("one that gets nothing does not yet", LAGS, (primary("db1", 2), down("db3")), "stalled db1"),
    Case("nor one that streams an old timeline", FOLLOWS, (down("db1"), primary("db3", 3)), "stalled db3"),
    Case("the newer of two counts", FOLLOWS, (primary("db1", 2), primary("db3", 3)), "stalled db3"),
    Case("none on an older timeline", FOLLOWS, (primary("db1", 1),), "keep"),
    Case("nor another cluster's", FOLLOWS, (primary("db1", 3, OTHERS),), "keep"),
    Case("and goes on while there is none", FOLLOWS, (down("db1"), standby("db3", 2)), "keep"),
]


@pytest.mark.parametrize("case", REVIEWS, ids=lambda case: case.title)
def test_what_to_do_while_postgresql_runs(case: Case) -> None:
    assert answer("review", case.own, case.peers) == case.expected


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_the_scripts_pass_shellcheck() -> None:
    root = NODE.parents[2]
    others = [*(root / "deploy").glob("*.sh"), root / "tests" / "compose" / "run.sh"]
    scripts = [str(NODE), *map(str, sorted(others))]
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0
