"""PgBouncer's userlist.txt: `"user" "secret"` a line; anything behind that counts for nothing, `;` begins a comment."""

import re
from typing import Final

from middleware.auth.lines import read_text
from middleware.auth.mistakes import FileMistake

_LINE: Final = re.compile(r'\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"')


def userlist(file: str) -> dict[str, str | None]:
    """Secrets by user: plain, md5 or SCRAM; None for an empty one. Raises FileMistake."""
    found: dict[str, str | None] = {}
    for number, text in enumerate(read_text(file).splitlines(), 1):
        if not text.strip() or text.lstrip().startswith((";", "#")):
            continue
        match = _LINE.match(text)
        if match is None:
            raise FileMistake(file, number, 'not "user" "password"')
        name, secret = (part.replace('""', '"') for part in match.groups())
        if not 1 <= len(name.encode()) <= 63:
            raise FileMistake(file, number, "the user's name is not allowed: 1 to 63 bytes")
        found[name] = secret or None
    return found
