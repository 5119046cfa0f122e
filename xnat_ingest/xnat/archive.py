"""What the server holds against what the plan says. Reads listings; never trusts a receipt."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from urllib.parse import unquote

from xnat_ingest.core.model import Instance
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.client import Rest
from xnat_ingest.xnat.prearchive import StoredFile

_DICOM = ("dicom", "secondary")
# An address below a session's: /scans/SCAN/resources/RESOURCE/files/NAME, the name with the folders it lies in.
_PLACE = re.compile(r"(/scans/([^/]+)/resources/[^/]+/files(?:/.*)?)/[^/]+$")


@dataclass(frozen=True, slots=True)
class Known:
    """An archived session as the project's listing shows it."""

    accession: str
    label: str
    subject: str
    study_uid: str
    xsi_type: str = ""


@dataclass(frozen=True, slots=True)
class Holding:
    """The DICOM files of one session on the server. sizes: name -> bytes; series: SeriesInstanceUID -> files; folders:
    name -> address of the folder it lies in, below uri."""

    uri: str
    sizes: Mapping[str, int]
    series: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)

    def address_of(self, name: str) -> str:
        """Where the bytes of a file are to be had."""
        return f"{self.uri}{self.folders[name]}/{name}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """verified, counted: SOPInstanceUIDs; lacking: SOPInstanceUID -> why; other_names: SeriesInstanceUIDs whose files
    have names that are not XNAT's default and whose number is not the plan's -> (on the server, planned)."""

    verified: frozenset[str]
    counted: frozenset[str]
    lacking: Mapping[str, str]
    other_names: Mapping[str, tuple[int, int]]

    @property
    def seen(self) -> frozenset[str]:
        return self.verified | self.counted


NOWHERE = Holding("", {})


def archived_sessions(rest: Rest, project: str) -> list[Known]:
    """Every image session of the project, in one listing."""
    columns = "ID,label,subject_label,xsiType,xnat:imageSessionData/UID"
    return rest.rows(f"/data/projects/{project}/experiments", _known, xsiType="xnat:imageSessionData", columns=columns)


def _known(row: Mapping[str, str]) -> Known:
    entry = {key.lower(): value for key, value in row.items()}
    # A column comes back under the path it was asked by, or under XNAT's short word for it.
    return Known(
        accession=entry.get("uri", "").rpartition("/")[2] or entry.get("id", ""),
        label=entry.get("label", ""),
        subject=entry.get("subject_label", ""),
        study_uid=entry.get("xnat:imagesessiondata/uid", "") or entry.get("uid", ""),
        xsi_type=entry.get("xsitype", ""),
    )


def in_archive(rest: Rest, accession: str) -> Holding:
    """What an archived session holds: one request for all files, one for the scans' UIDs."""
    uri = f"/data/experiments/{accession}"
    uid_of_scan = dict(rest.rows(f"{uri}/scans", lambda row: (row["ID"], row.get("UID", "")), columns="ID,UID"))
    return _holding(uri, rest.rows(f"{uri}/scans/ALL/files", _file), uid_of_scan)


def _holding(uri: str, files: Iterable[StoredFile], uid_of_scan: Mapping[str, str]) -> Holding:
    sizes: dict[str, int] = {}
    folders: dict[str, str] = {}
    series: Counter[str] = Counter()
    for name, size, scan, folder in files:
        if name:
            sizes[name] = size
            folders[name] = folder
            series[uid_of_scan.get(scan, "")] += 1
    return Holding(uri, sizes, series, folders)


def _file(row: Mapping[str, str]) -> StoredFile:
    """A file of a listing; the name is "" for what is no DICOM, such as snapshots."""
    if row.get("file_format", "").upper() != "DICOM" and row.get("collection", "").lower() not in _DICOM:
        return "", 0, "", ""
    place = _PLACE.search(unquote(row.get("URI", "")))
    folder, scan = (intern(place[1]), intern(place[2])) if place else ("", "")
    return unquote(row["Name"]), int(row.get("Size") or 0), scan, folder


def in_row(rest: Rest, uri: str) -> Holding:
    """What a built prearchive row holds; its session document knows the scans' UIDs."""
    uid_of_scan = prearchive.scan_uids(rest, uri)
    return _holding(uri, prearchive.files(rest, uri), uid_of_scan)


def least_size(instance: Instance) -> int:
    """The fewest bytes that a whole copy of the instance can take on the server.

    Anonymisation and re-encoding change headers and decompression enlarges, but nothing shrinks pixels. Where there
    are none, half of what was sent must be there.
    """
    return instance.pixel_bytes or instance.length // 2


def compare(instances: Iterable[Instance], holding: Holding) -> Comparison:
    """Each instance by name and plausible size; a series stored under other names by its number of files."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[instance.series_uid].append(instance)
    verified: set[str] = set()
    counted: set[str] = set()
    lacking: dict[str, str] = {}
    other_names: dict[str, tuple[int, int]] = {}
    for series_uid, members in by_series.items():
        on_server = holding.series.get(series_uid, 0)
        if on_server and not any(i.name in holding.sizes for i in members):
            if on_server == len(members):
                counted.update(i.sop_uid for i in members)
            else:
                other_names[series_uid] = (on_server, len(members))
                why = f"the series has {on_server} files on the server, under names that do not tell instances"
                lacking |= {i.sop_uid: why for i in members}
            continue
        for instance, why in _by_name(members, holding.sizes):
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
