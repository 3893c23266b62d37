"""The outcome for people (a table per mode and number of clients) and for programs (a JSON file)."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from tests.bench.contenders import Contender
from tests.bench.measure import Sample, Spread, ratios, spread
from tests.bench.pgbench import Mode

RESULTS: Final = Path("bench-results")
BASES: Final = (("pgbouncer", "PgBouncer"), ("pgpool", "pgpool-II"))
"""Whom the others are compared with."""
CACHED_BASES: Final = (("pgbouncer", "PgBouncer"), ("pgpool-cached", "pgpool-II cached"))
"""The same where query caches are."""
HIT_RATIO_MIN: Final = 0.9
"""Below it a run says little of a cache."""


class Machine(msgspec.Struct, frozen=True):
    """Where and with what a run was made."""

    cpus: int
    cpu: str
    kernel: str
    python: str
    load_before: float
    """The load average over the last minute, before anything was started."""
    commit: str
    versions: dict[str, str]


class Results(msgspec.Struct, frozen=True):
    """The content of the JSON file."""

    started: str
    workload: str
    seconds: int
    rounds: int
    machine: Machine
    samples: list[Sample]


def describe_machine(contenders: Sequence[Contender], load_before: float) -> Machine:
    return Machine(
        cpus=os.cpu_count() or 1,
        cpu=_cpu_model(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_before=load_before,
        commit=_commit(),
        versions={contender.key: contender.version() for contender in contenders},
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return answer.stdout.strip() or "unknown"


def save(results: Results, directory: Path = RESULTS) -> Path:
    """Write the JSON file, named after the time; its path."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path


def table(contenders: Sequence[Contender], samples: Sequence[Sample], mode: Mode, clients: int) -> Table:
    """What all contenders did in one mode with one number of clients."""
    here = {
        contender.key: [s for s in samples if (s.contender, s.mode, s.clients) == (contender.key, mode, clients)]
        for contender in contenders
    }
    result = Table(title=f"{mode}, {clients} client{'s' if clients > 1 else ''}", title_justify="left")
    result.add_column("contender", no_wrap=True)
    cached = any(contender.caches for contender in contenders)
    for name in ("TPS", "p50 ms", "p99 ms", "CPU µs/txn", *(CACHED_COLUMNS if cached else ())):
        result.add_column(name, justify="right", no_wrap=True)
    bases = [(key, title) for key, title in (CACHED_BASES if cached else BASES) if here.get(key)]
    for _, title in bases:
        result.add_column(f"CPU (TPS)\n÷ {title}", justify="right", no_wrap=True)
    for contender in contenders:
        mine = here[contender.key]
        failed = sum(sample.outcome.failed for sample in mine)
        result.add_row(
            f"[red]{contender.title}: {failed} failed[/]" if failed else contender.title,
            _number(spread([s.outcome.tps for s in mine]), 0),
            _number(_of(mine, lambda s: s.outcome.p50_ms), 2),
            _number(_of(mine, lambda s: s.outcome.p99_ms), 2),
            _number(_of(mine, lambda s: s.cpu_us), 1, ends=True),
            *(_cached_cells(mine, here.get("direct", ())) if cached else ()),
            *(_ratio(mine, here[key]) for key, _ in bases),
        )
    return result


CACHED_COLUMNS: Final = ("PostgreSQL's", "hits", "TPS\n÷ PostgreSQL")


def _cached_cells(samples: Sequence[Sample], direct: Sequence[Sample]) -> tuple[str, str, str]:
    hits = _of(samples, lambda s: s.hit_ratio)
    return (
        _number(_of(samples, lambda s: s.servers_cpu_us), 1),
        "-" if hits is None else f"{hits.median:.1%}",
        _number(spread(ratios(samples, direct, lambda s: s.outcome.tps)), 2),
    )


def hardly_cached(contenders: Sequence[Contender], samples: Sequence[Sample]) -> list[str]:
    """What to say of the runs in which a query cache has answered too few to be measured."""
    titles = {contender.key: contender.title for contender in contenders}
    return [
        f"NOT CACHED: of {sample.mode}, {sample.clients} clients, round {sample.round}, {titles[sample.contender]} has "
        f"answered {sample.hit_ratio:.1%} from its cache: this is no figure of a cache"
        for sample in samples
        if sample.hit_ratio is not None and sample.hit_ratio < HIT_RATIO_MIN
    ]


def _of(samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> Spread | None:
    return spread([number for sample in samples if (number := value(sample)) is not None])


def _number(value: Spread | None, digits: int, *, ends: bool = False) -> str:
    if value is None:
        return "-"
    median = f"{value.median:.{digits}f}"
    return f"{median} ({value.low:.{digits}f}–{value.high:.{digits}f})" if ends else median  # noqa: RUF001


def _ratio(samples: Sequence[Sample], base: Sequence[Sample]) -> str:
    cpu = spread(ratios(samples, base, lambda s: s.cpu_us))
    tps = spread(ratios(samples, base, lambda s: s.outcome.tps))
    return f"{_number(cpu, 2)} ({_number(tps, 2)})"
