"""Text to facts without parsing twice: by exact text, then by shape, then by PostgreSQL's grammar.

An exact text is a dictionary lookup (0.1 µs). A new text of a known shape costs the making of its shape: where the
text is plain enough, its digits are masked (0.2 µs), or one regular expression blanks its constants (1 to 2 µs); else
it is pglast's normalisation (3 to 9 µs warm, several times that when other processes have the caches). Only a new
shape is analysed. All tables are bounded, by entries and by the length of the texts they keep.

The facts of a shape hold for each of its texts, except where they say that they depend on constants: such a text is
analysed for itself. Comments are no part of a shape, but a hint in one is.
"""

import re
from dataclasses import replace
from typing import Final, Generic, TypeVar

from parser.analyse import analyse, shape_of, without_comments, without_constants
from parser.facts import UNREAD, StatementFacts
from parser.hints import NO_HINTS, Hints

K = TypeVar("K")
V = TypeVar("V")

READ_BYTES_MAX: Final = 64 * 1024
"""Longer text is not read: parsing takes about 0.7 µs a byte, and nobody else in this process runs meanwhile."""

KEPT_BYTES_MAX: Final = 4 * 1024
"""Longer text is not remembered word by word, only by shape."""


NOT_PLAIN: Final = b'"$\\' + bytes(range(128, 256))
"""Quoted identifiers, dollar quotes and parameters, escapes, other alphabets: not for a regular expression."""

_blank_strings: Final = re.compile(rb"'(?:[^']|'')*'").sub
_blank_numbers: Final = re.compile(rb"\b[0-9]+\b").sub
"""Constants, where nothing of the above is in the text. A string keeps its quotes: it may stand right behind a word."""


MASK: Final = bytes.maketrans(b"123456789", b"000000000")
"""Numbers as long as each other become the same. What stands where in a masked text is as it was, so whatever does not
look at the value of a digit is true of all texts with the same mask."""

_digit_in_a_word: Final = re.compile(rb"[A-Za-z_][0-9]|[0-9][A-Za-z_]").search
"""A name such as t1, or a number such as 1e5 or 0x1f: its digits say more than how long it is."""


class Generations(Generic[K, V]):
    """A bounded dictionary that forgets what was not asked for lately, without work on a hit.

    Two dictionaries, young and old. A hit in the young one is one lookup; a hit in the old one moves the entry. When
    the young one is full it becomes the old one, and what the old one still held is forgotten.
    """

    __slots__ = ("old", "size_max", "young")

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.young: dict[K, V] = {}
        self.old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self.young.get(key)
        if value is None:
            value = self.old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        if len(self.young) * 2 >= self.size_max:
            self.old = self.young
            self.young = {}
        self.young[key] = value

    def __len__(self) -> int:
        return len(self.young) + len(self.old)


