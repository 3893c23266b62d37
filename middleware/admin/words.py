"""A text of the console's cut into statements, and a statement into words.

As PostgreSQL's lexer has it where the two can differ: names in double quotes, strings in single ones (and with E or
dollars), comments of both kinds, semicolons that end a statement. A name without quotes may have dots and single dashes
in it, as names of nodes do.
"""

import re
from typing import Final, Literal

import msgspec

from middleware import sqlstate
from middleware.errors import PointsmanError

Kind = Literal["word", "name", "string", "number", "parameter", "sign"]


class Word(msgspec.Struct, frozen=True):
    """A word; "name" is one in double quotes."""

    kind: Kind
    text: str
    """Without quotes."""

    def upper(self) -> str:
        """To be compared with a keyword or a sign; "" where it cannot be one."""
        return self.text.upper() if self.kind in ("word", "sign") else ""


class Statement(msgspec.Struct, frozen=True):
    """One of those that a text holds."""

    text: str
    words: tuple[Word, ...]

    def upper(self) -> tuple[str, ...]:
        """Its words as keywords, "" for what is none."""
        return tuple([word.upper() for word in self.words])


_WORD: Final = re.compile(
    r"""
      (?P<space>    \s+ )
    | (?P<comment>  --[^\n]* | /\* )
    | (?P<name>     "(?:[^"]|"")*" )
    | (?P<string>   '(?:[^']|'')*' )
    | (?P<escaped>  [eE]'(?:[^'\\]|''|\\.)*' )
    | (?P<dollars>  \$(?P<tag>[A-Za-z_]\w*|)\$ )
    | (?P<parameter> \$\d+ )
    | (?P<number>   \d+(?:\.\d+)?(?![\w.-]) )
    | (?P<word>     \w(?:[\w$.]|-(?!-))* )
    | (?P<sign>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK: Final = re.compile(r"/\*|\*/")


def statements_of(text: str) -> list[Statement]:
    """The statements of a text, without the empty ones. Raises PointsmanError where quotes or comments do not end."""
    found: list[Statement] = []
    words: list[Word] = []
    start = position = 0
    while position < len(text):
        match = _WORD.match(text, position)
        assert match is not None
        kind, said = str(match.lastgroup), match.group()
        position = match.end()
        if kind == "comment":
            if said == "/*":
                position = _end_of_comment(text, position)
        elif kind == "name":
            words.append(Word("name", said[1:-1].replace('""', '"')))
        elif kind == "string":
            words.append(Word("string", said[1:-1].replace("''", "'")))
        elif kind == "escaped":
            words.append(Word("string", re.sub(r"\\(.)|''", lambda one: one[1] or "'", said[2:-1])))
        elif kind == "dollars":
            end = text.find(said, position)
            if end < 0:
                raise _unterminated("dollar-quoted string")
            words.append(Word("string", text[position:end]))
            position = end + len(said)
        elif said == ";":
            if words:
                found.append(Statement(text[start : match.start()].strip(), tuple(words)))
            words, start = [], position
        elif said == '"':
            raise _unterminated("quoted identifier")
        elif said == "'":
            raise _unterminated("quoted string")
        elif kind != "space":
            words.append(_word(kind, said))
    if words:
        found.append(Statement(text[start:].strip(), tuple(words)))
    return found


def _word(kind: str, said: str) -> Word:
    if kind == "number":
        return Word("number", said)
    if kind == "parameter":
        return Word("parameter", said[1:])
    return Word("word" if kind == "word" else "sign", said)


def _end_of_comment(text: str, position: int) -> int:
    """Behind a comment that has begun before `position`; they nest."""
    depth = 1
    while depth:
        match = _BLOCK.search(text, position)
        if match is None:
            raise _unterminated("/* comment")
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return position


def _unterminated(what: str) -> PointsmanError:
    return PointsmanError(f"unterminated {what}", sqlstate=sqlstate.SYNTAX_ERROR)
