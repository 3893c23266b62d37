"""As much of SQL as the recorded sessions speak, on the state of one session.

A text that Pointsman's own grammar cannot read is a syntax error here too, as it is to PostgreSQL, whose grammar it is.
What is read and not known here succeeds, and a SELECT gives its own text as its only row: so it shows whose it was.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from parser.shapes import FactsTable

FACTS: Final = FactsTable()

DEFAULTS: Final = {
    b"application_name": b"",
    b"client_encoding": b"UTF8",
    b"datestyle": b"ISO, MDY",
    b"intervalstyle": b"postgres",
    b"standard_conforming_strings": b"on",
    b"timezone": b"UTC",
}
"""What a session reports from its login on."""
REPORTED: Final = {
    b"datestyle": b"DateStyle",
    b"intervalstyle": b"IntervalStyle",
    b"timezone": b"TimeZone",
}
"""How ParameterStatus spells those it does not spell in lower case."""
OTHERS: Final = frozenset(
    {
        *(b"search_path", b"statement_timeout", b"lock_timeout", b"work_mem", b"extra_float_digits", b"bytea_output"),
        *(b"role", b"session_authorization", b"client_min_messages", b"default_transaction_read_only", b"seed"),
        *(b"transaction_isolation", b"transaction_read_only", b"default_transaction_isolation", b"plan_cache_mode"),
        *(b"idle_in_transaction_session_timeout", b"row_security", b"check_function_bodies", b"xmloption"),
    }
)
"""The settings there are, beyond those and names with a dot."""
WRONG_VALUE: Final = b"wrong"
"""A value that no setting takes."""

IDLE: Final = b"I"
OPEN: Final = b"T"
FAILED: Final = b"E"
ROWS_MAX: Final = 50

_statement = re.compile(rb"(?:[^;'\"]|'[^']*'|\"[^\"]*\")+")
_comment = re.compile(rb"('[^']*'|\"[^\"]*\")|--[^\n]*|/\*.*?\*/", re.DOTALL)
_set_config = re.compile(rb"set_config\(E?'((?:[^']|'')*)',\s*E?'((?:[^']|'')*)',\s*(true|false)", re.IGNORECASE)
_set = re.compile(
    rb"set\s+(?:session\s+|(local)\s+)?(?:(time\s+zone)|\"?([\w.]+)\"?)\s*(?:=|\s+to\b|\s)\s*'?([^']*)'?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_custom = re.compile(rb"[a-z_\x80-\xff][\w$\x80-\xff]*(?:\.[a-z_\x80-\xff][\w$\x80-\xff]*)+")
_reset = re.compile(rb"reset\s+([\w.$\"\x80-\xff]+)\s*$", re.IGNORECASE)
_show = re.compile(rb"(?:show\s+|select\s+(?:pg_catalog\.)?current_setting\(E?')([\w.]+)", re.IGNORECASE)
_series = re.compile(rb"generate_series\(1, (\d+)\)")
_values = re.compile(rb"\(E'((?:[^']|'')*)'\)")
_prepare = re.compile(rb"prepare\s+\"?(\w+)\"?[^a]*\sas\s+(.*)$", re.IGNORECASE | re.DOTALL)
_named = re.compile(rb"(execute|deallocate(?:\s+prepare)?)\s+\"?(\w+)\"?", re.IGNORECASE)


class Refusal(Exception):
    """The statement fails, with this SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@dataclass
class Result:
    """What a statement gives; `rows` is None where it gives none by its kind."""

    tag: bytes
    rows: list[tuple[bytes | None, ...]] | None = None
    copy_in: bool = False
    copy_out: bool = False
    sleep_s: float = 0.0


