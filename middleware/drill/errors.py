"""What ends a drill before it has a result."""


class DrillError(Exception):
    """It cannot be played, or not to its end; the text says why, in a line or two."""
