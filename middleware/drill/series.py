"""Several drills, one after the other, each on its stage; the stages are the caller's.

In: drills, and how a stage is had for one. Out: a Result for each, also for one that could not be played.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
from rich.console import Console

from middleware.config.drilling import DrillSettings
from middleware.drill.errors import DrillError
from middleware.drill.ledger import Size
from middleware.drill.progress import Progress
from middleware.drill.result import Note, Result
from middleware.drill.run import Run
from middleware.drill.scenarios import Drill
from middleware.drill.stage import Stage

MakeStage = Callable[[Drill], Stage]

EXIT_PASSED: Final = 0
EXIT_MISSED: Final = 1
"""A target was missed, or a drill was not played to its end."""
EXIT_UNPLAYED: Final = 2
"""A drill could not be played."""


async def play_all(
    drills: Sequence[Drill],
    make_stage: MakeStage,
    targets: DrillSettings,
    size: Size,
    seed: int,
    console: Console,
    finished: Callable[[Result], None],
) -> list[Result]:
    """Play them in turn, each with a seed one higher. `finished` hears of each at once."""
    results = []
    for number, drill in enumerate(drills):
        result = await _play(drill, make_stage, targets, size, seed + number, console)
        finished(result)
        results.append(result)
    return results


async def _play(
    drill: Drill, make_stage: MakeStage, targets: DrillSettings, size: Size, seed: int, console: Console
) -> Result:
    began = time.time()
    progress = Progress(console, drill.name)
    title = ""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.watch)
            try:
                stage = make_stage(drill)
                title = stage.title
                progress.tell(Note(time.time(), f"begins on {title}"))
                async with stage:
                    title = stage.title
                    run = Run(drill, stage, targets, size, seed, progress.tell)
                    progress.books = run.load.books
                    return await run.play()
            finally:
                tasks.cancel_scope.cancel()
    except* DrillError as errors:
        trouble = str(_first(errors))
    return Result(drill.name, drill.about, title, seed, began, time.time(), trouble)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def exit_status(results: Sequence[Result]) -> int:
    """What a command ends with."""
    if any(result.figures is None for result in results):
        return EXIT_UNPLAYED
    return EXIT_PASSED if all(result.passed for result in results) else EXIT_MISSED
