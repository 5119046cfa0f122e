"""Runs commands, and turns errors into a message and an exit code."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from xnat_ingest.cli.addresses import save_addresses
from xnat_ingest.cli.bug_report import bug_report
from xnat_ingest.cli.output import OutputGone, guard
from xnat_ingest.cli.parser import COMMANDS, make_parser, parse
from xnat_ingest.cli.signals import ending_signals, output_gone
from xnat_ingest.core import Exit, IngestError, Stopped
from xnat_ingest.core.errors import exhausted
from xnat_ingest.core.stop import GRACE

__all__ = ["COMMANDS", "main", "make_parser", "script"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. argv: without the program's name. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    guard()
    try:
        code = _run(_modernised(words), os.environ)
        sys.stdout.flush()
        return code
    except SystemExit as ended:  # --help and --version
        raise SystemExit(max(_flushed(), ended.code if isinstance(ended.code, int) else 0)) from None
    except IngestError as error:
        print(f"xnat-ingest: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except OutputGone as error:
        return output_gone(error)
    except Exception as error:
        if scarcity := exhausted(error):
            print(f"xnat-ingest: {scarcity}", file=sys.stderr)
            return int(scarcity.exit_code)
        print(bug_report(error, words), file=sys.stderr)
        return int(Exit.BUG)


def script() -> NoReturn:
    """The console script. A thread that still waits for a server must not keep the process alive after a signal."""
    # Until the command sets its own: the first process of a container ignores SIGTERM without a handler.
    for signum in ending_signals():
        signal.signal(signum, _end_at_once)
    save_addresses()
    # The DICOM libraries warn of odd values, and quote them. What matters of those is in our own messages.
    warnings.filterwarnings("ignore", module="pydicom|pynetdicom")
    sys.unraisablehook = _unraisable
    code = main()
    for signum in ending_signals():  # Python takes its handlers away at the end, and the code has been told
        signal.signal(signum, signal.SIG_IGN)
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def _end_at_once(signum: int, _frame: FrameType | None) -> NoReturn:
    """While modules are imported: an exception that is raised there can be lost."""
    os._exit(int(Stopped(signum).exit_code))


def _leave(signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(int(Stopped(signum).exit_code))


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """What was raised where Python can only ignore it. A signal that came there still ends the process."""
    if not isinstance(lost.exc_value, SystemExit):
        sys.__unraisablehook__(lost)
        return
    code = lost.exc_value.code if isinstance(lost.exc_value.code, int) else int(Exit.FAILED)
    os._exit(max(_flushed(), code))


def _flushed() -> int:
    """Flushes the output. Returns 0 on success."""
    try:
        sys.stdout.flush()
    except OutputGone as error:
        return output_gone(error)
    return 0


def _modernised(words: list[str]) -> list[str]:
    """Turns the original tool's call, `python .../dicomUpload.py URL ...`, into our command dicomUpload."""
    script = 1 if words[:1] in (["python"], ["python3"]) else 0
    if len(words) > script and words[script].endswith("dicomUpload.py"):
        return ["dicomUpload", *words[script + 1 :]]
    return words


def _run(words: list[str], environ: Mapping[str, str]) -> int:
    if not words:
        print(make_parser().format_help(), end="")
        return int(Exit.USAGE)
    given, stray = parse(words)
    run = _loaded(given.pop("command"), given, stray, environ)
    if signal.getsignal(signal.SIGTERM) is _end_at_once:
        for signum in ending_signals():
            signal.signal(signum, _leave)
        _leave_in_time()
    return run()


def _leave_in_time() -> None:
    """Ends the process where `_leave` cannot: Python calls it only between two steps, and a name server may be silent.

    The first signal gives the command a few seconds, and a second one none.
    """
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)

    def watch() -> None:
        while signum := os.read(told, 1)[0]:
            if signal.getsignal(signum) is not _leave:  # the command has its own handler, or the signal is another one
                continue
            select.select([told], [], [], GRACE)
            if signal.getsignal(signum) is _leave:
                os._exit(int(Stopped(signum).exit_code))

    threading.Thread(target=watch, name="signals", daemon=True).start()


def _loaded(command: str, given: dict[str, Any], stray: list[str], environ: Mapping[str, str]) -> Callable[[], int]:
    """The command, ready to run. Commands are imported when they run, so that --help is fast."""
    if command == "command":
        from xnat_ingest.cli.container import command as container_command

        return partial(container_command, given, stray, environ)
    if command == "prearchive":
        from xnat_ingest.cli.prearchive import prearchive

        return partial(prearchive, given, environ)
    if command == "resource":
        from xnat_ingest.cli.resource import resource

        return partial(resource, given, environ)
    if command == "report":
        from xnat_ingest.cli.reports import reports

        return partial(reports, given)
    if command == "identity":
        from xnat_ingest.cli.identity import identity

        return partial(identity, given)
    if command == "nifti":
        from xnat_ingest.cli.nifti import nifti

        return partial(nifti, given, environ)
    from xnat_ingest.cli.upload import on_tree

    return partial(on_tree, command, given, environ)
