"""Makes the de-identifier from the settings, writes the crosswalk, and makes the report's part."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from xnat_ingest.core import IngestError, Plan, UsageError, inert_cell, printable
from xnat_ingest.core.atomic_file import alone, check_writable, replacing
from xnat_ingest.core.regular_file import open_regular
from xnat_ingest.core.stop import Stop
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.pseudonyms import read_key
from xnat_ingest.inputs.dicom_dictionary import name_of
from xnat_ingest.inputs.source import go_on
from xnat_ingest.settings.options import PrivacySettings

_COLUMNS = ("patient_id", "study_uid", "study_date", "project", "subject", "session", "new_study_uid", "days")
# What was done to the objects that are sent, in the order of the report.
_WORDS = {"X": "removed", "Z": "emptied", "D": "replaced", "U": "mapped", "C": "cleaned"}


def deidentifier_of(
    settings: PrivacySettings,
    root: str,
    environ: Mapping[str, str] = os.environ,
    check_stop: Callable[[], None] = go_on,
) -> Deidentifier | None:
    """What --deidentify asks for; None when it is not given. For check_stop see Deidentifier. Raises UsageError."""
    for name in ("deid_key_file", "crosswalk"):
        if getattr(settings, name) and not settings.deidentify:
            raise UsageError(f"--{name.replace('_', '-')} needs --deidentify PROFILE")
    if not settings.deidentify:
        return None
    profile = load_profile(settings.deidentify)
    key = read_key(settings.deid_key_file, environ)
    if profile.needs_key and key is None:
        raise UsageError(
            f"--deidentify {printable(settings.deidentify)} makes new UIDs or dates, which takes a key: make one with "
            "xnat-ingest identity new-key FILE, keep it, and give --deid-key-file FILE (or set XNAT_INGEST_DEID_KEY)"
        )
    if settings.crosswalk:
        _check_crosswalk(settings.crosswalk, root, environ)
    return Deidentifier(profile, key, check_stop)


def _check_crosswalk(path: str, root: str, environ: Mapping[str, str]) -> None:
    if "XNAT_WORKFLOW_ID" in environ:
        raise UsageError("--crosswalk is not for the container service: what it writes would stay on the server")
    check_writable(path, "--crosswalk")
    if root and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UsageError(f"--crosswalk {printable(path)} is below ROOT; name a file elsewhere")


def write_crosswalk(path: str, deidentifier: Deidentifier, plan: Plan, stop: Stop | None = None) -> None:
    """Adds the plan's studies to a table that only its owner can read. Several runs may do so at once.

    Raises UsageError for another file in its place, IngestError where it cannot be written, as on a full disk, and
    Stopped when a signal comes while another run is waited for.
    """
    try:
        with alone(path, stop, must=True):
            _add_to_crosswalk(path, deidentifier, plan)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read --crosswalk {printable(path)}: {error}; name another file") from error
    except BlockingIOError as error:
        if stop:
            stop.check()
        text = (
            f"cannot write --crosswalk {printable(path)}: another program holds a lock on its folder, such as another "
            "run, or flock around this one; no image was sent. Run again later, or name a file in another folder"
        )
        raise IngestError(text) from error
    except OSError as error:
        text = f"cannot write --crosswalk {printable(path)}: {error.strerror}; no image was sent"
        raise IngestError(text) from error


def _add_to_crosswalk(path: str, deidentifier: Deidentifier, plan: Plan) -> None:
    text = ""
    with suppress(FileNotFoundError), open_regular(path) as stream:
        text = stream.read().decode("utf-8")
    rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))] or [_COLUMNS]
    if rows[0] != _COLUMNS:
        raise UsageError(f"--crosswalk {printable(path)} already exists and is not a crosswalk; name another file")
    for session in plan.sessions:
        for study in sorted({i.study_uid for i in session.instances}):
            labels = session.project, session.subject, session.label
            for one in deidentifier.originals[study].values():
                cells = (one.patient_id, one.study_uid, one.study_date, *labels, study)
                # Days are a number, with its sign; a PatientID can be anything.
                rows.append((*(inert_cell(printable(cell)) for cell in cells), str(one.days)))
    with replacing(path, 0o600) as stream:
        csv.writer(stream).writerows(dict.fromkeys(rows))


def summary(deidentifier: Deidentifier, plan: Plan) -> dict[str, object]:
    """The report's part: counts and names of elements, no values."""
    actions: dict[str, Counter[str]] = {}
    for (action, tag), number in deidentifier.tally.actions.items():
        # Private elements are too many to be named one by one.
        name = "private elements" if tag >> 16 & 1 else name_of(tag)
        actions.setdefault(_WORDS[action], Counter())[name] += number
    refused = Counter(a.reason for a in plan.set_aside if a.reason in REASONS)
    return {
        "profile": printable(deidentifier.profile.name),
        "profile_sha256": deidentifier.profile.sha256,
        "key_fingerprint": deidentifier.key.fingerprint if deidentifier.key else "",
        "objects": deidentifier.tally.objects,
        "blackened": deidentifier.tally.blackened,
        "actions": {word: dict(sorted(actions[word].items())) for word in _WORDS.values() if word in actions},
        "refused": dict(sorted(refused.items())),
        "restored": dict(sorted(deidentifier.tally.restored.items())),
        "returned": dict(sorted(deidentifier.tally.returned.items())),
        "not_searched": [
            {"keyword": keyword, "why": why, "objects": number}
            for (keyword, why), number in sorted(deidentifier.tally.weak.items())
        ],
    }


REASONS = frozenset({"burned-in", "residual-identifier", "not-deidentifiable"})