class FactsTable:
    """The facts of every statement seen lately. One per worker."""

    def __init__(self, texts_max: int = 20_000, shapes_max: int = 10_000) -> None:
        self.by_text: Final[Generations[bytes, StatementFacts]] = Generations(texts_max)
        self.by_mask: Final[Generations[bytes, StatementFacts]] = Generations(texts_max)
        self.by_blanked: Final[Generations[bytes, StatementFacts]] = Generations(texts_max)
        self.by_shape: Final[Generations[str, StatementFacts]] = Generations(shapes_max)
        self._shapes: Final[Generations[StatementFacts, str]] = Generations(shapes_max)
        """What was read when these facts were found."""

    def shape_with(self, facts: StatementFacts, chars_max: int) -> str:
        """The shape that has these facts, for anybody to see: without any constant, or comment, in one line. "" where
        it was forgotten, or not read. Slow."""
        if facts.shape:
            return facts.shape[:chars_max]
        shape = self._shapes.get(facts)
        return "" if shape is None else without_constants(shape, chars_max)

    def facts_of(self, text: bytes) -> StatementFacts:
        """The facts of `text`, as it came on the wire without its closing zero. Never raises."""
        facts = self.by_text.get(text)
        if facts is not None:
            return facts
        if len(text) > KEPT_BYTES_MAX:
            return self._read(text) if len(text) <= READ_BYTES_MAX else UNREAD
        mask = text.translate(MASK)
        facts = self.by_mask.get(mask)
        if facts is not None:
            return facts
        if len(text.translate(None, NOT_PLAIN)) != len(text) or b"--" in text or b"/*" in text:
            facts = self._read(text)
            self.by_text.put(text, facts)
            return facts
        blanked = _blank_strings(b"'0'", text) if b"'" in text else text
        blanked = _blank_numbers(b"0", blanked)
        facts = self.by_blanked.get(blanked)
        if facts is None:
            facts = self._read(text)
            self.by_blanked.put(blanked, facts)
        elif facts.depends_on_constants:
            facts = self._read(text)
        if facts.depends_on_constants or blanked == text:
            # Without constants it will come again as it is; with them it may never.
            self.by_text.put(text, facts)
        elif b"'" not in text and _digit_in_a_word(text) is None:
            self.by_mask.put(mask, facts)
        return facts

    def _read(self, text: bytes) -> StatementFacts:
        try:
            words = text.decode()
        except UnicodeDecodeError:
            return UNREAD
        hints = NO_HINTS
        if "--" in words or "/*" in words:
            words, hints = without_comments(words)
        shape = shape_of(words)
        if shape is None:
            return UNREAD
        key = f"{hints.route}:{hints.cache}:{hints.cache_ttl_s}:{shape}"
        facts = self.by_shape.get(key)
        if facts is None or facts.depends_on_constants:
            facts = analyse(words)
            if hints != NO_HINTS:
                facts = _with_hints(facts, hints)
            self.by_shape.put(key, facts)
            self._shapes.put(facts, shape)
        return facts


class MarkingFactsTable(FactsTable):
    """One that marks what only reads by its text, and matches one of some expressions."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        super().__init__()
        self._patterns: Final = [(re.compile(pattern.encode(), PATTERN_FLAGS), pattern) for pattern in patterns]
        self._by_exact_text: Final[Generations[bytes, StatementFacts]] = Generations(20_000)
        self._marked: Final[Generations[tuple[StatementFacts, str], StatementFacts]] = Generations(10_000)

    def facts_of(self, text: bytes) -> StatementFacts:
        """The facts of `text`, with the first expression that matches it."""
        facts = self._by_exact_text.get(text)
        if facts is None:
            facts = super().facts_of(text)
            if not facts.write_reason:
                facts = self._matched(text, facts)
            if len(text) <= KEPT_BYTES_MAX:
                self._by_exact_text.put(text, facts)
        return facts

    def _matched(self, text: bytes, facts: StatementFacts) -> StatementFacts:
        for expression, pattern in self._patterns:
            if expression.search(text) is not None:
                return self._mark(facts, pattern)
        return facts

    def _mark(self, facts: StatementFacts, pattern: str) -> StatementFacts:
        """One object for each shape and expression: decisions are remembered by it."""
        marked = self._marked.get((facts, pattern))
        if marked is None:
            explained = facts.explained
            if explained is not None:
                marked = replace(facts, explained=replace(explained, pattern=pattern))
            else:
                marked = replace(facts, pattern=pattern)
            self._marked.put((facts, pattern), marked)
            shape = self._shapes.get(facts)
            if shape is not None:
                self._shapes.put(marked, shape)
        return marked


PATTERN_FLAGS: Final = re.IGNORECASE | re.DOTALL
"""As expressions of primary_queries are read."""


def table_for(patterns: tuple[str, ...]) -> FactsTable:
    """A table that marks what matches `patterns`, if there are any."""
    return MarkingFactsTable(patterns) if patterns else FactsTable()


def _with_hints(facts: StatementFacts, hints: Hints) -> StatementFacts:
    explained = facts.explained
    if explained is not None:
        return replace(facts, explained=_with_hints(explained, hints))
    return replace(facts, hint=hints.route, cache_hint=hints.cache, cache_ttl_s=hints.cache_ttl_s)
