"""An output never overwrites a file that is still needed: it only replaces an earlier output of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from xnat_ingest.core.atomic_file import check_writable, spare_handles
from xnat_ingest.core.errors import PRECEDENCE, UsageError
from xnat_ingest.core.regular_file import is_folder, open_regular, regular_handle
from xnat_ingest.core.text import printable

_TOOL = rb'"tool"\s*:\s*\{\s*"name"\s*:\s*"xnat-ingest-container"[^}]*\}\s*,\s*'
# How each output of ours begins, by its flag.
OUTPUTS: Mapping[str, re.Pattern[bytes]] = {
    "report": re.compile(rb'\s*\{\s*"schema"\s*:\s*1\s*,\s*' + _TOOL + rb'"command"\s*:'),
    "html": re.compile(rb'.{0,200}<meta name="generator" content="xnat-ingest">', re.DOTALL),
    "junit": re.compile(rb'.{0,80}<testsuites [^>]{0,120}>\s*<testsuite name="xnat-ingest ', re.DOTALL),
    "csv": re.compile(rb"project,subject,session,folder,verdict,"),
    "crosswalk": re.compile(rb"patient_id,study_uid,"),
}
_HEAD = 4096
_EXIT_CODE = re.compile(rb'"exit_code"\s*:\s*(\d{1,3})\b')


def check_output_file(
    path: str, output: str, inputs: Iterable[tuple[str, str]], root: str = "", depth: int = 1
) -> None:
    """Raises UsageError when an output must not be written there; leaves nothing behind.

    output: its flag, one of OUTPUTS.
    inputs: (what it is, path) of the files that the run reads.
    root: the tree; its session folders, depth names deep, must not receive outputs.
    """
    what = f"--{output}"
    shown = printable(path)
    check_writable(path, what)
    for name, other in inputs:
        if other and _is_same(path, other):
            raise UsageError(f"{what} {shown} is {name} of this run, which it would replace; name another file")
    if root and is_folder(root) and len(_below(path, root)) > max(depth, 1):
        raise UsageError(f"{what} {shown} is among the files below ROOT; name a file elsewhere")
    refuse_foreign(path, output)


def refuse_foreign(path: str, output: str) -> None:
    """Raises UsageError when a file is there that is no earlier output of this kind."""
    if not is_ours(path, output):
        raise UsageError(
            f"--{output} {printable(path)} already exists and is not a {output} of this program; choose another file, "
            "or delete it"
        )


def is_ours(path: str, output: str) -> bool:
    """Whether nothing would be lost: no file, an empty one, or an earlier output of this kind. Raises UsageError."""
    try:
        with spare_handles(), open_regular(path) as stream:
            head = stream.read(_HEAD)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UsageError(f"cannot read --{output} {printable(path)}, which already exists: {error.strerror}") from error
    return not head or OUTPUTS[output].match(head) is not None


def keep_better(path: str, exit_code: int) -> str:
    """Moves the report of a better run aside, to `report.1.json`, and returns its new path.

    Returns "" when nothing needed to be kept, or another run has moved it. Raises OSError.
    """
    with suppress(FileNotFoundError), spare_handles():
        with open_regular(path) as stream:
            known = _EXIT_CODE.search(stream.read(_HEAD))
        if known and _rank(int(known[1])) > _rank(exit_code):
            return _moved_aside(Path(path))
    return ""


def set_exit_code(path: str, exit_code: int) -> bool:
    """Changes the exit code in a report where it lies, which needs no room on the disk. Whether that was possible."""
    with suppress(OSError), open(path, "r+b", opener=regular_handle) as stream:
        found = _EXIT_CODE.search(stream.read(_HEAD))
        wanted = b"%d" % exit_code
        if found and len(found[1]) == len(wanted):
            stream.seek(found.start(1))
            stream.write(wanted)
            return True
    return False


def _rank(exit_code: int) -> int:
    """Higher for a better exit code."""
    return next((at for at, code in enumerate(PRECEDENCE) if code == exit_code), 0)


def _moved_aside(target: Path) -> str:
    """Renames it to the first name that is free. An empty file holds the name, so that no other run takes it, too."""
    for number in count(1):
        free = target.with_name(f"{target.stem}.{number}{target.suffix}")
        try:
            os.close(os.open(free, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            continue
        try:
            target.rename(free)
        except BaseException:
            free.unlink()
            raise
        return str(free)
    raise AssertionError("unreachable")


def _is_same(path: str, other: str) -> bool:
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return Path(path).samefile(other)
    except OSError:
        return False


def _below(path: str, root: str) -> tuple[str, ...]:
    """The parts of the path below ROOT; empty when it is elsewhere."""
    real, top = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    return real.relative_to(top).parts if real.is_relative_to(top) else ()
