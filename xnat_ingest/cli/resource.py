"""`xnat-ingest resource`: stores, lists and deletes files in the resources of a project, subject, session or scan."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from xnat_ingest.cli.output import warn
from xnat_ingest.cli.signals import catch_signals
from xnat_ingest.commands.resources import PutOutcome
from xnat_ingest.commands.resources import files as resourcefiles
from xnat_ingest.commands.resources import listings as resourcelisting
from xnat_ingest.commands.resources import put as resources
from xnat_ingest.commands.resources import target as resourceplaces
from xnat_ingest.commands.resources.files import Gathered
from xnat_ingest.commands.resources.target import ResourceOwner, check_label, check_no_dicom
from xnat_ingest.core import Exit, IngestError, Stopped, UsageError, printable
from xnat_ingest.core.stop import GRACE, Stop, interruptible_sleep, run_interruptibly
from xnat_ingest.settings.layers import credentials, refuse_empty, resolve, unverified_server
from xnat_ingest.settings.options import OutputSettings, Settings
from xnat_ingest.xnat.client import XnatClient, client_of
from xnat_ingest.xnat.retry_policy import RetryPolicy

# Seconds between two progress lines.
_PULSE = 10.0


def resource(given: dict[str, Any], environ: Mapping[str, str]) -> int:
    settings = resolve("resource", given, environ)
    refuse_empty(settings, environ)
    place = ResourceOwner(settings.project, settings.subject, settings.experiment, given["scan"])
    place.check()
    action = given["action"]
    if given["label"]:
        check_label(given["label"], new=action == "put")
    found = _gathered(given, place) if action == "put" else None
    login = credentials(settings, environ)
    warn(unverified_server(settings, login.server))
    stop = Stop()
    retry_policy = RetryPolicy(settings.retry_budget, interruptible_sleep(stop.check), warn)
    rest = client_of(settings, login, retry_policy)
    catch_signals(stop)

    putting = _Putting(found, given, settings, stop) if found is not None else None

    def work() -> int:
        with closing(rest), rest.kept_alive():
            rest.login()
            if putting:
                return int(putting.put(rest, place, retry_policy))
            if action == "list":
                return int(_list(rest, place, given))
            return int(_ended(_delete(rest, place, given, retry_policy, stop), stop))

    try:
        return run_interruptibly(work, stop, GRACE)
    except IngestError as error:
        if not stop.signum:
            raise
        ended = error if isinstance(error, Stopped) else Stopped(stop.signum)
        if ended is not error:
            print(f"xnat-ingest: {error}", file=sys.stderr)
        if putting is None:
            raise ended from error
        return int(putting.tell_what_is_known(ended))


def _gathered(given: Mapping[str, Any], place: ResourceOwner) -> Gathered:
    """The files to store. Checked before anything is contacted. Raises UsageError."""
    from dataclasses import replace

    found = resourcefiles.gather(given["paths"])
    if not given["force"]:
        check_no_dicom(found, given["paths"], place, instead="--force")
    name = given["archive_name"]
    if not name:
        return found
    if not name.endswith(".tar") or name == ".tar" or "/" in name or not resourcefiles.addressable(name):
        raise UsageError("--archive-name must end with .tar and have only letters, digits, _ . and -")
    packed = resourcefiles.pack(name, given["paths"][0], found.files)
    return replace(found, files=(packed,) if found.files else ())


class _Putting:
    """Stores the files, and tells once what became of each, also when a signal or an error ends it early."""

    def __init__(self, found: Gathered, given: Mapping[str, Any], settings: Settings, stop: Stop) -> None:
        self._found = found
        self._given = given
        self._settings = settings
        self._stop = stop
        self._sending: resources.Put | None = None
        self._parent = ""
        self._telling = threading.Lock()
        self._code: Exit | None = None

    def put(self, rest: XnatClient, place: ResourceOwner, retry_policy: RetryPolicy) -> Exit:
        found, given = self._found, self._given
        for left, why in found.left.items():
            _say(self._settings, f"left out {printable(left)}: {why}")
        if not (found.files or found.refused):
            print("nothing to store: there are no files", file=sys.stderr)
            return Exit.NOTHING
        self._parent = resourceplaces.find_owner(rest, place)
        total = sum(one.size for one in found.files)
        _say(self._settings, f"{len(found.files)} files, {total} bytes: {self._parent}, {given['label']}")
        self._sending = resources.Put(
            rest,
            self._parent,
            given["label"],
            found.files,
            retry_policy,
            self._stop.check,
            {"format": given["format"], "content": given["content"], "tags": _tags(given["tags"])},
            _Pulse(self._settings, total),
        )
        try:
            return self._tell(self._sending.run(overwrite=given["overwrite"]))
        except Stopped as error:
            return self._tell(self._sending.look_again(), error)
        except IngestError as error:
            signum = self._stop.signum
            if signum or self._sending.has_stored:
                self._tell(self._sending.look_again(), Stopped(signum) if signum else error)
            raise

    def tell_what_is_known(self, ended_by: Stopped) -> Exit:
        """After a signal, when the server does not answer."""
        known = self._sending.known() if self._sending else resources.not_begun(self._found.files)
        return self._tell(known, ended_by)

    def _tell(self, sent: PutOutcome, ended_by: IngestError | None = None) -> Exit:
        with self._telling:
            if self._code is None:
                self._code = self._code_of(sent, ended_by)
                if isinstance(ended_by, Stopped):
                    print(f"xnat-ingest: {ended_by}", file=sys.stderr)
                self._print(sent, self._code)
                self._stop.told = lambda: int(self._code or Exit.OK)
            return self._code

    def _code_of(self, sent: PutOutcome, ended_by: IngestError | None) -> Exit:
        if ended_by:
            return _ended(ended_by.exit_code, self._stop)
        good = len(sent.sent) + len(sent.already)
        bad = self._found.refused or sent.failed or sent.different
        return _ended(Exit.OK if not bad else Exit.PARTIAL if good or sent.different else Exit.FAILED, self._stop)

    def _print(self, sent: PutOutcome, code: Exit) -> None:
        failed = {**self._found.refused, **sent.failed}
        for name, why in sorted(failed.items()):
            print(f"failed {printable(name)}: {why}", file=sys.stderr)
        for name in sorted(sent.different):
            why = "already exists with different content; --overwrite replaces it"
            print(f"different {printable(name)}: {why}", file=sys.stderr)
        if self._given["as_json"]:
            result = {
                "resource": f"{self._parent}/resources/{self._given['label']}" if self._parent else "",
                "sent": sorted(sent.sent),
                "already_there": sorted(sent.already),
                "different": sorted(sent.different),
                "failed": {printable(name): why for name, why in sorted(failed.items())},
                "left_out": {printable(name): why for name, why in sorted(self._found.left.items())},
                "exit_code": int(code),
            }
            print(json.dumps(result, indent=2))
        else:
            counts = f"{len(sent.sent)} sent, {len(sent.already)} already there, {len(sent.different)} different"
            print(f"{counts}, {len(failed)} failed: exit {int(code)}")


def _tags(given: str) -> str:
    return ",".join(tag.strip() for tag in given.split(",") if tag.strip())


def _ended(code: Exit, stop: Stop) -> Exit:
    """After a signal the command ends with that signal's code, whatever it still came to."""
    return Stopped(stop.signum).exit_code if stop.signum else code


