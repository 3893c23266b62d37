"""How a mistake in a file is told."""


class FileMistake(Exception):
    """A file cannot be used. Its text is one line: `FILE:LINE: what is wrong`."""

    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(f"{file}:{line}: {what}" if line else f"{file}: {what}")
