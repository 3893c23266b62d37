"""What drivers and tools say to any PostgreSQL before their user has said a word: answered here, by the session alone.

SET and SHOW of PostgreSQL's own parameters, transaction blocks, what clears a session up, and the questions of
driver_queries. Values are kept and shown again, and mean nothing: only application_name is seen elsewhere.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from middleware import sqlstate
from middleware.admin.columns import COLUMNS
from middleware.admin.driver_queries import Session, answer
from middleware.admin.table import Column, Value
from middleware.admin.words import Statement, Word
from middleware.errors import PointsmanError

SERVER_VERSION: Final = "14.0"
"""What drivers are told that they speak to, and read as PostgreSQL's. Not newer than they are, so that none warns."""

CONSTANTS: Final[Mapping[str, str]] = {
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "is_superuser": "off",
    "max_identifier_length": "63",
    "max_index_keys": "32",
    "server_encoding": "UTF8",
    "server_version": SERVER_VERSION,
    "server_version_num": "140000",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
    "transaction_deferrable": "off",
}
CHANGEABLE: Final[Mapping[str, str]] = {
    "application_name": "",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "client_min_messages": "notice",
    "datestyle": "ISO, MDY",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "escape_string_warning": "on",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "intervalstyle": "postgres",
    "jit": "on",
    "lc_collate": "C",
    "lc_ctype": "C",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "lock_timeout": "0",
    "role": "none",
    "row_security": "on",
    "search_path": '"$user", public',
    "session_authorization": "",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "synchronous_commit": "on",
    "synchronize_seqscans": "on",
    "timezone": "Etc/UTC",
}
"""PostgreSQL's parameters that drivers SET and SHOW, with what they are at first."""

REPORTED: Final[Mapping[str, str]] = {
    "application_name": "application_name",
    "client_encoding": "client_encoding",
    "datestyle": "DateStyle",
    "default_transaction_read_only": "default_transaction_read_only",
    "in_hot_standby": "in_hot_standby",
    "integer_datetimes": "integer_datetimes",
    "intervalstyle": "IntervalStyle",
    "is_superuser": "is_superuser",
    "search_path": "search_path",
    "server_encoding": "server_encoding",
    "server_version": "server_version",
    "session_authorization": "session_authorization",
    "standard_conforming_strings": "standard_conforming_strings",
    "timezone": "TimeZone",
}
"""Those of which ParameterStatus tells, as it calls them."""

FIXED: Final = {
    "client_encoding": "The console speaks UTF8.",
    "datestyle": "The console shows moments as ISO does.",
    "timezone": "The console shows moments in UTC.",
    "intervalstyle": "The console shows no intervals.",
    "standard_conforming_strings": "In the console a backslash is a backslash.",
}
"""What a client may SET, with no effect but this notice."""
SYNONYMS: Final = {"names": "client_encoding", "session_authorization": "session_authorization"}
VALUE_CHARS_MAX: Final = 1000

Block = Literal["", "begin", "go on", "end"]


class Courtesy(msgspec.Struct, frozen=True):
    """An answer that no more is needed for than the session."""

    tag: str
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    block: Block = ""
    """What it does to a transaction block; "go on" has a failed one go on, at a savepoint."""
    ends_block: bool = False
    """It may be said in a transaction that has failed."""
    sets: tuple[tuple[str, str | None], ...] = ()
    """Parameters that it changes; None for as they were at first."""
    resets_all: bool = False
    notices: tuple[str, ...] = ()


