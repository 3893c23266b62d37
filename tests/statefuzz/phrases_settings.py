"""GUCs and roles: set, reset and read in all the ways there are."""

from typing import Final

from tests.statefuzz.phrase import ROLES, Phrase, Speaker, Weighted, fixed

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "work_mem": ("1MB", "2345kB", "64MB"),
    "statement_timeout": ("100s", "1h", "0"),
    "search_path": ("public", "alt, public", "public, alt", "alt"),
    "TimeZone": ("UTC", "Asia/Tokyo", "America/New_York"),
    "DateStyle": ("ISO, DMY", "German", "SQL, MDY"),
    "IntervalStyle": ("postgres", "iso_8601"),
    "application_name": ("one", "another", ""),
    "extra_float_digits": ("0", "3", "-5"),
    "fuzz.a": ("x", "y", ""),
    "fuzz.b": ("left", "right"),
    "default_transaction_isolation": ("serializable", "repeatable read", "read committed"),
    "default_transaction_read_only": ("on", "off", "off", "off"),
}
"""`fuzz.a` is known to every session from the start (world.SCHEMA); `fuzz.b` only to one that has set it."""

NAMES: Final = tuple(VALUES)
RARE: Final = ("default_transaction_isolation", "default_transaction_read_only")
RARE_CHANCE: Final = 0.3
"""That a rare one stays chosen."""
SHOWN: Final = tuple(name for name in NAMES if name != "fuzz.b")
"""A setting that is gone reads '' in the session that had it, and is an error elsewhere: `fuzz.b` is not shown."""


def _name(by: Speaker) -> str:
    name = by.rng.choice(NAMES)
    return by.rng.choice(NAMES) if name in RARE and by.rng.random() > RARE_CHANCE else name


def _setting(by: Speaker) -> tuple[str, str]:
    name = _name(by)
    return name, by.rng.choice(VALUES[name])


def _written(name: str, value: str) -> str:
    return value if name == "search_path" else f"'{value}'"


def _set(by: Speaker) -> Phrase:
    name, value = _setting(by)
    scope = by.rng.choice(("", "SESSION "))
    return Phrase("SET", f"SET {scope}{name} {by.rng.choice(('=', 'TO'))} {_written(name, value)}")


def _set_local(by: Speaker) -> Phrase:
    name, value = _setting(by)
    return Phrase("SET LOCAL", f"SET LOCAL {name} = {_written(name, value)}")


def _set_default(by: Speaker) -> Phrase:
    return Phrase("RESET", f"SET {by.rng.choice(('', 'LOCAL '))}{_name(by)} TO DEFAULT", resets=True)


def _reset(by: Speaker) -> Phrase:
    return Phrase("RESET", f"RESET {_name(by)}", resets=True)


def _set_config(by: Speaker) -> Phrase:
    name, value = _setting(by)
    local = by.rng.choice(("false", "false", "true"))
    return Phrase("set_config", f"SELECT set_config('{name}', '{value}', {local})")


def _set_config_bound(by: Speaker) -> Phrase:
    name, value = _setting(by)
    text, arguments = by.rng.choice(
        (
            ("SELECT set_config($1, $2, $3::bool)", (name, value, by.rng.choice(("f", "f", "t")))),
            (f"SELECT set_config('{name}', $1, false)", (value,)),
            (f"SELECT pg_catalog.set_config($1, '{value}', false)", (name,)),
        )
    )
    return Phrase("set_config, bound", text, arguments)


def _set_config_computed(by: Speaker) -> Phrase:
    name, value = _setting(by)
    return Phrase(
        "set_config, computed", f"SELECT set_config(lower('{name}'), v, false) FROM (VALUES ('{value}')) t(v)"
    )


def _do(by: Speaker) -> Phrase:
    name, value = _setting(by)
    inner = by.rng.choice((f"PERFORM set_config('{name}', '{value}', false)", f"SET {name} = {_written(name, value)}"))
    return Phrase("DO, a setting", f"DO $$BEGIN {inner}; END$$", occupies=True)


def _show(by: Speaker) -> Phrase:
    name = by.rng.choice(SHOWN)
    return Phrase("SHOW", by.rng.choice((f"SHOW {name}", f"SELECT current_setting('{name}')")))


def _role(by: Speaker) -> Phrase:
    name = by.rng.choice((*ROLES, "none", "app"))
    return Phrase("SET ROLE", f"SET {by.rng.choice(('', '', 'LOCAL '))}ROLE {name}")


READS: Final[Weighted] = (
    (_show, 6),
    (fixed("SHOW", "SELECT coalesce(current_setting('fuzz.b', true), '')"), 2),
    (fixed("who am I", "SELECT current_user, session_user", "SHOW role", "SHOW is_superuser"), 3),
    (fixed("SHOW", "SELECT timestamptz '2024-05-06 07:08:09+00', interval '1 day 2 hours', 0.1::float8 / 3"), 4),
    (fixed("SHOW", "SHOW transaction_isolation", "SHOW transaction_read_only"), 1),
)

CHANGES: Final[Weighted] = (
    (_set, 12),
    (_set_local, 4),
    (_set_default, 2),
    (_reset, 3),
    (fixed("RESET", "RESET ALL", resets=True), 1),
    (_set_config, 4),
    (_set_config_bound, 4),
    (_set_config_computed, 1),
    (_do, 2),
    (_role, 3),
    (fixed("RESET ROLE", "RESET ROLE", resets=True), 2),
    (
        fixed(
            "SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT", "SET SESSION AUTHORIZATION app", resets=True
        ),
        1,
    ),
    (
        fixed(
            "SESSION CHARACTERISTICS",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
        ),
        1,
    ),
    (
        fixed(
            "error",
            "SET work_mem = 'much'",
            "SET nosuch = 1",
            "SET TimeZone = 'Nowhere'",
            "SET ROLE nobody_by_this_name",
        ),
        2,
    ),
)
