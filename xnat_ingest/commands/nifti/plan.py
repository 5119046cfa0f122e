"""A NIfTI tree as subjects, sessions and scans: their labels, scan ids and XNAT types, and their conflicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

from xnat_ingest.commands.nifti.model import BIDS, NIFTI, TYPES, NiftiFile, NiftiPlan, NiftiScan, NiftiSession, id_of
from xnat_ingest.commands.nifti.tree import (
    BESIDE,
    DATATYPES,
    HIDDEN,
    Found,
    NiftiTreeContents,
    Series,
    entities,
    instance_of,
)
from xnat_ingest.core import Problem, UsageError, composed, few_of, printable
from xnat_ingest.inputs.nifti_file import IDENTIFYING
from xnat_ingest.planning.labels import BadLabel, Template, legal
from xnat_ingest.settings.options import DEFAULT_TEMPLATES

SHOWN = 5
# Characters of a sidecar's texts. XNAT stores no longer description.
_LONGEST_DESCRIPTION, _LONGEST_WORD = 255, 16
# The type of a session with several kinds of scans.
_MIXED = {frozenset({"mr", "pet"}): "petmr", frozenset({"ct", "pet"}): "pet"}


@dataclass(frozen=True, slots=True)
class NiftiOptions:
    """How the tree's subjects, sessions and scans are named.

    fixed: (subject, label) when ROOT is one session
    modality, session_type: "" for what sidecars and folders say
    together: sidecars go into the resource of the images
    mixed_patients: several PatientIDs in one subject are allowed
    """

    subject: Template
    session: Template
    fixed: tuple[str, str] | None = None
    modality: str = ""
    session_type: str = ""
    together: bool = False
    mixed_patients: bool = False


def template(text: str) -> Template:
    """A label template of folder names. Raises UsageError."""
    made = Template.parse(text, frozenset({"subject", "session"}))
    if made.keywords:
        word = min(made.keywords)
        raise UsageError(f"label template {text!r}: NIfTI has no headers with {{{word}}}; use {{subject}}, {{session}}")
    return made


def make_nifti_plan(tree: NiftiTreeContents, wishes: NiftiOptions) -> NiftiPlan:
    """The plan of a tree."""
    notes: list[Problem] = [
        Problem("bad-sidecar", f"{printable(path)} is not valid JSON; it is sent as it is")
        for path in tree.bad_sidecars
    ]
    sessions = [_session(above, series, wishes, notes) for above, series in tree.sessions.items()]
    sessions, collisions = _collisions(sessions, mixed_patients=wishes.mixed_patients)
    shared = set(collisions)
    own = [conflict for session in sessions for conflict in session.conflicts if conflict not in shared]
    notes += [*_left_beside(tree), *_identifying(tree), *_too_high(tree), *own, *collisions]
    return NiftiPlan(tuple(sessions), tuple(tree.aside), tuple(notes), tree.seen)


def _session(above: tuple[str, ...], series: list[Series], wishes: NiftiOptions, notes: list[Problem]) -> NiftiSession:
    folder = "/".join(above) or "."
    naming = _Naming(above, folder, wishes)
    named, subject, label = naming.labels()
    typing = _Typing(label, folder, wishes)
    scans = tuple(typing.scan(one, number) for one, number in _numbers(series))
    xsi_type = typing.session(scans)
    notes += [replace(note, sessions=(label,)) for note in naming.notes]
    conflicts = tuple(replace(c, sessions=(label,)) for c in (*naming.conflicts, *typing.conflicts))
    patients = frozenset(_patients(series))
    return NiftiSession(subject, label, folder, xsi_type, scans, conflicts, bool(wishes.session_type), named, patients)


def _patients(series: Iterable[Series]) -> Iterator[str]:
    """The PatientIDs that the sidecars name. dcm2niix writes them with -ba n."""
    said = (said.get("PatientID", "").strip() for one in series for said in one.said)
    return (patient for patient in said if patient)


class _Naming:
    """The labels of one session, and what is wrong with them."""

    def __init__(self, above: tuple[str, ...], folder: str, wishes: NiftiOptions) -> None:
        self._folders = dict(zip(("subject", "session"), map(composed, above), strict=False))
        self._folder = printable(folder)
        self._wishes = wishes
        self.conflicts: list[Problem] = []
        self.notes: list[Problem] = []

    def labels(self) -> tuple[str, str, str]:
        """(source text of the subject's label, subject label, session label)."""
        if self._wishes.fixed:
            return self._wishes.fixed[0], *self._wishes.fixed
        session = self._wishes.session
        if "session" not in self._folders and session.text == DEFAULT_TEMPLATES[1]:
            session = self._wishes.subject  # a BIDS subject without session folders: its one session
        named, subject = self._label("subject", self._wishes.subject)
        return named, subject, self._label("session", session)[1]

    def _label(self, what: str, made_by: Template) -> tuple[str, str]:
        """(source text of the label, the label)."""
        text = ""
        try:
            if lacking := made_by.levels - set(self._folders):
                raise BadLabel(f"there is no {min(lacking)} folder")
            text = made_by.text.format_map(self._folders)
            label = legal(text)
        except BadLabel as error:
            detail = f"{what} label of {self._folder}: {error}; give another with --{what}-label"
            self.conflicts.append(Problem("illegal-label", detail))
            return text, printable(text)
        if label != text:
            detail = f"{what} label of {self._folder}: {printable(text)!r} is sent as {label}"
            self.notes.append(Problem("illegal-label", detail))
        return text, label


def _numbers(series: Iterable[Series]) -> Iterator[tuple[Series, tuple[str, bool]]]:
    """Each scan's id, and whether its sidecar gives it. A number that two scans share is used for neither."""
    all_ = list(series)
    said = [_series_number(one) for one in all_]
    times = Counter(said)
    free = (str(number) for number in count(1) if str(number) not in times)
    for one, number in zip(all_, said, strict=True):
        yield one, (number, True) if number and times[number] == 1 else (next(free), False)


def _series_number(series: Series) -> str:
    number = _only(series, "SeriesNumber")
    return (number.lstrip("0") or "0") if number.isascii() and number.isdecimal() and len(number) < 10 else ""


def _only(series: Series, key: str) -> str:
    """What all sidecars of a scan agree on."""
    values = {value for said in series.said if (value := said.get(key, ""))}
    return values.pop() if len(values) == 1 else ""


class _Typing:
    """XNAT's types for one session and its scans."""

    def __init__(self, label: str, folder: str, wishes: NiftiOptions) -> None:
        self._label = label
        self._folder = printable(folder)
        self._wishes = wishes
        self.conflicts: list[Problem] = []

    def scan(self, series: Series, number: tuple[str, bool]) -> NiftiScan:
        first = series.images[0]
        modality = self._modality(series)
        own = self._own_words(series)
        if series.mixed:
            text = (
                f"{self._what(series)} holds images of several series ({series.mixed}), and not all of their sidecars"
            )
            detail = (
                f"{text} tell whose they are; give each series a folder of its own, or --exclude what is not theirs"
            )
            self.conflicts.append(Problem("mixed-series", detail))
        told = next((text for said in series.said if (text := _described(said))), "")[:_LONGEST_DESCRIPTION]
        scan_type = entities(first.stem)[1] if first.bids else told or own
        named = [*series.images, *series.companions]
        files = tuple(self._file(found) for found in named)
        image = replace(
            instance_of(first, {}),
            series_uid=id_of(series.key),
            series_number=number[0],
            series_description=told or own,
            modality=modality,
        )
        instances = tuple(
            replace(image, path=file.path, size=file.size, mtime_ns=file.mtime_ns, sop_uid=id_of(file.path))
            for file in files
        )
        return NiftiScan(
            series.key, *number, modality, scan_type, told or own, files, instances, _only(series, "SeriesInstanceUID")
        )

    def _file(self, found: Found) -> NiftiFile:
        beside = found.name.kind in ("sidecar", "table") and not self._wishes.together
        file = found.file
        return NiftiFile(file.path, file.size, file.mtime_ns, BIDS if beside else NIFTI, found.stored)

    @staticmethod
    def _own_words(series: Series) -> str:
        """The tree's own name of a scan: in BIDS all of its name but subject and session."""
        first = series.images[0]
        if not first.bids:
            return printable(series.key.rstrip("/").rpartition("/")[2])
        words = first.name.stem.split("_")
        return printable("_".join(word for word in words if not word.startswith(("sub-", "ses-"))))

    def _what(self, series: Series) -> str:
        return f"scan {printable(series.key.rstrip('/'))} of {self._folder}"

    def _modality(self, series: Series) -> str:
        words = {word for said in series.said if (word := said.get("Modality", "").strip().upper()[:_LONGEST_WORD])}
        words = {"PT" if word == "PET" else word for word in words}
        if self._wishes.modality:
            words = {self._wishes.modality}
        if not words and series.images[0].bids:
            words = {DATATYPES.get(series.images[0].inner[0], "")} - {""}
        what = self._what(series)
        if len(words) > 1:
            self._conflict(f"{what} holds images of {', '.join(sorted(words))}; give each a folder of its own")
        elif not words:
            self._conflict(f"no sidecar says what modality {what} has; give --modality")
        elif not words <= set(TYPES):
            self._conflict(f"{what} has modality {printable(min(words))}, for which XNAT has no type; give --modality")
        return words.pop() if len(words) == 1 and words <= set(TYPES) else ""

    def session(self, scans: tuple[NiftiScan, ...]) -> str:
        if self._wishes.session_type:
            return self._wishes.session_type
        if not all(scan.modality for scan in scans):
            return ""
        kinds = frozenset(TYPES[scan.modality] for scan in scans)
        kind = min(kinds) if len(kinds) == 1 else _MIXED.get(kinds, "")
        if not kind:
            listed = ", ".join(sorted(kinds))
            self._conflict(f"{self._folder} holds scans of {listed}, which no type of session has; give --session-type")
            return ""
        return f"xnat:{kind}SessionData"

    def _conflict(self, text: str) -> None:
        self.conflicts.append(Problem("unknown-type", text))


def _described(said: Mapping[str, str]) -> str:
    return printable((said.get("SeriesDescription") or said.get("ProtocolName") or "").strip())


def _collisions(sessions: list[NiftiSession], *, mixed_patients: bool) -> tuple[list[NiftiSession], list[Problem]]:
    """Two sources for one label, and several patients in one session or subject.

    XNAT's labels are unique in a project, and case does not tell them apart.
    """
    problems: dict[int, list[Problem]] = defaultdict(list)
    for members in [] if mixed_patients else _mixed_patients(sessions):
        number = len(frozenset().union(*(s.patients for s in members)))
        folders = few_of(list(dict.fromkeys(printable(s.folder) for s in members)))
        fact = f"the sidecars of {folders} name {number} patients (by PatientID), which would be one subject"
        fix = "move the files that are in the wrong folder, or give --allow-mixed-patients if it is one person"
        problem = Problem.advised("mixed-patients", fact, fix, tuple(dict.fromkeys(s.label for s in members)))
        for session in members:
            problems[id(session)].append(problem)
    for what, name in _WHAT.items():
        for members in _alike(sessions, name):
            if what == "subject" and len({s.named for s in members}) == 1:
                continue
            folders = few_of(list(dict.fromkeys(printable(s.folder) for s in members)))
            text = f"folders {folders} share the {what} label {name(members[0])}; tell them apart with --{what}-label"
            problem = Problem("label-collision", text, tuple(dict.fromkeys(s.label for s in members)))
            for session in members:
                problems[id(session)].append(problem)
    marked = [replace(s, conflicts=(*s.conflicts, *problems[id(s)])) for s in sessions]
    return marked, list(dict.fromkeys(problem for found in problems.values() for problem in found))


def _mixed_patients(sessions: list[NiftiSession]) -> Iterator[list[NiftiSession]]:
    """The sessions with images of several patients, and the subjects whose sessions have several."""
    yield from ([session] for session in sessions if len(session.patients) > 1)
    for members in _alike([session for session in sessions if len(session.patients) <= 1], lambda s: s.subject):
        if len(frozenset().union(*(session.patients for session in members))) > 1:
            yield members


_WHAT: dict[str, Callable[[NiftiSession], str]] = {"session": lambda s: s.label, "subject": lambda s: s.subject}


def _alike(sessions: list[NiftiSession], name: Callable[[NiftiSession], str]) -> list[list[NiftiSession]]:
    groups: dict[str, list[NiftiSession]] = defaultdict(list)
    for session in sessions:
        groups[name(session).casefold()].append(session)
    return [members for members in groups.values() if len(members) > 1]


def _left_beside(tree: NiftiTreeContents) -> list[Problem]:
    """A note on files beside images that are not sent, although no rule of the user excludes them."""
    images = (image for series in tree.sessions.values() for one in series for image in one.images)
    folders = {image.file.path.rpartition("/")[0] for image in images}
    left = [one.path for one in tree.aside if one.reason == BESIDE and one.detail != HIDDEN]
    left = sorted(path for path in left if path.rpartition("/")[0] in folders)
    if not left:
        return []
    named = ", ".join(map(printable, left[:SHOWN])) + (", ..." if len(left) > SHOWN else "")
    text = f"{len(left)} files beside images are neither images nor sidecars and were not sent: {named}"
    return [Problem("left-beside", f"{text}; store them with xnat-ingest resource put if they matter")]


def _too_high(tree: NiftiTreeContents) -> list[Problem]:
    """A note where all images are deeper than they should be: the wrong folder may have named the subjects."""
    images = [image for series in tree.sessions.values() for one in series for image in one.images]
    if tree.bids or not images:
        return []
    first = images[0].file.path
    folder = printable(first.partition("/")[0])
    if all(image.above[1:] and image.above[1].startswith("sub-") for image in images):
        text = f"{folder} looks like a BIDS tree. If it is one, give that folder as ROOT"
    elif all(len(image.inner) > 2 for image in images):
        layout = "subject/session/scan" if images[0].above else "scan"
        text = (
            f"every image is deeper than {layout} ({printable(first)}), so ROOT may be one level too high. If so, give "
        )
        text += f"{folder} as ROOT"
    else:
        return []
    return [Problem("root-too-high", text)]


def _identifying(tree: NiftiTreeContents) -> list[Problem]:
    """A note on sidecars that name a patient, since they are sent as they are. It gives keys, never values."""
    holding = [
        (images.images[0].file.path, sorted(keys))
        for series in tree.sessions.values()
        for images in series
        for said in images.said
        if (keys := {key for key in IDENTIFYING if said.get(key)})
    ]
    if not holding:
        return []
    told = ", ".join(sorted({key for _, keys in holding for key in keys}))
    text = (
        f"{len(holding)} sidecars hold {told} (the first: that of {printable(holding[0][0])}); they are sent "
        "as they are, so convert without these values where they must not be on the server"
    )
    return [Problem("identifying-sidecar", text)]
