"""What a table shows where query caches are, and what is said of one that has hardly answered."""

from pathlib import Path

from rich.console import Console

from middleware.sandbox import Sandbox
from tests.bench.contenders import Contender
from tests.bench.measure import Sample
from tests.bench.pgbench import Outcome
from tests.bench.report import hardly_cached, table


class Cached(Contender):
    key = "cached"
    title = "A cache"
    caches = 1


def sample(contender: str, number: int, tps: float, hit_ratio: float | None = None) -> Sample:
    outcome = Outcome(1, 1.0, 0.0, tps, None, None, 0, "")
    return Sample(contender, "simple", 16, number, outcome, 10.0, 40.0 if hit_ratio is None else 0.5, hit_ratio)


def lines_of(contenders: list[Contender], samples: list[Sample]) -> dict[str, list[str]]:
    """The cells of each contender's line."""
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(table(contenders, samples, "simple", 16))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in capture.get().splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows}


def test_a_cache_is_shown_with_its_hits_beside_postgresql(tmp_path: Path) -> None:
    direct, cached = Contender(Sandbox(), tmp_path), Cached(Sandbox(), tmp_path)
    samples = [sample("direct", 1, 100.0), sample("direct", 2, 200.0)]
    samples += [sample("cached", 1, 150.0, 0.999), sample("cached", 2, 330.0, 0.997)]
    rows = lines_of([direct, cached], samples)
    assert rows["PostgreSQL"][4:] == ["40.0", "-", "1.00"]
    assert rows["A cache"][4:] == ["0.5", "99.8%", "1.57"]
    # Where there is none, there is nothing of it.
    assert len(lines_of([direct], samples)["PostgreSQL"]) == 4


def test_runs_that_a_cache_has_hardly_answered_are_named(tmp_path: Path) -> None:
    direct, cached = Contender(Sandbox(), tmp_path), Cached(Sandbox(), tmp_path)
    samples = [sample("direct", 1, 100.0), sample("cached", 1, 150.0, 0.9), sample("cached", 2, 150.0, 0.8999)]
    (line,) = hardly_cached([direct, cached], samples)
    assert "simple, 16 clients, round 2, A cache" in line
    assert line.startswith("NOT CACHED")