def _list(rest: XnatClient, place: ResourceOwner, given: Mapping[str, Any]) -> Exit:
    from dataclasses import asdict

    parent = resourceplaces.find_owner(rest, place)
    known = resourcelisting.resources_of(rest, parent)
    rows: list[dict[str, Any]]
    if given["label"]:
        if given["label"] not in (one.label for one in known):
            raise IngestError(_absent(given["label"], (one.label for one in known)))
        held = resourcelisting.stored_files(rest, parent, given["label"])
        rows = [{"name": name, **asdict(one)} for name, one in sorted(held.items())]
    else:
        rows = [asdict(one) for one in known]
    if given["as_json"]:
        print(json.dumps(rows, indent=2))
    else:
        _table(rows, "no files" if given["label"] else "no resources")
    return Exit.OK


def _absent(label: str, known: Iterable[str]) -> str:
    return f"there is no resource {printable(label)}; existing: {', '.join(map(printable, sorted(known))) or 'none'}"


def _table(rows: Sequence[Mapping[str, Any]], nothing: str) -> None:
    if not rows:
        print(nothing)
        return
    lines = [[key.upper() for key in rows[0]], *([printable(str(value)) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _delete(
    rest: XnatClient, place: ResourceOwner, given: Mapping[str, Any], retry_policy: RetryPolicy, stop: Stop
) -> Exit:
    label, names = given["label"], given["files"]
    parent = resourceplaces.find_owner(rest, place)
    resources = resourcelisting.resources_of(rest, parent)
    known = [one.label for one in resources]
    if label not in known:
        raise IngestError(f"{_absent(label, known)}; nothing was deleted")
    images = bool(place.scan) and any(one.label == label and one.is_dicom for one in resources)
    if not given["yes"] or (images and not given["force"]):
        held = resourcelisting.stored_files(rest, parent, label)
        doomed = [name for name in sorted(held) if resourceplaces.is_named(names, name)]
        if images and not given["force"]:
            raise UsageError(_not_images(label, place.scan, len(doomed)))
        _table([{"to be deleted": name, "size": held[name].size} for name in doomed], "no files")
        print("nothing was deleted; add --yes to delete this", file=sys.stderr)
        return Exit.USAGE
    if not names and not given["keep_files"]:
        resourceplaces.delete_resource(rest, parent, label, retry_policy=retry_policy)
        print(f"deleted resource {printable(label)} with its files")
        return Exit.OK
    done = resourceplaces.delete_files(
        rest,
        parent,
        label,
        names,
        keep=given["keep_files"],
        retry_policy=retry_policy,
        stopped=lambda: bool(stop.signum),
    )
    for name in done.gone:
        print(f"deleted {printable(name)}{' (it stays on the server disk)' if given['keep_files'] else ''}")
    for name in done.absent:
        print(f"not found {printable(name)}", file=sys.stderr)
    for name, why in done.failed.items():
        print(f"failed {printable(name)}: {why}", file=sys.stderr)
    if done.failed or done.absent:
        return Exit.PARTIAL if done.gone else Exit.FAILED
    return Exit.OK


def _not_images(label: str, scan: str, number: int) -> str:
    return (
        f"{printable(label)} contains the DICOM images of scan {printable(scan)}; {number} of these files would be "
        "deleted. Nothing was deleted. To delete the images, add --yes --force"
    )


def _say(settings: OutputSettings, line: str) -> None:
    if not settings.quiet:
        print(line, file=sys.stderr)


class _Pulse:
    """Prints a progress line on stderr now and then."""

    def __init__(self, settings: OutputSettings, total: int) -> None:
        self._settings = settings
        self._total = total
        self._sent = 0
        self._told = time.monotonic()

    def __call__(self, number: int) -> None:
        self._sent += number
        if time.monotonic() - self._told >= _PULSE:
            self._told = time.monotonic()
            _say(self._settings, f"{self._sent} bytes sent, {self._total} to go through")
