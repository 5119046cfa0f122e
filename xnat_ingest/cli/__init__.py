"""Commands, signals, and the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from xnat_ingest import __version__
from xnat_ingest.errors import EXIT_MEANING, Exit, IngestError, UsageError, trace
from xnat_ingest.options import FOREIGN_FLAGS, add_options

if TYPE_CHECKING:
    from xnat_ingest.model import Result
    from xnat_ingest.options import Settings
    from xnat_ingest.report import Face
    from xnat_ingest.stop import Stop

COMMANDS = {
    "plan": "what would be sent, and every conflict; opens no socket (--online asks the server too)",
    "upload": "plan, send, close, verify, report",
    "verify": "compare a tree with what the server holds; sends nothing",
    "ping": "log in; the server's version, your right on the project, its settings that matter",
    "dicomUpload": "drop-in for the original script: URL USER PASS PROJECT ROOTDIR [--config FILE] [--workdir DIR]",
}


class _Parser(argparse.ArgumentParser):
    """Errors come as UsageError, naming our flag where another tool's was given."""

    def error(self, message: str) -> NoReturn:
        words = message.replace("=", " ").split()
        for foreign, ours in FOREIGN_FLAGS.items():
            if foreign in words:
                raise UsageError(f"{foreign} is another tool's flag; here it is {ours}")
        raise UsageError(f"{message} (see {self.prog} --help)")


def make_parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_MEANING.items())
    parser = _Parser(
        prog="xnat-ingest",
        description="Bring DICOM into XNAT, and prove for every instance that it is there.",
        epilog=f"Every option is also an environment variable: XNAT_INGEST_ and the long flag, as in "
        f"XNAT_INGEST_PART_SIZE.\nThe server and credentials also come from XNAT_HOST, XNAT_USER, XNAT_PASS.\n\n"
        f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"xnat-ingest {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == "dicomUpload":
            for word in ("URL", "USER", "PASS", "PROJECT", "ROOTDIR"):
                command.add_argument(word)
            command.add_argument("--config", metavar="FILE", help='{"Exclude": [...]} or any config of this program')
            command.add_argument("--workdir", metavar="DIR", help="the report is written here")
            continue
        if name != "ping":
            command.add_argument("root", metavar="ROOT", help="the folder that holds the DICOM tree")
        add_options(command, name)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. argv: without the program's name. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # A stream that the caller closed is None: what goes there is meant for nobody.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label must not end a run where ASCII is spoken
    try:
        return _run(_modernised(words), os.environ)
    except IngestError as error:
        print(f"xnat-ingest: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError as error:
        return _unheard(error)
    except Exception as error:
        print(trace(error), file=sys.stderr)
        print(f"xnat-ingest {__version__}: this is a bug; please report it with the lines above", file=sys.stderr)
        return int(Exit.BUG)


def _unheard(error: OSError) -> int:
    """When whoever read our output has gone, or its disk is full: nothing more is said there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"xnat-ingest: the result could not be printed: {error.strerror}", file=sys.stderr)
    return int(Exit.FAILED)


def script() -> NoReturn:
    """The console script. A thread that still waits for a server after a signal must not keep the process."""
    # Until a run has its own handler: as the first process of a container, one without any ignores SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(Exit.TERMINATED)))
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def _modernised(words: list[str]) -> list[str]:
    """The original tool's call, `python .../dicomUpload.py URL ...`, as the command of that name."""
    script = 1 if words[:1] in (["python"], ["python3"]) else 0
    if len(words) > script and words[script].endswith("dicomUpload.py"):
        return ["dicomUpload", *words[script + 1 :]]
    return words


def _run(words: list[str], environ: Mapping[str, str]) -> int:
    given = vars(make_parser().parse_args(words))
    command = given.pop("command")
    if command == "dicomUpload":
        return _drop_in(given, environ)
    from xnat_ingest.settings import resolve

    settings = resolve(command, given, environ)
    if command == "ping":
        return _ping(settings, environ)
    return _tree(command, given["root"], settings, environ)


def _drop_in(given: dict[str, str], environ: Mapping[str, str]) -> int:
    """The original's arguments. The password stood in its command line, so it may here, with a warning."""
    from xnat_ingest.settings import resolve

    options = {"server": given["URL"], "user": given["USER"], "project": given["PROJECT"], "config": given["config"]}
    if given["workdir"]:
        options["report"] = str(Path(given["workdir"], "xnat-ingest-report.json"))
    settings = resolve("upload", options, environ)
    print(
        "warning dicomUpload takes the password as an argument, where other users of this machine can read it; "
        "use `xnat-ingest upload` with XNAT_PASS",
        file=sys.stderr,
    )
    return _tree("upload", given["ROOTDIR"], settings, {**environ, "XNAT_PASS": given["PASS"]}, http_is_warning=True)


def _tree(
    command: str, root: str, settings: Settings, environ: Mapping[str, str], *, http_is_warning: bool = False
) -> int:
    from xnat_ingest import report
    from xnat_ingest.model import Event
    from xnat_ingest.run import Run
    from xnat_ingest.settings import credentials, unknown_variables
    from xnat_ingest.stop import Stop

    if settings.dry_run:
        command = "plan"
    if settings.report:
        report.check_writable(settings.report)
    face = report.make_face(settings)
    stop = Stop()
    run = Run(command, root, settings, face.emit, stop)
    in_service = "XNAT_WORKFLOW_ID" in environ
    login = None
    if command != "plan" or settings.online or settings.dry_run:
        login = credentials(settings, environ, http_is_warning=http_is_warning or in_service)
    for line in unknown_variables(environ):
        face.emit(Event("warning", {"text": line}))
    for line in settings.shown():
        face.emit(Event("setting", {"text": line}))
    if login:
        for line in (f"server in use = {login.server}", f"user in use = {login.user}", "password = ***"):
            face.emit(Event("setting", {"text": f"{line} ({login.source})" if "***" in line else line}))
    if login and login.in_the_clear:
        face.emit(Event("warning", {"text": f"the password travels in the clear to {login.server}; use https://"}))
    _catch_signals(stop)
    result = run.execute(login)
    return _finish(result, settings, face, 0o644 if in_service else 0o600)


def _finish(result: Result, settings: Settings, face: Face, mode: int) -> int:
    from xnat_ingest import report

    written = ""
    try:
        if settings.report:
            report.write(settings.report, result, mode=mode)
            written = settings.report
    except IngestError as error:
        # The last line tells the code that the process ends with, and no report that is not there.
        print(f"xnat-ingest: {error}", file=sys.stderr)
        result = replace(result, exit_code=result.exit_code or int(Exit.FAILED))
    try:
        face.end(result, written)
    except OSError as error:
        return max(result.exit_code, _unheard(error))
    return result.exit_code


def _catch_signals(stop: Stop) -> None:
    """The first signal ends the run in order, with its report; a second one ends it at once."""

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stop.signum:
            os._exit(128 + signum)
        stop.signum = signum

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handle)


def _ping(settings: Settings, environ: Mapping[str, str]) -> int:
    from contextlib import closing

    from xnat_ingest.rest import Rest
    from xnat_ingest.serverrules import describe
    from xnat_ingest.settings import credentials

    login = credentials(settings, environ, http_is_warning="XNAT_WORKFLOW_ID" in environ)
    rest = Rest(login, ca_bundle=settings.ca_bundle, insecure=settings.insecure, timeout=settings.timeout)
    with closing(rest):
        rest.login()
        for line in describe(rest, settings.project):
            print(line)
    return int(Exit.OK)
