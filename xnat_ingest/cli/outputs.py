"""The files that a command on a tree writes: checked before the server is asked, written at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from xnat_ingest import report
from xnat_ingest.cli.output import tell_runner
from xnat_ingest.cli.signals import output_gone
from xnat_ingest.core import Exit, IngestError, Result, Stopped, UsageError
from xnat_ingest.core.atomic_file import alone
from xnat_ingest.core.output_file import OUTPUTS, check_output_file, keep_better, refuse_foreign, set_exit_code
from xnat_ingest.core.stop import Stop
from xnat_ingest.inputs import Source
from xnat_ingest.planning.labels import LAYOUTS
from xnat_ingest.report import Reporter
from xnat_ingest.settings.options import PlanSettings, Settings

# Sessions whose series are drawn on the page: a contact sheet of thousands helps nobody.
MOST_SHEETS = 100
# Files that a run reads, by the settings that name them, and what a sentence calls them.
_INPUTS = {
    "plan": "the plan file",
    "labels": "the label sheet",
    "config": "the config file",
    "password_file": "the password file",
    "deid_key_file": "the key file",
    "ca_bundle": "the certificate bundle",
    "dicom_tls_ca": "the certificate bundle",
    "dicom_tls_cert": "the certificate",
    "dicom_tls_key": "the key",
    "json": "the plan that is to be written",
    "labels_template": "the label sheet to write",
}


def check_outputs(settings: Settings, root: str) -> None:
    """Raises UsageError when an output would replace an input, another output, or a file that is not one of ours."""
    inputs = [(what, getattr(settings, name)) for name, what in _INPUTS.items()] + [("ROOT", root)]
    depth = 0 if settings.experiment else len(LAYOUTS[settings.layout])
    for name in OUTPUTS:
        if path := getattr(settings, name, ""):
            if "\0" in path:
                raise UsageError(f"--{name}: not a valid file name")
            check_output_file(path, name, inputs, root, depth)
            inputs.append((f"the file of --{name}", path))


def write_outputs(
    result: Result,
    settings: Settings,
    reporter: Reporter,
    mode: int,
    environ: Mapping[str, str],
    stop: Stop,
    source: Source | None = None,
) -> int:
    """Writes the report in its forms and tells the result.

    mode: the files' permissions.
    stop: learns what was told. After a signal no more pictures are drawn.
    source: where the pictures of the page are drawn from; without one there are none.
    Returns the exit code.
    """
    written = []
    before, code = _identity(settings.report), result.exit_code
    stop.told = lambda: code if _identity(settings.report) not in (None, before) else None
    for output, path, write in _files(result, settings, mode, source, stop):
        try:
            refuse_foreign(path, output)  # one may have appeared while the run went on
            write()
            written.append(path)
        except IngestError as error:
            # The last line tells the code that the process ends with, and no file that is not there.
            print(f"xnat-ingest: {error}", file=sys.stderr)
            result = replace(result, exit_code=result.exit_code or int(Exit.FAILED))
    if result.exit_code != code:  # another output failed after the report
        _correct(settings, result, mode, written)
        code = result.exit_code
    try:
        if environ.get("GITHUB_ACTIONS") == "true":
            _tell_github(result, environ)
        reporter.end(result, ", ".join(written), _plan_files(result, settings))
        stop.told = lambda: result.exit_code
    except OSError as error:
        result = replace(result, exit_code=max(result.exit_code, output_gone(error)))
        _correct(settings, result, mode, written)
        code = result.exit_code
    return result.exit_code


def _correct(settings: Settings, result: Result, mode: int, written: Sequence[str]) -> None:
    """Writes the report once more, with the code that the process ends with."""
    if settings.report not in written:
        return
    try:
        report.write(settings.report, result, mode=mode)
    except IngestError:
        if not set_exit_code(settings.report, result.exit_code):
            name, code = settings.report, result.exit_code
            print(f"xnat-ingest: {name} could not be corrected; the exit code is {code}", file=sys.stderr)


def _identity(path: str) -> tuple[int, int] | None:
    """Tells a file from the one that replaces it. None when there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _plan_files(result: Result, settings: PlanSettings) -> str:
    """What `plan` wrote for people to edit, and what to do with it."""
    if result.command != "plan" or result.exit_code not in (Exit.OK, Exit.PARTIAL):
        return ""
    said = []
    if path := settings.labels_template:
        said.append(f"label sheet: {path}; edit its columns subject and session, then give it with --labels")
    if path := settings.json:
        said.append(f"plan file: {path}; give it to upload with --plan")
    return ". ".join(said)


def _files(
    result: Result, settings: Settings, mode: int, source: Source | None, stop: Stop
) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """The flag and the path of each file that was asked for, and how it is written. The page is last: it takes longest.

    What writes it is loaded when it is asked for.
    """
    if settings.report:
        yield "report", settings.report, lambda: _write_report(settings.report, result, mode, stop)
    if settings.junit:
        from xnat_ingest.report.junit import write_junit

        yield "junit", settings.junit, lambda: write_junit(settings.junit, report.document(result), mode=mode)
    if settings.csv:
        from xnat_ingest.report.table import write_csv

        yield "csv", settings.csv, lambda: write_csv(settings.csv, result.outcomes, mode=mode)
    if settings.html:
        from xnat_ingest.report.html import write_html

        # What --deidentify makes black is not black in the files.
        draws = source and not settings.no_thumbnails and not settings.deidentify
        pictures = _pictures(result, source, stop) if source and draws else {}
        yield "html", settings.html, lambda: write_html(settings.html, report.document(result), pictures, mode=mode)


def _write_report(path: str, result: Result, mode: int, stop: Stop) -> None:
    """A run that did worse than the one whose report is there leaves that one beside its own. Raises IngestError."""
    kept = ""
    try:
        with alone(path, stop):  # another run's report must not come between the two
            kept = _keep(path, result.exit_code)
            report.write(path, result, mode=mode)
    finally:
        if kept:
            print(f"xnat-ingest: the report of an earlier run that ended better is kept as {kept}", file=sys.stderr)


def _keep(path: str, exit_code: int) -> str:
    """See keep_better. Raises IngestError."""
    try:
        return keep_better(path, exit_code)
    except OSError as error:
        raise IngestError(f"the earlier report could not be kept beside {path}: {error.strerror}") from error


def _pictures(result: Result, source: Source, stop: Stop) -> Mapping[str, str]:
    """Those that are drawn before a signal comes: whoever sent it may not wait for the others."""
    from xnat_ingest.inputs.thumbnail import thumbnails

    sessions = result.plan.sessions[:MOST_SHEETS]
    instances = (instance for session in sessions for instance in session.instances)
    pictures: dict[str, str] = {}
    with suppress(Stopped):
        pictures.update(thumbnails(source, instances, stop.check))  # keeps what came before the signal
    return pictures


def _tell_github(result: Result, environ: Mapping[str, str]) -> None:
    """Annotations and the step's summary. Raises OSError."""
    from xnat_ingest.report.github import workflow_commands, write_summary

    document = report.document(result)
    for line in workflow_commands(document):
        tell_runner(line)
    if path := environ.get("GITHUB_STEP_SUMMARY"):
        try:
            write_summary(path, document)
        except OSError as error:  # nobody asked for it, and everything else is said
            print(f"xnat-ingest: no summary of this step ({path}: {error.strerror})", file=sys.stderr)
