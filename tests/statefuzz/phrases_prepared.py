"""PREPARE and its like in SQL. The texts serve the protocol's statements too (forms)."""

from typing import Final

from tests.statefuzz.phrase import LOCKS_MAX, NAMED, PREPARED, Phrase, Speaker, Weighted, fixed


def text(by: Speaker) -> str:
    """What a prepared statement may be, in either way; $1 is a number in all that have it."""
    return by.rng.choice(
        (
            "SELECT 1",
            f"SELECT {by.rng.randint(2, 9)} AS n",
            "SELECT $1::int + 1",
            f"SELECT $1::int, '{by.table}'",
            "SELECT current_setting('work_mem'), current_setting('fuzz.a')",
            "SELECT current_user, current_schemas(false)",
            # Qualified: a plan is made anew when a temporary schema comes up, and on a server there may be one already.
            f"SELECT count(*), sum(n) FROM public.{by.table}",
            f"INSERT INTO public.{by.table} VALUES ($1::int) RETURNING n",
            f"SELECT pg_try_advisory_lock({by.rng.randint(1, LOCKS_MAX)})",
            "SELECT set_config('fuzz.a', $1::int::text, false)",
        )
    )


def _name(by: Speaker) -> str:
    return by.rng.choice(PREPARED)


def _prepare(by: Speaker) -> Phrase:
    return Phrase("PREPARE", f"PREPARE {_name(by)} AS {text(by)}")


def _execute(by: Speaker) -> Phrase:
    arguments = by.rng.choice(("", f"({by.rng.randint(1, 9)})"))
    return Phrase("EXECUTE", f"EXECUTE {_name(by)}{arguments}", occupies=True)


def _deallocate(by: Speaker) -> Phrase:
    word = by.rng.choice(("DEALLOCATE", "DEALLOCATE PREPARE"))
    return Phrase("DEALLOCATE", f"{word} {_name(by)}")


def _deallocate_named(by: Speaker) -> Phrase:
    return Phrase("DEALLOCATE", f"DEALLOCATE {by.rng.choice(NAMED)}")


LISTING: Final = "SELECT name FROM pg_prepared_statements WHERE from_sql ORDER BY name"

STATEMENTS: Final[Weighted] = (
    (_prepare, 8),
    (_execute, 10),
    (_deallocate, 3),
    (_deallocate_named, 1),
    (fixed("DEALLOCATE", "DEALLOCATE ALL"), 1),
    (fixed("own statements", LISTING), 1),
)
