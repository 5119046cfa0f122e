"""What the server holds against what the plan says. Reads listings; never trusts a receipt."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from sys import intern
from urllib.parse import unquote

from xnat_ingest.core.model import Instance
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import StoredFile

_DICOM = ("dicom", "secondary")
# An address below a session's: /scans/SCAN/resources/RESOURCE/files/NAME, the name with the folders it lies in.
_PLACE = re.compile(r"(/scans/([^/]+)/resources/[^/]+/files(?:/.*)?)/[^/]+$")


@dataclass(frozen=True, slots=True)
class ArchivedSession:
    """An archived session: as the project's listing shows it, or as it answers to its label."""

    accession: str
    label: str
    subject: str
    study_uid: str
    xsi_type: str = ""

    @property
    def is_imaging(self) -> bool:
        """Whether it is an imaging session; a label may also belong to another kind of experiment."""
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
    doubled: names that are there twice
    """

    uri: str
    sizes: Mapping[str, int]
    series: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    scans: Mapping[str, str] = field(default_factory=dict)
    secondary: frozenset[str] = frozenset()
    doubled: frozenset[str] = frozenset()

    def address_of(self, name: str) -> str:
        """Where the bytes of a file are to be had."""
        return f"{self.uri}{self.folders[name]}/{name}"

    def has_study(self, study_uid: str) -> bool:
        """Whether a stored name tells this study. Names are made on receipt, before a script may change UIDs."""
        return any(name.startswith(f"{study_uid}-") for name in self.sizes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """verified, counted: SOPInstanceUIDs.
    lacking: SOPInstanceUID -> why.
    other_names: SeriesInstanceUIDs whose files have names that are not XNAT's default and whose number is not the
        plan's -> (on the server, planned).
    """

    verified: frozenset[str]
    counted: frozenset[str]
    lacking: Mapping[str, str]
    other_names: Mapping[str, tuple[int, int]]

    @property
    def seen(self) -> frozenset[str]:
        return self.verified | self.counted


NO_FILES = StoredFiles("", {})


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
    """Every image session of the project, in one listing."""
    columns = "ID,label,subject_label,xsiType,xnat:imageSessionData/UID"
    return rest.rows(f"/data/projects/{project}/experiments", _known, xsiType="xnat:imageSessionData", columns=columns)


def _known(row: Mapping[str, str]) -> ArchivedSession:
    entry = {key.lower(): value for key, value in row.items()}
    # A column comes back under the path it was asked by, or under XNAT's short word for it.
    return ArchivedSession(
        accession=entry.get("uri", "").rpartition("/")[2] or entry.get("id", ""),
        label=entry.get("label", ""),
        subject=entry.get("subject_label", ""),
        study_uid=entry.get("xnat:imagesessiondata/uid", "") or entry.get("uid", ""),
        xsi_type=entry.get("xsitype", ""),
    )


def archived_session(rest: XnatClient, project: str, label: str) -> ArchivedSession | None:
    """The session that answers to a label, or None. Sessions of types that are not set up on a site are in no listing,
    and answer all the same."""
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

    return _holding(uri, uid_of_scan, (file for file in rest.rows(f"{uri}/scans/ALL/files", _file) if file.name))


def _file(row: Mapping[str, str]) -> StoredFile:
    """A file of the archive; the name is "" for what is no DICOM, such as snapshots."""
    label = row.get("collection", "")
    if row.get("file_format", "").upper() != "DICOM" and label.lower() not in _DICOM:
        return StoredFile("", 0, "", "", "")
    place = _PLACE.search(unquote(row.get("URI", "")))
    folder, scan = (intern(place[1]), intern(place[2])) if place else ("", "")
    return StoredFile(unquote(row["Name"]), int(row.get("Size") or 0), scan, folder, intern(label))


def in_row(rest: XnatClient, uri: str) -> StoredFiles:
    """What a prearchive session held when it was last built; its document knows the scans' UIDs."""
    return _holding(uri, lambda: prearchive.scan_uids(rest, uri), prearchive.files(rest, uri))


def _holding(uri: str, uid_of_scan: Callable[[], Mapping[str, str]], files: Iterable[StoredFile]) -> StoredFiles:
    sizes: dict[str, int] = {}
    folders: dict[str, str] = {}
    scans: dict[str, str] = {}
    secondary: set[str] = set()
    doubled: set[str] = set()
    in_scan: Counter[str] = Counter()
    for file in files:
        in_scan[file.scan] += 1
        if file.name in sizes:
            doubled.add(file.name)
        sizes[file.name] = min(file.size, sizes.get(file.name, file.size))
        folders[file.name] = file.folder
        scans[file.name] = file.scan
        if file.label == "secondary":
            secondary.add(file.name)
    series = _SeriesCounts(in_scan, uid_of_scan)
    return StoredFiles(uri, sizes, series, folders, scans, frozenset(secondary), frozenset(doubled))


def least_size(instance: Instance) -> int:
    """The fewest bytes that a whole copy of the instance can take on the server.

    Anonymisation and re-encoding change headers and decompression enlarges, but nothing shrinks pixels. Where there
    are none, half of what was sent must be there.
    """
    return instance.pixel_bytes or instance.length // 2


def compare_stored(instances: Iterable[Instance], files_held: StoredFiles) -> Comparison:
    """Each instance by name and plausible size; a series stored under other names by its number of files."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[instance.series_uid].append(instance)
    verified: set[str] = set()
    counted: set[str] = set()
    lacking: dict[str, str] = {}
    other_names: dict[str, tuple[int, int]] = {}
    for series_uid, members in by_series.items():
        named = any(i.name in files_held.sizes for i in members)
        if not named and (on_server := files_held.series.get(series_uid, 0)):
            if on_server == len(members):
                counted.update(i.sop_uid for i in members)
            else:
                other_names[series_uid] = (on_server, len(members))
                why = f"the series has {on_server} files on the server, under names that do not tell instances"
                lacking |= {i.sop_uid: why for i in members}
            continue
        for instance, why in _by_name(members, files_held.sizes):
            if why:
                lacking[instance.sop_uid] = why
            else:
                verified.add(instance.sop_uid)
    return Comparison(frozenset(verified), frozenset(counted), lacking, other_names)


def _by_name(members: Sequence[Instance], sizes: Mapping[str, int]) -> Iterable[tuple[Instance, str]]:
    for instance in members:
        size = sizes.get(instance.name)
        if size is None:
            yield instance, "not on the server"
        elif size < least_size(instance):
            yield instance, f"stored truncated: {size} bytes on the server, at least {least_size(instance)} expected"
        else:
            yield instance, ""
