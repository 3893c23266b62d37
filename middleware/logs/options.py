"""How a process logs: what travels to the workers, and what the settings' [log] says."""

import msgspec


class LogOptions(msgspec.Struct, frozen=True):
    """See docs/settings.md, [log]."""

    level: str = "info"
    levels: dict[str, str] = {}
    """Of subjects that have another."""
    format: str = "text"
    """"text" or "json"."""
    event_rate_max: int = 100
    """Lines of one event a second, over BURST_S; 0 for no bound."""
