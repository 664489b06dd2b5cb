"""The log of an agent: one line for one thing that happened, on standard error."""

import logging
import time
from typing import Final

from tiers.core.printable import printable_lines, printable_text
from tiers.host.printer import Printer

_BELOW: Final = "    | "  # before each line of a traceback: what it quotes is no line of ours


class LineFormatter(logging.Formatter):
    """A record as one line, whatever strangers have put into it; a traceback comes below."""

    converter = staticmethod(time.gmtime)

    def __init__(self, agent: str) -> None:
        self._agent = agent
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        at = f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z"
        lines = [f"{at} {record.levelname} {self._agent} {printable_text(record.getMessage())}"]
        if record.exc_info:
            lines += (
                f"{_BELOW}{line}" for line in printable_lines(self.formatException(record.exc_info))
            )
        return "\n".join(lines)


class PrinterHandler(logging.Handler):
    """Hands each line to a printer, which neither waits nor fails."""

    def __init__(self, printer: Printer) -> None:
        super().__init__()
        self._printer = printer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._printer.write(f"{self.format(record)}\n")
        except Exception:  # as every handler: a record that cannot be formatted ends nobody
            self.handleError(record)


def log_to(printer: Printer, agent: str) -> None:
    """From now on all of this process's log goes there, in the name of `agent`."""
    handler = PrinterHandler(printer)
    handler.setFormatter(LineFormatter(agent))
    # Of libraries only warnings: one tells of each client it makes, another of each change of a
    # tailed file, a few lines a second for as long as the agent lives.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tiers").setLevel(logging.INFO)
