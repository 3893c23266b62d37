"""The lines and words of pg_hba.conf and pg_ident.conf.

The manual, "The pg_hba.conf File": a record a line, fields by white space, lists by commas, `#` to the end of the
line, a backslash at its end to go on in the next. Quotes make a word of what is in them and take its keyword's
meaning from it; a regular expression begins with a slash. `@FILE` stands for the words in a file, `include FILE` for
its lines; both are found beside the file that names them.
"""

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from middleware.auth.mistakes import FileMistake

DEPTH_MAX: Final = 10
"""Files within files, as PostgreSQL bounds them."""
_WORD: Final = re.compile(r'(?:"[^"]*"|[^\s,"#])+|,')
_SPACE: Final = re.compile(r"[ \t\r\n]*")


class Word(NamedTuple):
    """A word; `quoted`, so that it is no keyword."""

    text: str
    quoted: bool

    def is_keyword(self, keyword: str) -> bool:
        return not self.quoted and self.text == keyword


class Line(NamedTuple):
    """A record: fields, each a list of words, and where it stands."""

    file: str
    number: int
    fields: tuple[tuple[Word, ...], ...]

    def mistake(self, what: str) -> FileMistake:
        """To be raised."""
        return FileMistake(self.file, self.number, what)

    def single(self, index: int, name: str) -> Word:
        """A field that must be one word. Raises FileMistake."""
        if index >= len(self.fields):
            raise self.mistake(f"{name} is missing")
        if len(self.fields[index]) != 1:
            raise self.mistake(f"{name} must be one word, without a comma")
        return self.fields[index][0]


def lines_of(file: str, depth: int = 0) -> Iterator[Line]:
    """The records of a file, those it includes in their places. Raises FileMistake."""
    for number, text in _logical_lines(file, depth):
        fields = tuple(_fields(file, number, text, depth))
        if not fields:
            continue
        line = Line(file, number, fields)
        first = fields[0][0]
        if first.is_keyword("include") or first.is_keyword("include_if_exists"):
            path = _beside(file, line.single(1, "the file's name").text)
            if first.text == "include" or os.path.exists(path):
                yield from lines_of(path, depth + 1)
        elif first.is_keyword("include_dir"):
            directory = _beside(file, line.single(1, "the directory's name").text)
            for name in sorted(_listed(line, directory)):
                if name.endswith(".conf") and not name.startswith("."):
                    yield from lines_of(os.path.join(directory, name), depth + 1)
        else:
            yield line


def read_text(file: str) -> str:
    """The file's text. Raises FileMistake."""
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read()
    except UnicodeDecodeError:
        raise FileMistake(file, 0, "not UTF-8") from None
    except OSError as error:
        raise FileMistake(file, 0, (error.strerror or "cannot be read").lower()) from None


def _logical_lines(file: str, depth: int) -> Iterator[tuple[int, str]]:
    if depth > DEPTH_MAX:
        raise FileMistake(file, 0, f"files include each other more than {DEPTH_MAX} deep")
    begun, text = 0, ""
    for number, line in enumerate(read_text(file).splitlines(), 1):
        begun = begun or number
        if line.endswith("\\"):
            text += line[:-1] + " "
            continue
        yield begun, text + line
        begun, text = 0, ""
    if begun:
        yield begun, text


def _fields(file: str, number: int, text: str, depth: int) -> Iterator[tuple[Word, ...]]:
    """Words with commas between them are one field."""
    field: list[Word] = []
    goes_on = False
    position = _skip(text, 0)
    while position < len(text) and text[position] != "#":
        found = _WORD.match(text, position)
        if found is None:
            raise FileMistake(file, number, "a quote is not closed")
        position = _skip(text, found.end())
        if found[0] == ",":
            goes_on = True
            continue
        if field and not goes_on:
            yield tuple(field)
            field = []
        goes_on = False
        field.extend(_words(file, number, found[0], depth))
    if field:
        yield tuple(field)


def _words(file: str, number: int, raw: str, depth: int) -> Iterator[Word]:
    quoted = raw.startswith('"')
    text = raw.replace('"', "")
    if quoted or not text.startswith("@") or len(text) == 1:
        yield Word(text, quoted)
        return
    path = _beside(file, text[1:])
    for inner_number, line in _logical_lines(path, depth + 1):
        for field in _fields(path, inner_number, line, depth + 1):
            yield from field


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _beside(file: str, name: str) -> str:
    return os.path.join(os.path.dirname(file), name)


def _listed(line: Line, directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        raise line.mistake(f"{directory}: {(error.strerror or 'cannot be read').lower()}") from None
