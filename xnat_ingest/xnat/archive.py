"""Compares what the server has stored with the plan. It reads listings and never trusts a receipt."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from sys import intern
from urllib.parse import unquote

from xnat_ingest.core import Instance
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import StoredFile
from xnat_ingest.xnat.tables import bytes_of

_DICOM = ("dicom", "secondary")
# An address below a session: /scans/SCAN/resources/RESOURCE/files/NAME. The name includes its folders.
_PLACE = re.compile(r"(/scans/([^/]+)/resources/[^/]+/files(?:/.*)?)/([^/]+)$")
# An address that begins with an experiment: /xnat/data/archive/experiments/ACCESSION/...
_EXPERIMENT = re.compile(r"(?:/[^/]+)?(?:/(?:data|REST|archive))+/experiments/([^/]+)/")


@dataclass(frozen=True, slots=True)
class ArchivedSession:
    """An archived session, from the project's listing or from a request by its label."""

    accession: str
    label: str
    subject: str
    study_uid: str
    xsi_type: str = ""

    @property
    def is_imaging(self) -> bool:
        """Whether it is an imaging session. A label may also belong to another kind of experiment."""
        return not self.xsi_type or self.xsi_type.endswith("SessionData")


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The DICOM files of one session on the server.

    uri: the session's address
    sizes: name -> bytes; of a name that is there twice, the smaller size
    series: SeriesInstanceUID -> number of files; the server may be asked when it is looked into
    folders: name -> address of the folder that it lies in, below uri
    scans: name -> id of the scan that it lies in
    secondary: names that lie in the resource `secondary`
    doubled: names that are there twice, at two addresses
    """

    uri: str
    sizes: Mapping[str, int]
    series: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    scans: Mapping[str, str] = field(default_factory=dict)
    secondary: frozenset[str] = frozenset()
    doubled: frozenset[str] = frozenset()

    def address_of(self, name: str) -> str:
        """The address from which a file can be downloaded."""
        return f"{self.uri}{self.folders[name]}/{name}"

    def has_study(self, study_uid: str) -> bool:
        """Whether a stored name belongs to this study. XNAT names files on receipt, before a script changes UIDs."""
        return any(name.startswith(f"{study_uid}-") for name in self.sizes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Planned instances beside the stored files.

    verified, counted: SOPInstanceUIDs.
    absent: SOPInstanceUID -> why it is not on the server.
    other_names: SeriesInstanceUID -> (files on the server, files planned), for series whose files do not have XNAT's
        default names and whose numbers differ.
    """

    verified: frozenset[str]
    counted: frozenset[str]
    absent: Mapping[str, str]
    other_names: Mapping[str, tuple[int, int]]

    @property
    def seen(self) -> frozenset[str]:
        return self.verified | self.counted


NO_FILES = StoredFiles("", {})
_NOT_OURS = StoredFile("", 0, "", "", "")


