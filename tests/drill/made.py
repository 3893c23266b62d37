"""Books and results made by hand."""

from middleware.config.drilling import DrillSettings
from middleware.drill.books import Attempt, Books, Failure, Outcome, Served, Suspect
from middleware.drill.checks import Findings
from middleware.drill.figures import Mark, buckets, figures_of
from middleware.drill.result import Note, Result
from middleware.drill.scenarios import BY_NAME
from middleware.drill.verdicts import judge
from middleware.drill.views import Event


def attempt(
    number: int,
    outcome: Outcome = Outcome.ACKNOWLEDGED,
    *,
    writer: int = 0,
    at: float | None = None,
    took_s: float = 0.01,
    sqlstate: str = "",
    message: str = "",
) -> Attempt:
    """A commit asked for; acknowledged or told of at `at`, by default a tenth of its number."""
    ended = number / 10 if at is None else at
    return Attempt(writer, number, "simple", ended - took_s, ended, outcome, sqlstate, "INSERT", message)


def suspect(number: int, *, writer: int = 0, kind: str = "own") -> Suspect:
    return Suspect(1.0, "writer 0", "db2", kind, writer, number, 0)


def failure(at: float, doing: str = "read", sqlstate: str = "08006", message: str = "lost") -> Failure:
    return Failure(at, "reader 0", doing, sqlstate, message)


def books_of(attempts: list[Attempt], reads: list[float], failures: list[Failure]) -> Books:
    books = Books()
    for told in attempts:
        books.attempted(told)
    for at in reads:
        books.read(Served(at, 0.01), "db2")
    for failed in failures:
        books.failed(failed)
    return books


def result(*, name: str = "primary-crash", text: str = "said", findings: Findings | None = None) -> Result:
    """Of a drill of ten seconds, broken at 3, writes back at 4.5; `text` is all that others have said."""
    moments = [number / 10 for number in range(1, 101) if not 30 < number < 45]
    attempts = [attempt(number, at=at) for number, at in enumerate(moments, 1)]
    attempts.append(attempt(1000, Outcome.UNKNOWN, at=3.2, sqlstate="08007", message=text))
    failures = [failure(3.2, "write", "08007", text)]
    books = books_of(attempts, [number / 10 for number in range(1, 101)], failures)
    marks = {Mark.BROKEN: 3.0, Mark.DETECTED: 3.2, Mark.PROMOTED: 4.4, Mark.WRITES_BACK: 4.5, Mark.ALL_WELL: 7.0}
    figures = figures_of(books, marks, 10.0)
    found = Findings(acknowledged=len(moments)) if findings is None else findings
    drill = BY_NAME[name]
    return Result(
        drill=drill.name,
        about=drill.about,
        stage=text,
        seed=7,
        began_at=0.0,
        ended_at=10.0,
        marks={mark.value: at for mark, at in marks.items()},
        notes=(Note(3.0, text, "db1"),),
        events=(Event(1, 3.2, "node_down", text, text, bad=True),),
        buckets=buckets(books, 0.0, 10.0),
        figures=figures,
        findings=found,
        verdicts=judge(drill, figures, found, DrillSettings(), synchronous=True, noticed=True),
        served={text: 12},
        failures=(f"1 x write: 08007 {text}",),
        log=text,
    )