class Courtesies:
    """One client's."""

    def __init__(self, user: str, database: str, process_id: int, version: str, given: Mapping[str, str]) -> None:
        """`version`: Pointsman's own. `given`: parameters, as its startup message has them."""
        first = {**CONSTANTS, **CHANGEABLE, "session_authorization": user}
        first.update(
            {name: value[:VALUE_CHARS_MAX] for name, value in given.items() if _may_be_set(name, at_login=True)}
        )
        self.user: Final = user
        self.database: Final = database
        self.process_id: Final = process_id
        self._version: Final = f"PostgreSQL {SERVER_VERSION} (the admin console of Pointsman {version})"
        self._first: Final = first
        self._values: Final = dict(first)

    @property
    def application_name(self) -> str:
        return self._values["application_name"]

    def greeting(self) -> tuple[tuple[str, str], ...]:
        """What ParameterStatus tells at login."""
        return tuple((called, self._values[name]) for name, called in REPORTED.items())

    def apply(self, courtesy: Courtesy) -> tuple[tuple[str, str], ...]:
        """Change what it changes; returns what ParameterStatus is to tell of that."""
        before = dict(self._values)
        if courtesy.resets_all:
            self._values.update(self._first)
        for name, value in courtesy.sets:
            self._values[name] = self._first[name] if value is None else value
        return tuple(
            (called, self._values[name]) for name, called in REPORTED.items() if self._values[name] != before[name]
        )

    def answer(self, statement: Statement) -> Courtesy | None:
        """The answer to it; None where it is none of ours. Raises PointsmanError."""
        words, said = statement.words, statement.upper()
        match said:
            case ["BEGIN", *_]:
                return Courtesy("BEGIN", block="begin")
            case ["START", "TRANSACTION", *_]:
                return Courtesy("START TRANSACTION", block="begin")
            case ["ROLLBACK" | "ABORT", *rest] if "TO" in rest:
                return Courtesy("ROLLBACK", block="go on", ends_block=True)
            case ["ROLLBACK" | "ABORT", *_]:
                return Courtesy("ROLLBACK", block="end", ends_block=True)
            case ["COMMIT" | "END", *_]:
                return Courtesy("COMMIT", block="end", ends_block=True)
            case ["SAVEPOINT" | "RELEASE" as verb, *_]:
                return Courtesy(verb)
            case ["DISCARD", "ALL" | "PLANS" | "SEQUENCES" | "TEMP" | "TEMPORARY"]:
                return Courtesy(f"DISCARD {said[1]}", resets_all=said[1] == "ALL")
            case ["DEALLOCATE", *rest]:
                return Courtesy("DEALLOCATE ALL" if "ALL" in rest else "DEALLOCATE")
            case ["LISTEN" | "UNLISTEN" as verb, _]:
                return Courtesy(verb)
            case ["CLOSE", "ALL"]:
                return Courtesy("CLOSE CURSOR ALL")
            case ["RESET", *_] if len(words) > 1:
                return self._reset(words[1:])
            case ["SET", *_]:
                return self._set(words[1:])
            case ["SHOW", *_]:
                return self._show(words[1:])
            case ["SELECT", _] if said[1].lower() in COLUMNS:
                # As PgBouncer has it: the same as SHOW.
                return None
            case ["SELECT" | "WITH" | "(", *_]:
                found = answer(statement, self._session())
                return None if found is None else Courtesy("SELECT", found.columns, found.rows)
            case _:
                return None

    def _session(self) -> Session:
        return Session(self.user, self.database, self._version, self.process_id, self._values)

    # Parameters

    def _reset(self, words: tuple[Word, ...]) -> Courtesy:
        name = _name_of(words)
        if name == "all":
            return Courtesy("RESET", resets_all=True)
        if not _may_be_set(name):
            raise _unknown(name)
        return Courtesy("RESET", sets=((name, None),))

    def _set(self, words: tuple[Word, ...]) -> Courtesy | None:
        if words and words[0].upper() in ("SESSION", "LOCAL") and len(words) > 1 and words[1].text != "=":
            words = words[1:]
        said = [word.upper() for word in words]
        match said:
            case ["TRANSACTION" | "CHARACTERISTICS" | "CONSTRAINTS", *_]:
                return Courtesy("SET")
            case ["TIME", "ZONE", _]:
                name, values = "timezone", words[2:]
            case ["NAMES" | "ROLE" | "AUTHORIZATION", _]:
                name = {"NAMES": "client_encoding", "ROLE": "role"}.get(said[0], "session_authorization")
                values = words[1:]
            case [_, "=" | "TO", *_] if len(words) > 2:
                name, values = words[0].text.lower(), words[2:]
            case _:
                return None
        if not _may_be_set(name):
            return None
        value = "".join(word.text if word.text != "," else ", " for word in values)[:VALUE_CHARS_MAX]
        if name in FIXED:
            same = _plain(value) == _plain(self._values[name]) or _plain(self._values[name]).startswith(_plain(value))
            return Courtesy("SET", notices=() if same else (FIXED[name],))
        default = len(values) == 1 and values[0].upper() == "DEFAULT"
        return Courtesy("SET", sets=((name, None if default else value),))

    def _show(self, words: tuple[Word, ...]) -> Courtesy | None:
        name = _name_of(words)
        if name in COLUMNS:
            return None
        if name == "all":
            rows = tuple((known, value, "") for known, value in sorted(self._values.items()))
            return Courtesy("SHOW", (Column("name"), Column("setting"), Column("description")), rows)
        value = self._values.get(name)
        if value is None:
            return None
        return Courtesy("SHOW", (Column(REPORTED.get(name, name)),), ((value,),))


def _name_of(words: tuple[Word, ...]) -> str:
    """The parameter that is meant; some have a spelling of their own."""
    said = [word.upper() for word in words]
    match said:
        case ["TRANSACTION", "ISOLATION", "LEVEL"]:
            return "transaction_isolation"
        case ["TIME", "ZONE"]:
            return "timezone"
        case ["SESSION", "AUTHORIZATION"]:
            return "session_authorization"
        case [_] if words[0].kind in ("word", "name"):
            return words[0].text.lower()
        case _:
            return ""


def _may_be_set(name: str, *, at_login: bool = False) -> bool:
    """By SET; or in a startup message, where nobody is told that it has no effect."""
    return name in CHANGEABLE and not (at_login and name in FIXED)


def _plain(value: str) -> str:
    """As far as it matters, the same for all spellings."""
    return "".join(letter for letter in value.lower() if letter.isalnum())


def _unknown(name: str) -> PointsmanError:
    return PointsmanError(f'unrecognized configuration parameter "{name}"', sqlstate=sqlstate.UNDEFINED_OBJECT)