class _SeriesCounts(Mapping[str, int]):
    """SeriesInstanceUID -> number of files. The listing of files knows scans only: which series they are is asked for
    when somebody wants to know, as nobody does where the names tell instances."""

    def __init__(self, in_scan: Mapping[str, int], uid_of_scan: Callable[[], Mapping[str, str]]) -> None:
        self._in_scan = in_scan
        self._uid_of_scan = uid_of_scan

    @cached_property
    def _counts(self) -> Mapping[str, int]:
        uids = self._uid_of_scan() if self._in_scan else {}
        found: Counter[str] = Counter()
        for scan, number in self._in_scan.items():
            found[uids.get(scan, "")] += number
        return found

    def __getitem__(self, uid: str) -> int:
        return self._counts[uid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


def archived_sessions(rest: XnatClient, project: str) -> list[ArchivedSession]:
    """Every image session of the project, from one listing."""
    columns = "ID,label,subject_label,xsiType,xnat:imageSessionData/UID"
    return rest.rows(f"/data/projects/{project}/experiments", _known, xsiType="xnat:imageSessionData", columns=columns)


def _known(row: Mapping[str, str]) -> ArchivedSession:
    entry = {key.lower(): value for key, value in row.items()}
    # A column comes back under the requested path, or under XNAT's short name for it.
    return ArchivedSession(
        accession=entry.get("uri", "").rpartition("/")[2] or entry.get("id", ""),
        label=entry.get("label", ""),
        subject=intern(entry.get("subject_label", "")),
        study_uid=entry.get("xnat:imagesessiondata/uid", "") or entry.get("uid", ""),
        xsi_type=intern(entry.get("xsitype", "")),
    )


def archived_session(rest: XnatClient, project: str, label: str) -> ArchivedSession | None:
    """The session with this label, or None.

    Sessions of types that are not set up on the site are missing from listings, but are found this way.
    """
    item = rest.item(f"/data/projects/{project}/experiments/{label}")
    if item is None:
        return None
    subject = rest.item(f"/data/projects/{project}/subjects/{item.get('subject_ID', '')}") or {}
    return ArchivedSession(
        accession=str(item["ID"]),
        label=str(item.get("label", "")),
        subject=str(subject.get("label", "")),
        study_uid=str(item.get("UID") or ""),
        xsi_type=str(item.get("xsiType", "")),
    )


def in_archive(rest: XnatClient, accession: str) -> StoredFiles:
    """What an archived session holds: one request for all files."""
    uri = f"/data/experiments/{accession}"

    def uid_of_scan() -> Mapping[str, str]:
        return dict(rest.rows(f"{uri}/scans", lambda row: (row["ID"], row.get("UID", "")), columns="ID,UID"))

    def file(row: Mapping[str, str]) -> StoredFile:
        return _file(row) if _is_of(accession, row) else _NOT_OURS

    return _holding(uri, uid_of_scan, (found for found in rest.rows(f"{uri}/scans/ALL/files", file) if found.name))


def _is_of(accession: str, row: Mapping[str, str]) -> bool:
    """False when the row's address names another experiment. A relative one, or one by labels, names none."""
    named = _EXPERIMENT.match(unquote(row.get("URI", "")))
    return named is None or named[1].casefold() == accession.casefold()


def _file(row: Mapping[str, str]) -> StoredFile:
    """A file in the archive. Its name is "" when it is not DICOM, such as a snapshot."""
    label = row.get("collection", "")
    if row.get("file_format", "").upper() != "DICOM" and label.lower() not in _DICOM:
        return _NOT_OURS
    place = _PLACE.search(unquote(row.get("URI", "")))
    folder, scan = (intern(place[1]), intern(place[2])) if place else ("", "")
    name, own = unquote(row["Name"]), place[3] if place else ""
    return StoredFile(name, bytes_of(row), scan, folder, intern(label), name if own == name else own)


def in_prearchive(rest: XnatClient, uri: str) -> StoredFiles:
    """The files of a prearchive session when it was last built. Its document has the scans' UIDs."""
    return _holding(uri, lambda: prearchive.scan_uids(rest, uri), prearchive.files(rest, uri))


def _holding(uri: str, uid_of_scan: Callable[[], Mapping[str, str]], files: Iterable[StoredFile]) -> StoredFiles:
    sizes: dict[str, int] = {}
    folders: dict[str, str] = {}
    scans: dict[str, str] = {}
    secondary: set[str] = set()
    doubled: set[str] = set()
    # Two rows with one address are one file, whatever they call it.
    in_scan: Counter[str] = Counter()
    addresses: set[tuple[str, str]] = set()
    for file in files:
        address = file.folder, file.own
        is_new = address not in addresses
        addresses.add(address)
        in_scan[file.scan] += is_new
        if is_new and file.name in sizes:
            doubled.add(file.name)
        sizes[file.name] = min(file.size, sizes.get(file.name, file.size))
        folders[file.name] = file.folder
        scans[file.name] = file.scan
        if file.label == "secondary":
            secondary.add(file.name)
    series = _SeriesCounts(in_scan, uid_of_scan)
    return StoredFiles(uri, sizes, series, folders, scans, frozenset(secondary), frozenset(doubled))


def least_size(instance: Instance) -> int:
    """The smallest size that a complete copy of the instance can have on the server.

    Anonymisation and re-encoding change headers, and decompression enlarges pixels, but nothing shrinks them. An object
    without pixels must have at least half of the sent size.
    """
    return instance.pixel_bytes or instance.length // 2


def compare_stored(instances: Iterable[Instance], files_held: StoredFiles) -> Comparison:
    """Compares each instance by name and plausible size, or a series with other names by its number of files."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[instance.series_uid].append(instance)
    verified: set[str] = set()
    counted: set[str] = set()
    absent: dict[str, str] = {}
    other_names: dict[str, tuple[int, int]] = {}
    for series_uid, members in by_series.items():
        named = any(i.name in files_held.sizes for i in members)
        if not named and (on_server := files_held.series.get(series_uid, 0)):
            if on_server == len(members):
                counted.update(i.sop_uid for i in members)
            else:
                other_names[series_uid] = (on_server, len(members))
                why = f"the series has {on_server} files on the server, under names that do not identify instances"
                absent |= {i.sop_uid: why for i in members}
            continue
        for instance, why in _by_name(members, files_held.sizes):
            if why:
                absent[instance.sop_uid] = why
            else:
                verified.add(instance.sop_uid)
    return Comparison(frozenset(verified), frozenset(counted), absent, other_names)


def _by_name(members: Sequence[Instance], sizes: Mapping[str, int]) -> Iterable[tuple[Instance, str]]:
    for instance in members:
        size = sizes.get(instance.name)
        if size is None:
            yield instance, "not on the server"
        elif size < least_size(instance):
            yield instance, f"stored truncated: {size} bytes on the server, at least {least_size(instance)} expected"
        else:
            yield instance, ""
