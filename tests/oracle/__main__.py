"""The command line of `make oracle`."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from middleware.sandbox import Sandbox
from tests.oracle.corpus import corpus
from tests.oracle.endpoint import through, try_through
from tests.oracle.functions import calls, functions
from tests.oracle.generate import Generator
from tests.oracle.hostile import stages
from tests.oracle.judge import Nodes
from tests.oracle.relations import reads
from tests.oracle.report import show_doubts, show_figures, show_findings
from tests.oracle.routed import Judge
from tests.oracle.schema import oracle_database
from tests.oracle.statement import Statement
from tests.oracle.trial import Tally, doubts, try_all

VERSIONS: Final = {"16": (16,), "18": (18,), "both": (16, 18)}
PLAIN_WIDTH: Final = 130


class Amounts(NamedTuple):
    """How many statements, of those there is no end of."""

    generated: int
    through: int


def main(
    version: Annotated[str, typer.Option(help="PostgreSQL's major version: 16, 18 or both.")] = "both",
    generated: Annotated[int, typer.Option(min=0, help="How many statements to compose at random.")] = 3000,
    seed: Annotated[int | None, typer.Option(help="Of the composition; printed, to run it again.")] = None,
    through_endpoint: Annotated[
        int, typer.Option("--through", min=0, help="How many statements to send through a running Pointsman.")
    ] = 1500,
    doubt: Annotated[
        bool, typer.Option("--doubt", help="Also run what must stay, and show where the nodes do not see why.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="How many statements to show for each reason.")] = 2,
) -> None:
    """A real standby judges the routing: what goes there must not fail there, answer otherwise, or lack a trace.

    Prints the misroutes, and the share of statements that a standby could have had and the primary kept.

    Exit status 1 on any misroute, or when the nodes contradict what the corpus says of a statement.
    """
    if version not in VERSIONS:
        raise typer.BadParameter(f"{version!r} is none of {', '.join(VERSIONS)}", param_hint="--version")
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    seed = random.randrange(2**32) if seed is None else seed
    console.print(f"seed {seed}")
    passed = [
        run(console, number, Amounts(generated, through_endpoint), seed, doubt, most) for number in VERSIONS[version]
    ]
    raise typer.Exit(0 if all(passed) else 1)


def run(console: Console, version: int, amounts: Amounts, seed: int, doubt: bool, most: int) -> bool:
    """All parts against one version; whether it passed."""
    with Sandbox(standbys=1, version=version) as cluster, oracle_database(cluster) as database:
        judge = Judge(cluster, database)
        parts: dict[str, Tally] = {}
        with Nodes(cluster, database) as nodes:
            for name, statements in asked(cluster, database, amounts.generated, seed).items():
                with progress(console, name, len(statements)) as tick:
                    parts[name] = try_all(judge.decide, nodes, statements, tick)
            if doubt:
                with progress(console, "doubts", len(hand_written := corpus())) as tick:
                    show_doubts(console, doubts(nodes, hand_written, tick), most)
            if amounts.through:
                with through(cluster, database, seed) as asking, progress(console, "endpoint", amounts.through) as tick:
                    parts["endpoint"] = try_through(asking, judge.decide, amounts.through, seed, tick)
                nodes.forget()
            for stage in stages():
                cluster.query(stage.changes, user=stage.user, database=database)
                cluster.wait_for_replay()
                judge.reload()
                nodes.forget()
                with progress(console, stage.name, len(stage.statements)) as tick:
                    parts[stage.name] = try_all(judge.decide, nodes, stage.statements, tick)
    for name, tally in parts.items():
        console.rule(name, align="left")
        show_findings(console, tally, most)
    show_figures(console, cluster.version, parts)
    return all(tally.passed() for tally in parts.values())


def asked(cluster: Sandbox, database: str, generated: int, seed: int) -> dict[str, list[Statement]]:
    """All statements, by the part they belong to."""
    return {
        "corpus": corpus(),
        "relations": reads(cluster, database),
        "functions": calls(functions(cluster, database)),
        "generated": list(Generator(seed).statements(generated)),
    }


@contextmanager
def progress(console: Console, name: str, count: int) -> Iterator[Callable[[], None]]:
    """A bar that tells how far it is; yields what moves it on."""
    with Progress(TextColumn(name), BarColumn(), MofNCompleteColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=count)
        yield lambda: bar.advance(task)


if __name__ == "__main__":
    typer.run(main)
