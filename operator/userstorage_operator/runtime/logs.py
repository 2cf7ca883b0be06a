"""Structured logs in one format for the operator, kopf, aiohttp and the interpreter: JSON, or readable lines on a terminal.

docs/observability.md lists the fields and the events; a test compares this list with the log calls in the code.
"""

import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict

from userstorage_operator.runtime.redaction import clean_fields, clean_text

log = structlog.get_logger(__name__)

_OURS = __name__.partition(".")[0]
_FRAMES_MAX = 100
"""Number of lines kept of a traceback, from its end. The earlier lines of an endless recursion only repeat them."""


class Logs:
    """Sets the log level of this process, and the fields that every log line has."""

    def __init__(self, level: str) -> None:
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._leader = False
        self._set_level(self._level)

    def set_leader(self, leader: bool) -> None:
        """Set the value of the field `leader` in all later log lines. At the start the value is false."""
        self._leader = leader

    def toggle_debug(self) -> None:
        """Switch from the configured log level to debug, or from debug back to the configured one."""
        verbose = logging.getLogger(_OURS).level == logging.DEBUG
        self._set_level(self._level if verbose else logging.DEBUG)
        log.warning("log_level_changed", to=logging.getLevelName(logging.getLogger(_OURS).level).lower())

    def stamp(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """Put the common fields (time, level, event, logger, leader) before all others. A structlog processor."""
        record: logging.LogRecord = event.pop("_record")
        del event["_from_structlog"]
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": event.pop("event"),
            "logger": record.name,
            "leader": self._leader,
            **event,
        }

    @staticmethod
    def _set_level(level: int) -> None:
        logging.getLogger(_OURS).setLevel(level)
        # kopf logs every event of every object at DEBUG, kubernetes every response body: our own lines are more useful.
        logging.getLogger().setLevel(max(logging.WARNING, level))


def configure(level: str, *, json_format: bool, stream: TextIO | None = None) -> Logs:
    """Set up structlog and the root logger of `logging` to write to `stream`, by default stderr. Log lines of libraries get the
    same format as ours.
    """
    stream = stream or sys.stderr
    logs = Logs(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    render: structlog.typing.Processor
    if json_format:
        render = structlog.processors.JSONRenderer(serializer=_to_json)
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), sort_keys=False, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars],
            processors=[logs.stamp, structlog.processors.format_exc_info, _clean, render],
        )
    )
    logging.getLogger().handlers = [handler]
    logging.raiseExceptions = False  # on a bad format string, logging would print the arguments with their secrets
    return logs


def catch_uncaught() -> None:
    """Log Python warnings and uncaught exceptions instead of printing them to stderr."""
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    log.critical("uncaught_exception", error_kind=kind.__name__, error=str(error), exc_info=(kind, error, trace))


def _clean(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Clean all fields of a log line with `clean_fields`. A traceback keeps its line breaks, but each line is indented, so that
    it cannot be mistaken for a log line of its own.
    """
    trace = event.pop("exception", None)
    fields = clean_fields(event)
    if trace is not None:
        fields["exception"] = "\n".join(f"    {clean_text(line)}" for line in trace.splitlines()[-_FRAMES_MAX:])
    return fields


def _to_json(event: Any, **_: Any) -> str:
    return orjson.dumps(event).decode()