@dataclass
class SqlSession:
    """The state of one session, and what its statements do to it."""

    settings: dict[bytes, bytes] = field(default_factory=lambda: dict(DEFAULTS))
    base: dict[bytes, bytes] = field(default_factory=lambda: dict(DEFAULTS))
    """What RESET goes back to."""
    status: bytes = IDLE
    left: set[bytes] = field(default_factory=set)
    """LISTEN, advisory locks, temporary tables, as pointsman asks for them."""
    statements: dict[bytes, bytes] = field(default_factory=dict)
    """Prepared statements, the unnamed one under no name."""
    by_sql: dict[bytes, bytes] = field(default_factory=dict)
    """Those of them that PREPARE has made, with its text."""
    saved: dict[bytes, bytes] = field(default_factory=dict)
    """The settings to go back to when the transaction is rolled back."""
    local: dict[bytes, bytes | None] = field(default_factory=dict)
    """The values to go back to whatever its end, of what was set for the transaction alone."""

    discards: bool = True
    """DISCARD ALL does what it says."""
    implicit: dict[bytes, bytes] | None = None
    """The settings to go back to when something fails outside a transaction block, before the next ReadyForQuery."""

    # Texts

    def readable(self, text: bytes) -> bool:
        """Whether the grammar takes it."""
        return FACTS.facts_of(text).kind != "Unread"

    def split(self, text: bytes) -> list[bytes]:
        """The statements of a string. Raises Refusal."""
        if not self.readable(text):
            raise Refusal("42601")
        return [
            part
            for one in _statement.findall(_comment.sub(lambda found: found[1] or b" ", text))
            if (part := one.strip())
        ]

    def check(self, text: bytes) -> None:
        """A failed transaction takes nothing but its end. Raises Refusal."""
        if self.status == FAILED and not re.match(rb"(?:commit|end|rollback|abort)\b", text.lstrip(), re.IGNORECASE):
            raise Refusal("25P02")

    def gives_rows(self, text: bytes) -> bool:
        word = text.lstrip().partition(b" ")[0].lower()
        return word in (b"select", b"show", b"values", b"table", b"execute", b"with", b"explain")

    # Running

    def run(self, text: bytes) -> Result:
        """One statement. Raises Refusal."""
        self.check(text)
        if self.status == IDLE and self.implicit is None:
            self.implicit = dict(self.settings)
        if b"1/0" in text:
            raise Refusal("22012")
        word = text.partition(b" ")[0].strip(b"(").lower()
        named = {
            b"begin": self._begin,
            b"start": self._begin,
            b"commit": self._end,
            b"end": self._end,
            b"rollback": self._end,
            b"abort": self._end,
            b"set": self._set,
            b"reset": self._reset,
            b"discard": self._discard,
            b"prepare": self._prepare,
            b"execute": self._of_prepared,
            b"deallocate": self._of_prepared,
            b"copy": self._copy,
            b"listen": self._leave,
            b"create": self._leave,
            b"unlisten": self._leave,
        }.get(word)
        if named is not None:
            return named(text)
        if word in (b"select", b"show", b"values", b"table", b"with", b"explain"):
            return self._select(text)
        return Result(word.upper() + (b" 0 1" if word == b"insert" else b""))

    def _begin(self, _text: bytes) -> Result:
        if self.status == IDLE:
            self.saved, self.local = dict(self.settings), {}
            self.status = OPEN
        return Result(b"BEGIN")

    def _end(self, text: bytes) -> Result:
        if re.search(rb"\bto\b", text, re.IGNORECASE):
            if self.status == IDLE:
                raise Refusal("25P01")
            self.status = OPEN
            return Result(b"ROLLBACK")
        commits = self.status == OPEN and text[:1].lower() in (b"c", b"e")
        if self.status != IDLE:
            after = {**self.settings, **self.local}
            self.settings = (
                {name: value for name, value in after.items() if value is not None} if commits else self.saved
            )
        self.status, self.implicit = IDLE, None
        return Result(b"COMMIT" if commits or text[:1].lower() in (b"c", b"e") else b"ROLLBACK")

    def fail(self) -> None:
        """A statement has failed."""
        if self.status == OPEN:
            self.status = FAILED
        elif self.status == IDLE and self.implicit is not None:
            self.settings = self.implicit
        self.implicit = None

    def put(self, name: bytes, value: bytes, local: bool = False) -> None:
        """Set one. Raises Refusal."""
        name = name.lower()
        if b"." in name and _custom.fullmatch(name) is None:
            raise Refusal("42602")
        if b"." not in name and name not in DEFAULTS and name not in OTHERS:
            raise Refusal("42704")
        if value == WRONG_VALUE:
            raise Refusal("22023")
        if local:
            if self.status == IDLE:
                return
            self.local.setdefault(name, self.settings.get(name))
        self.settings[name] = value

    def _set(self, text: bytes) -> Result:
        found = _set.match(text)
        if found is not None and (found[3] or found[2]):
            name = b"timezone" if found[2] else found[3]
            if name.lower() not in (b"transaction", b"session"):
                self.put(name, found[4].strip(), bool(found[1]))
        return Result(b"SET")

    def _reset(self, text: bytes) -> Result:
        found = _reset.match(text)
        if found is not None:
            name = found[1].replace(b'"', b"").lower()
            if name == b"all":
                self.settings = dict(self.base)
            elif name in self.base:
                self.settings[name] = self.base[name]
            else:
                self.settings.pop(name, None)
        return Result(b"RESET")

    def _discard(self, text: bytes) -> Result:
        if not text.lower().endswith(b"all"):
            return Result(text.upper())
        if self.status != IDLE:
            raise Refusal("25001")
        if self.discards:
            self.settings = dict(self.base)
            self.statements.clear()
            self.by_sql.clear()
            self.left.clear()
        return Result(b"DISCARD ALL")

    def _prepare(self, text: bytes) -> Result:
        found = _prepare.match(text)
        if found is None:
            return Result(b"PREPARE")
        if found[1] in self.statements:
            raise Refusal("42P05")
        self.statements[found[1]] = found[2]
        self.by_sql[found[1]] = text
        return Result(b"PREPARE")

    def _of_prepared(self, text: bytes) -> Result:
        found = _named.match(text)
        name = found[2] if found is not None else b""
        executes = text[:1].lower() == b"e"
        if not executes and name.lower() == b"all":
            self.statements = {b"": self.statements[b""]} if b"" in self.statements else {}
            self.by_sql.clear()
            return Result(b"DEALLOCATE ALL")
        if name not in self.statements:
            raise Refusal("26000")
        if executes:
            return self.run(self.statements[name])
        self.by_sql.pop(name, None)
        del self.statements[name]
        return Result(b"DEALLOCATE")

    def _copy(self, text: bytes) -> Result:
        into = re.search(rb"\bfrom\s+stdin\b", text, re.IGNORECASE) is not None
        return Result(b"COPY 2", copy_in=into, copy_out=not into)

    def _leave(self, text: bytes) -> Result:
        word = text.partition(b" ")[0].lower()
        if word == b"listen":
            self.left.add(b"listen")
        elif word == b"unlisten":
            self.left.discard(b"listen")
        elif re.match(rb"create\s+temp", text, re.IGNORECASE):
            self.left.add(b"temporary_tables")
        return Result(word.upper())

    def _select(self, text: bytes) -> Result:
        if b"pg_prepared_statements" in text or b"'settings', name" in text or text[7:].startswith(b"'"):
            asked = self._asked(text)
            if asked is not None:
                return Result(b"SELECT %d" % len(asked), asked)
        changes = _set_config.findall(text)
        for name, value, local in changes:
            self.put(_unquoted(name), _unquoted(value), local == b"true")
        shown = _show.match(text)
        rows: list[tuple[bytes | None, ...]] = [(text,)]
        if shown is not None:
            rows = [(self.settings.get(shown[1].lower(), b""),)]
        elif (series := _series.search(text)) is not None:
            rows = [(b"%d" % number,) for number in range(1, min(int(series[1]), ROWS_MAX) + 1)]
        if b"pg_advisory_lock(" in text:
            self.left.add(b"advisory_locks")
        sleep_s = 5.0 if b"pg_sleep" in text else 0.0
        return Result(b"SELECT %d" % len(rows), rows, sleep_s=sleep_s)

    def _asked(self, text: bytes) -> list[tuple[bytes | None, ...]] | None:
        """What pointsman asks of a session's state (session/inspection.py); None where it is another SELECT."""
        if b"pg_prepared_statements" in text:
            return [
                (b"prepared_statements" if name in self.by_sql else b"parsed", name, self.by_sql.get(name, statement))
                for name, statement in self.statements.items()
                if name and not name.startswith(b"_pointsman_")
            ]
        if b"'settings', name" in text:
            if b"VALUES" in text:
                names = [_unquoted(name) for name in _values.findall(text)]
            else:
                names = [name for name, value in self.settings.items() if self.base.get(name) != value]
            return [(b"settings", name, self.settings.get(name.lower())) for name in names]
        found = re.match(rb"SELECT '(listen|advisory_locks|temporary_tables|hold_cursors)', NULL, NULL", text)
        if found is None:
            return None
        return [(found[1], None, None)] if found[1] in self.left else []


def _unquoted(literal: bytes) -> bytes:
    """What is between the quotes of E''."""
    return literal.replace(b"''", b"'").replace(b"\\\\", b"\\")
