"""Logging of the supervisor and the workers: structlog to standard error, as text for people or JSON for machines.

One event is one line, written at once, so that processes can share the stream; nothing a client says can break a line
or colour a terminal. Each logger has a subject, and each event is declared, with its fields, in the table of events.py.
Levels, also of one subject alone, and the bound on lines of one event are changed by calling set_up_logs() again. What
libraries log through the standard module comes out in the same form. Tracebacks never show local variables: they may
hold passwords and statements.

    log = structlog.get_logger("client") ─level, flood→ lines.py ─text or JSON→ writer.py
"""

from middleware.logs.options import LogOptions
from middleware.logs.setting_up import set_up_logs, tell_left_out

__all__ = ["LogOptions", "set_up_logs", "tell_left_out"]
