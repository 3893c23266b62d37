"""How a process logs, and what: what travels to the workers, and what the settings' [log] and log_* say."""

import msgspec


class LogOptions(msgspec.Struct, frozen=True):
    """See docs/settings.md, [log] and "Logs"."""

    level: str = "info"
    levels: dict[str, str] = {}
    """Of subjects that have another."""
    format: str = "text"
    """"text" or "json"."""
    event_rate_max: int = 100
    """Lines of one event a second, over BURST_S; 0 for no bound."""
    connections: bool = True
    disconnections: bool = True
    pooler_errors: bool = True
    statements: bool = False
    """Those of some rule, or some by chance."""
    sample_rate: float = 0.0
    statement_text: bool = False
