"""What stands around every command: logs, exit codes, a sentence instead of a traceback.

rich is loaded when there is something to say, so that help, which says it without, comes at once.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import select
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.text import visible

log = logging.getLogger(__name__)

MENDABLE, DEFECT, INTERRUPTED, PIPE_GONE = 2, 70, 130, 141
"""Exit codes: for what users can mend, for our own defects (EX_SOFTWARE), and as a shell counts
SIGINT and SIGPIPE."""
_NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "failed to map segment",
    os.strerror(errno.ENOMEM),
)
_AGAIN_S = 0.05
"""After this, a Ctrl-C that was lost is pressed once more."""
_MORE_FILES = "allow more open files (ulimit -n)"


@dataclass(slots=True)
class Wishes:
    """What the command line asks of the way in which a command speaks."""

    quiet: bool = False
    """Notices and errors only."""
    json: bool = False
    """The result as JSON on standard output."""

    out: Path | None = None
    """A file for what a command prints; None: standard output."""

    command: list[str] = field(default_factory=list)
    """The words of the command line, the program first."""

    def forget(self) -> None:
        """A new command line."""
        self.quiet = self.json = False
        self.out = None
        self.command = []


wishes = Wishes()
"""Of the command that runs in this process."""


class _Lines(logging.Formatter):
    """Log records like all other lines; the tracebacks below them keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(visible, super().formatException(ei).split("\n")))


class _Log(logging.Handler):
    """rich's handler, which brings a syntax highlighter and is loaded when there is a line."""

    def emit(self, record: logging.LogRecord) -> None:
        self._rich.emit(record)

    @cached_property
    def _rich(self) -> logging.Handler:
        from rich.logging import RichHandler

        handler = RichHandler(console=_err(), show_path=False, show_time=False, markup=False)
        handler.setFormatter(_Lines("%(message)s"))
        return handler


def show_logs(*, verbose: bool) -> None:
    """Log to standard error: warnings, and with `verbose` what is going on."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, handlers=[_Log()], force=True
    )


def guarded(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; it never ends in a traceback.

    What users can mend is one sentence and `MENDABLE`. Anything unforeseen is our own defect: the
    sentence says so and where the traceback lies, and the code is `DEFECT`.
    """
    for stream in (sys.stdout, sys.stderr):  # a name is no reason to fail, whatever the locale
        if isinstance(stream, TextIOWrapper):
            with suppress(ValueError):
                stream.reconfigure(errors="backslashreplace")
    with _no_interrupt_lost():
        code = _ended(command)
    late = _ended(_flush)
    if late:
        hush()
    return code or late


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Let Ctrl-C come again where it met a callback from C, or a finalizer.

    What these raise Python prints and forgets (`sys.unraisablehook`): numba's compiler, which calls
    back through ctypes, would go on, and the command with it.
    """
    before, again = sys.unraisablehook, list[threading.Timer]()

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        again.append(threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)))
        again[-1].daemon = True
        again[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()


def _ended(command: Callable[[], Any]) -> int:
    try:
        command()
    except RobustsegError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except SystemExit as end:
        return _code(end)
    except BrokenPipeError as error:
        return broken_pipe(error)
    except Exception as error:
        sentence = _mendable(error)
        log.info("the traceback:", exc_info=error)
        return _fail(sentence) if sentence else _defect(error)
    return 0


def broken_pipe(error: BrokenPipeError) -> int:
    """The exit code: who reads our output wants no more, or it was another pipe and is an error."""
    watch = select.poll()
    with suppress(OSError, ValueError, AttributeError):
        watch.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _, event in watch.poll(0)):
        hush()
        return PIPE_GONE
    return _fail(_mendable(error))


def _flush() -> None:
    """What a full disk, or a reader that is gone, makes of standard output is seen here at last."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _code(end: SystemExit) -> int:
    """As Python counts: nothing is 0, a number is itself, and a text is said and is 1."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    _say(end.code)
    return 1


def _fail(sentence: str) -> int:
    _say(sentence, head="error:", style="red")
    return MENDABLE


def _mendable(error: Exception) -> str:
    """The sentence for what a computer refuses, wherever it happened; empty: it is our defect."""
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_ours(error.name):
        return not_installed(error.name)
    if isinstance(error, OSError) and error.strerror and error.errno != errno.ENOMEM:
        files = " and ".join(str(f) for f in (error.filename, error.filename2) if f is not None)
        where = _brief(files) if files else "a file or a stream"
        way_out = "check its name, its rights and the room on its disk"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            way_out = _MORE_FILES
        return f"cannot use {where}: {error.strerror}; {way_out}"
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return f"{_brief(error.object)} is not UTF-8, which is needed here; rename it"
    if isinstance(error, RecursionError) and _in_a_parser(error):
        return "a YAML or JSON file is nested too deeply; give one that we or you have written"
    if isinstance(error, BrokenExecutor):
        return "a process was killed, as Linux does when memory runs out; use fewer --jobs"
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return "memory ran out; close other programs, or give less at once (--jobs, --batch)"
    if os.strerror(errno.EMFILE) in text:  # as a library tells it, in an error of its own
        return f"{_brief(text)}; {_MORE_FILES}"
    if any(os.strerror(number) in text for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        return f"{_brief(text)}; make room, or choose another disk"
    return ""


def _in_a_parser(error: Exception) -> bool:
    """Whether it was raised while a text was read: its author nested too deeply, not we."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = (str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames)
    return not {"yaml", "json"}.isdisjoint(modules)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("robustseg_core", "robustseg_ros")


def _defect(error: Exception) -> int:
    """Say that it is ours, and where it can be looked at."""
    what = _brief(" ".join(f"{type(error).__name__}: {error}".split()))
    way_out = "run it again with --verbose and report what it prints"
    with suppress(OSError):
        number, path = tempfile.mkstemp(prefix="robustseg-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
        way_out = f"please report it with {path}, which holds the traceback (--verbose prints it)"
    _fail(f"a defect of robustseg, not of what it was given: {what}; {way_out}")
    return DEFECT


def _brief(text: str) -> str:
    """At most 300 characters: names may be as long as files."""
    return text if len(text) <= 300 else f"{text[:200]}...{text[-80:]}"


def hush() -> None:
    """Python flushes standard output once more at its end; let that come to nothing."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(text: object, *, head: str = "", style: str = "") -> None:
    """As `Terminal.say`; standard error may be the file that is full."""
    with suppress(OSError):
        _err().say(text, head=head, style=style)


def _err() -> Any:
    """`terminal.err`; that module stands on this one, and is loaded when it has to speak."""
    return importlib.import_module(f"{__package__}.terminal").err
