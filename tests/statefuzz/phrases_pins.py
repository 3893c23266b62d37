"""What a session holds that no other can be given: channels, advisory locks, temporary tables, cursors."""

from typing import Final

from tests.statefuzz.phrase import CHANNELS, CURSORS, LOCKS_MAX, TEMPORARY, Phrase, Speaker, Weighted, fixed

OWN_LOCKS: Final = (
    "SELECT classid, objid, objsubid, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
    "ORDER BY classid, objid, objsubid, mode"
)


def _key(by: Speaker) -> str:
    number = by.rng.randint(1, LOCKS_MAX)
    return by.rng.choice((f"{number}", f"{number}", f"{number}, 2", f"{number} + 0"))


def _try_lock(by: Speaker) -> Phrase:
    name = by.rng.choice(
        (
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
            "pg_catalog.pg_try_advisory_lock",
            "pg_try_advisory_lock",
        )
    )
    return Phrase("advisory lock", f"SELECT {name}({_key(by)})", occupies=True)


def _try_lock_bound(by: Speaker) -> Phrase:
    return Phrase(
        "advisory lock", "SELECT pg_try_advisory_lock($1)", (str(by.rng.randint(1, LOCKS_MAX)),), occupies=True
    )


def _try_lock_block(by: Speaker) -> Phrase:
    return Phrase("DO, a lock", f"DO $$BEGIN PERFORM pg_try_advisory_lock({_key(by)}); END$$", occupies=True)


def _transaction_lock(by: Speaker) -> Phrase:
    return Phrase("advisory lock, of a transaction", f"SELECT pg_try_advisory_xact_lock({_key(by)})")


def _unlock(by: Speaker) -> Phrase:
    name = by.rng.choice(("pg_advisory_unlock", "pg_advisory_unlock", "pg_advisory_unlock_shared"))
    return Phrase("advisory unlock", f"SELECT {name}({_key(by)})")


def _listen(by: Speaker) -> Phrase:
    return Phrase("LISTEN", f"LISTEN {by.rng.choice(CHANNELS)}", occupies=True)


def _unlisten(by: Speaker) -> Phrase:
    return Phrase("UNLISTEN", f"UNLISTEN {by.rng.choice(CHANNELS)}")


def _notify(by: Speaker) -> Phrase:
    channel, payload = by.rng.choice(CHANNELS), by.rng.randint(1, 1_000_000)
    text = by.rng.choice((f"NOTIFY {channel}, '{payload}'", f"SELECT pg_notify('{channel}', '{payload}')"))
    return Phrase("NOTIFY", text, notifies=True)


def _table(by: Speaker) -> str:
    return by.rng.choice(TEMPORARY)


def _create(by: Speaker) -> Phrase:
    # One with the name of the permanent table hides it.
    name = by.rng.choice((*TEMPORARY, *TEMPORARY, by.table))
    number = by.rng.randint(1, 9)
    text = by.rng.choice(
        (
            f"CREATE TEMP TABLE {name} (n int)",
            f"CREATE TEMP TABLE IF NOT EXISTS {name} (n int)",
            f"CREATE TEMPORARY TABLE {name} AS SELECT {number} AS n",
            f"CREATE TABLE pg_temp.{name} AS SELECT generate_series(1, {number}) AS n",
            f"SELECT {number} AS n INTO TEMP {name}",
            f"CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {number} AS n",
            f"CREATE TEMP TABLE {name} (n int) ON COMMIT DELETE ROWS",
            f"CREATE TEMP VIEW {name} AS SELECT {number} AS n",
        )
    )
    return Phrase("CREATE TEMP", text, occupies=True)


def _use_table(by: Speaker) -> Phrase:
    name = _table(by)
    text = by.rng.choice(
        (f"SELECT count(*), sum(n) FROM {name}", f"INSERT INTO {name} VALUES ({by.rng.randint(1, 9)})", f"TABLE {name}")
    )
    return Phrase("temporary table", text)


def _drop(by: Speaker) -> Phrase:
    names = by.rng.choice((_table(by), ", ".join(TEMPORARY), f"pg_temp.{by.table}"))
    return Phrase("DROP", f"DROP TABLE IF EXISTS {names}" if by.rng.random() < 0.7 else f"DROP TABLE {_table(by)}")


def _drop_view(by: Speaker) -> Phrase:
    return Phrase("DROP", f"DROP VIEW IF EXISTS {_table(by)}")


def _declare(by: Speaker) -> Phrase:
    what = by.rng.choice((f"SELECT n FROM {by.table} ORDER BY n", "SELECT generate_series(1, 9) AS n"))
    name = by.rng.choice(CURSORS)
    if by.rng.random() < 0.5:
        return Phrase("DECLARE WITH HOLD", f"DECLARE {name} CURSOR WITH HOLD FOR {what}", occupies=True)
    return Phrase("DECLARE", f"DECLARE {name} CURSOR FOR {what}")


def _fetch(by: Speaker) -> Phrase:
    name = by.rng.choice(CURSORS)
    return Phrase("FETCH", f"{by.rng.choice(('FETCH', 'FETCH 2 FROM', 'MOVE'))} {name}")


def _close(by: Speaker) -> Phrase:
    return Phrase("CLOSE", f"CLOSE {by.rng.choice((*CURSORS, 'ALL'))}")


HOLDS: Final[Weighted] = (
    (_try_lock, 5),
    (_try_lock_bound, 2),
    (_try_lock_block, 1),
    (_transaction_lock, 2),
    (_listen, 5),
    (_create, 6),
    (_declare, 4),
)
"""These are what pins, or may."""

USES: Final[Weighted] = (
    (fixed("own locks", OWN_LOCKS), 3),
    (_unlock, 4),
    (_unlisten, 2),
    (fixed("own channels", "SELECT c FROM pg_listening_channels() c ORDER BY c"), 3),
    (_notify, 6),
    (_use_table, 5),
    (fixed("own tables", "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY relname"), 2),
    (_fetch, 3),
    (fixed("own cursors", "SELECT name, is_holdable FROM pg_cursors WHERE name <> '' ORDER BY name"), 2),
)

UNDOES: Final[Weighted] = (
    (fixed("advisory unlock", "SELECT pg_advisory_unlock_all()"), 4),
    (_unlock, 3),
    (fixed("UNLISTEN", "UNLISTEN *"), 4),
    (_unlisten, 2),
    (_drop, 4),
    (_drop_view, 1),
    (_close, 4),
    (fixed("DISCARD", "DISCARD TEMP"), 2),
    (fixed("DISCARD", "DISCARD PLANS", "DISCARD SEQUENCES"), 1),
    (fixed("DISCARD ALL", "DISCARD ALL", resets=True), 2),
)
