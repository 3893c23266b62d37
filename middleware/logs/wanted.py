"""Which lines are wanted that cost something at each connection or statement: asked there, and set by set_up_logs()."""

from typing import Final

from middleware.logs.options import LogOptions


class Wanted:
    """What this process logs; nothing before its logs are set up."""

    __slots__ = (
        "connections",
        "disconnections",
        "keeps_text",
        "pooler_errors",
        "sample_rate",
        "statement_text",
        "statements",
        "tracing",
    )

    def __init__(self) -> None:
        self.connections = False
        self.disconnections = False
        self.pooler_errors = False
        self.sample_rate = 0.0
        """The part of statements that are logged by chance, from 0 to 1."""
        self.statements = False
        """Some of them are logged, of some clients."""
        self.statement_text = False
        """As they were sent, with their literals."""
        self.tracing = False
        """Some of them have spans, too: see relay/tracing.py."""
        self.keeps_text = False
        """For one or the other the last text is kept."""

    def use(self, options: LogOptions) -> None:
        """From now on."""
        self.connections = options.connections
        self.disconnections = options.disconnections
        self.pooler_errors = options.pooler_errors
        self.sample_rate = options.sample_rate
        self.statements = options.statements or self.tracing
        self.statement_text = options.statement_text
        self.keeps_text = self.statement_text or self.tracing

    def trace(self) -> None:
        """Some statements have spans from now on."""
        self.tracing = self.statements = self.keeps_text = True


WANTED: Final = Wanted()
