"""How structlog and the standard module are made to write our lines; see the package."""

import logging
import os
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from middleware.logs.events import BY_TEXT, LIBRARY, LINES_LEFT_OUT, LINES_LOST
from middleware.logs.flood import Flood
from middleware.logs.lines import EXCEPTION, Plain, as_json, as_text, plain, traceback_of
from middleware.logs.options import LogOptions
from middleware.logs.wanted import WANTED
from middleware.logs.writer import Writer, journal_reads

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""Those of syslog, as systemd's journal reads them at the beginning of a line."""


class _Output:
    """What this process writes now, and where. Nothing here is kept by the loggers: they look it up for each line."""

    def __init__(self) -> None:
        self.options = LogOptions()
        self.bound: Final[dict[str, Plain]] = {}
        self.flood: Final = Flood()
        self.threshold = LEVELS["info"]
        self.thresholds: dict[str, int] = {}
        self.writer = Writer(sys.stderr)
        self.journal = False
        self.colours = False

    def use(self, options: LogOptions) -> None:
        """From now on."""
        self.options = options
        WANTED.use(options)
        self.flood.rate_max = float(options.event_rate_max)
        self.threshold = LEVELS[options.level]
        self.thresholds = {subject: LEVELS[level] for subject, level in options.levels.items()}
        self.writer = Writer(sys.stderr)
        fd = 2 if self.writer.fd is None else self.writer.fd
        self.journal = journal_reads(fd, os.environ.get("JOURNAL_STREAM", ""))
        self.colours = options.format != "json" and sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    def threshold_of(self, subject: str) -> int:
        """The level from which on a subject is heard."""
        return self.thresholds.get(subject, self.threshold)

    def render(self, level: str, subject: str, event: str, fields: dict[str, Any]) -> str:
        """The line of an event."""
        values: dict[str, Plain] = dict(self.bound)
        exc_info = fields.pop("exc_info", None)
        values.update((name, plain(value)) for name, value in fields.items() if value is not None)
        trace = _trace(exc_info)
        if trace:
            values[EXCEPTION] = trace
        now = time.time()
        if self.options.format == "json":
            declared = BY_TEXT.get(event)
            line = as_json(now, level, subject, declared.name if declared else "", event, values)
        else:
            line = as_text(None if self.journal else now, level, subject, event, values, colours=self.colours)
        if self.journal:
            priority = f"<{_PRIORITIES[level]}>"
            line = "\n".join(priority + part for part in line.split("\n"))
        return line


_output: Final = _Output()


def _trace(exc_info: object) -> str:
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    elif exc_info is True:
        exc_info = sys.exc_info()
    if not isinstance(exc_info, tuple) or exc_info[0] is None:
        return ""
    return traceback_of(exc_info)


class _Line:
    """What writes a logger's lines; it bears the logger's subject."""

    def __init__(self, *args: Any) -> None:
        self.subject: Final = str(args[0]) if args else ""

    def msg(self, line: str) -> None:
        """Write it."""
        _output.writer.write(line)

    debug = info = warning = error = msg


class _Logger(structlog.BoundLoggerBase):
    """A logger of one subject."""

    def debug(self, event: str, **fields: Any) -> None:
        self._say("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._say("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the exception that is handled."""
        self._say("error", event, {"exc_info": True, **fields})

    def _say(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS[level] >= _output.threshold_of(self._logger.subject) and _output.flood.admits(
            event, time.monotonic()
        ):
            self._proxy_to_logger(level, event, **fields)
            _tell_lost()


def _rendered(logger: Any, level: str, event_dict: MutableMapping[str, Any]) -> str:
    """structlog's last processor."""
    event = event_dict.pop("event")
    return _output.render(level, logger.subject, event, dict(event_dict))


class _FromLibraries(logging.Handler):
    """What libraries say through the standard module, as an event of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:
            # Its arguments do not fit: the library's bug.
            said = str(record.msg)
        level = next((name for name in ("error", "warning", "info") if record.levelno >= LEVELS[name]), "debug")
        log = structlog.get_logger(LIBRARY.subject)
        getattr(log, level)(LIBRARY.text, logger=record.name, said=said, exc_info=record.exc_info)


def set_up_logs(options: LogOptions, **bound: Plain) -> None:
    """Log like this from now on. `bound` goes onto each line of this process, such as `worker=1`, from the first call
    that names it; each call may change the options."""
    _output.bound.update(bound)
    _output.use(options)
    structlog.configure(
        processors=[_rendered],
        wrapper_class=_Logger,
        logger_factory=_Line,
        cache_logger_on_first_use=False,
    )
    threshold = max(_output.threshold_of(LIBRARY.subject), LEVELS["warning"])
    logging.basicConfig(level=threshold, handlers=[_FromLibraries()], force=True)


def _tell_lost() -> None:
    writer = _output.writer
    if writer.lost and writer.well:
        lost, writer.lost = writer.lost, 0
        _tell(LINES_LOST, lines=lost)


def tell_left_out(*, at_once: bool = False) -> None:
    """Say what was left out of the log, if it was not said just now. Called once a second, and at the end."""
    for event, lines in _output.flood.left_out(time.monotonic(), at_once=at_once).items():
        declared = BY_TEXT.get(event)
        _tell(LINES_LEFT_OUT, event_id=declared.name if declared else event, lines=lines)
    _tell_lost()


def _tell(event: Any, **fields: Plain) -> None:
    """An event about the log itself, which nothing holds back."""
    _output.writer.write(_output.render("warning", event.subject, event.text, fields))
