"""Compares what the server has stored with the plan. It reads listings and never trusts a receipt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from sys import intern
from typing import Any, NamedTuple
from urllib.parse import unquote

from xnat_ingest.core import Instance, SessionTrouble, printable
from xnat_ingest.core.stored_name import uid_hash
from xnat_ingest.xnat import documents, prearchive
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import StoredFile
from xnat_ingest.xnat.scan_ids import id_without_number, number_of, received_in, was_built
from xnat_ingest.xnat.stored_uids import StoredUids
from xnat_ingest.xnat.tables import bytes_of

# The folder in an address below a session, /scans/SCAN/resources/RESOURCE/files/NAME. The name may have folders, too.
_FOLDER = re.compile(r"/scans/([^/]+)/resources/[^/]+/files(?=/|\Z)")


@dataclass(frozen=True, slots=True)
class ArchivedSession:
    """An archived session, from the project's listing or from a request by its label.

    home: the project that it is in. A session that is shared names another one than was asked for.
    """

    accession: str
    label: str
    subject: str
    study_uid: str
    xsi_type: str = ""
    home: str = ""

    @property
    def is_imaging(self) -> bool:
        """Whether it is an imaging session. A label may also belong to another kind of experiment."""
        return not self.xsi_type or self.xsi_type.endswith("SessionData")


class StoredPlace(NamedTuple):
    """Where a file can be downloaded, and its size in the listing.

    is_measured: the size is that on the disk, see StoredFiles.sizes_are_measured.
    """

    address: str
    size: int
    is_measured: bool


class _Alike(NamedTuple):
    """Files that may be an instance under other numbers: of its own series, and of others."""

    own: Sequence[StoredFile] = ()
    others: Sequence[StoredFile] = ()

    @property
    def all(self) -> Sequence[StoredFile]:
        return [*self.own, *self.others]


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The DICOM files of one session on the server, as far as they lie where XNAT puts what it receives.

    uri: the session's address
    sizes: name -> bytes; of a name that is there twice, the smaller size
    series: SeriesInstanceUID -> bytes of each of its files; the server may be asked when it is looked into
    folders: name -> address of the folder that it lies in, below uri
    scans: name -> id of the scan that it lies in
    secondary: names that lie in the resource `secondary`
    doubled: names that are there twice, at two addresses
    number: of files, whatever their names
    elsewhere: names of DICOM files in other resources -> the label of one. They may be made of the scan's own files.
    uids: reads what names do not tell; None where names and numbers are to be enough
    reads_all: it does so even where the numbers are right
    """

    uri: str
    sizes: Mapping[str, int]
    series: Mapping[str, Sequence[int]] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    scans: Mapping[str, str] = field(default_factory=dict)
    secondary: frozenset[str] = frozenset()
    doubled: frozenset[str] = frozenset()
    number: int = 0
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    uids: StoredUids | None = None
    reads_all: bool = False
    # Last part of a default name -> such names, once somebody has asked for one.
    _by_hash: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)
    # Series and instance -> what name_of has found beside the instance's own name.
    _renumbered_as: dict[tuple[str, str], str] = field(default_factory=dict, compare=False, repr=False)
    # The same -> what in_other_series has found.
    _moved_to: dict[tuple[str, str], StoredFile] = field(default_factory=dict, compare=False, repr=False)

    @property
    def sizes_are_measured(self) -> bool:
        """Whether the sizes are those on the disk, as in the prearchive. The archive's are what was once catalogued."""
        return self.uri.startswith("/data/prearchive/")

    def place_of(self, name: str) -> StoredPlace:
        """Of the file with this name."""
        return StoredPlace(f"{self.uri}{self.folders[name]}/{name}", self.sizes[name], self.sizes_are_measured)

    def place_of_file(self, file: StoredFile) -> StoredPlace:
        return StoredPlace(f"{self.uri}{file.folder}/{file.own}", file.size, self.sizes_are_measured)

    def name_of(self, instance: Instance) -> str:
        """The name under which an instance is stored, "" when none is known.

        That is its own name, or a default name with another number of the instance or its series: numbers change when a
        study is exported anew. Such a name ends with a hash of the SOPInstanceUID, and the header must agree with it.
        """
        if instance.name in self.sizes:
            return instance.name
        key = instance.series_uid, instance.sop_uid
        if key not in self._renumbered_as:
            self.find_renumbered([instance])
        return self._renumbered_as[key]

    def in_other_series(self, instance: Instance) -> StoredFile | None:
        """The file that is this instance in another series, where its own has none. The header must agree.

        A PACS may have moved the instance or divided its series, and kept the SOPInstanceUID. Or XNAT has stored it in
        the scan of another series, see find_strayed.
        """
        moved = self._moved_to.get((instance.series_uid, instance.sop_uid))
        return moved if moved and (moved.name == instance.name or not self.name_of(instance)) else None

    def find_strayed(self, instances: Iterable[Instance]) -> None:
        """Looks for instances that the archive has in the scan of another series, though under their own names.

        XNAT does that where a series joins an archived one of its SeriesNumber and the project's script changes
        headers. A script may also change the UIDs of series. So a header is read, which agrees with its own scan.
        """
        there: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
        for instance in instances:
            if scan := self.scans.get(instance.name, ""):
                there[scan][instance.series_uid].append(instance)
        if self.sizes_are_measured or not isinstance(self.series, _SeriesSizes):
            return
        for scan, by_series in there.items():
            is_alone = self.series.number_in(scan) <= sum(map(len, by_series.values()))
            if is_alone and len(by_series) == 1:
                continue
            for uid, members in by_series.items():
                if self._is_of_others(scan, uid, members[0], there):
                    here, own = self.series.named_in(scan), self.series.named(uid)
                    strayed = (i for i in members if i.name in here and i.name not in own)
                    self._moved_to.update(((uid, i.sop_uid), here[i.name]) for i in strayed)

    def _is_of_others(self, scan: str, series_uid: str, one: Instance, there: Mapping[str, Collection[str]]) -> bool:
        """Whether a scan belongs to another series than an instance in it."""
        owner = self.series_of(scan)
        file = self.series.named_in(scan).get(one.name) if isinstance(self.series, _SeriesSizes) else None
        if owner in ("", series_uid) or file is None:
            return False
        in_header = self.uids.series_of(self.uri, file) if self.uids else ""
        return in_header != owner if in_header else any(owner in uids for uids in there.values())

    def find_renumbered(self, instances: Iterable[Instance]) -> None:
        """Looks for instances under other numbers, all at once: the server is asked for the headers."""
        sought = {(i.series_uid, i.sop_uid): self._renumbered(i) for i in instances if i.name not in self.sizes}
        found = self._read([file for alike in sought.values() for file in alike.all])
        for key, alike in sought.items():
            own = (file.name for file in alike.own if found.get(file) == key[1])
            self._renumbered_as[key] = next(own, "")
            self._moved_to.update((key, file) for file in alike.others if found.get(file) == key[1])

    def is_doubled(self, instance: Instance) -> bool:
        """Whether an instance is stored at two addresses, under two numbers, or in two series."""
        if instance.name in self.doubled:
            return True
        copies = list(self._read(self._renumbered(instance).all).values()).count(instance.sop_uid)
        return copies + (instance.name in self.sizes) > 1

    def _read(self, files: Sequence[StoredFile]) -> Mapping[StoredFile, str]:
        return self.uids.of(self.uri, files, ask=True) if self.uids and files else {}

    def _renumbered(self, instance: Instance) -> _Alike:
        """Files with the default name that an instance would have with other numbers.

        The hash has 32 bits, so another instance may have the same. Of very many files with one hash, a few are looked
        into: such a listing is no honest one.
        """
        if not self.sizes:
            return _Alike()
        found = self._default_names.get(uid_hash(instance.sop_class, instance.sop_uid), ())
        found = [one for one in found if one.startswith(f"{instance.study_uid}-") and one != instance.name]
        if not found or not isinstance(self.series, _SeriesSizes):
            return _Alike()
        own = self.series.named(instance.series_uid)
        others = [file for name in found if name not in own for file in self.series.by_name.get(name, ())]
        return _Alike([own[name] for name in found if name in own][:_MOST_ALIKE], others[:_MOST_ALIKE])

    def told_by_headers(self, instances: Iterable[Instance]) -> Mapping[str, Sequence[StoredFile]]:
        """SOPInstanceUID -> the files whose headers have it, of instances that no name tells. The server is asked.

        Raises as StoredUids.of.
        """
        wanted: dict[str, list[Instance]] = defaultdict(list)
        for instance in instances:
            wanted[instance.series_uid].append(instance)
        files = (file for some in wanted.values() for file in self._without_default_names(some[0]))
        sought = {i.sop_uid for some in wanted.values() for i in some}
        told: dict[str, list[StoredFile]] = defaultdict(list)
        for file, uid in self._read(list(files)).items():
            if uid in sought:
                told[uid].append(file)
        return told

    def _without_default_names(self, instance: Instance) -> Sequence[StoredFile]:
        """The files of an instance's series whose names do not tell instances."""
        files = _files_of(self.series, instance.series_uid)
        if not self.has_default_names(instance):
            return files
        return _other_names(files, instance.study_uid)

    @property
    def _default_names(self) -> Mapping[str, Sequence[str]]:
        if not self._by_hash:
            self._by_hash[""] = []  # so that it is made once, even if no name is a default one
            for name in self.sizes:
                if found := _DEFAULT_NAME.search(name):
                    self._by_hash.setdefault(found[1], []).append(name)
        return self._by_hash

    def has_default_names(self, instance: Instance) -> bool:
        """Whether files of the instance's series have the default names of its study, which tell instances."""
        files = _files_of(self.series, instance.series_uid)
        return len(_other_names(files, instance.study_uid)) < len(files)

    def scans_of(self, series_uid: str) -> set[str]:
        """The ids of the scans of a series, by its UID: XNAT makes one for each number under which its files came.

        The server may be asked.
        """
        return {file.scan for file in _files_of(self.series, series_uid)}

    def series_of(self, scan: str) -> str:
        """The series UID of a scan as the server has it, "" when it has none. The server may be asked."""
        return self.series.uid_of(scan) if isinstance(self.series, _SeriesSizes) else ""

    def is_unnumbered(self, scan: str) -> bool:
        """Whether a scan has the id of a series without SeriesNumber, made of the UID that the server has for it."""
        return bool(scan) and scan == id_without_number(self.series_of(scan))

    @property
    def scan_ids(self) -> frozenset[str]:
        """The ids of all scans: those with files, and others where the server was asked for them."""
        known = self.series.known_ids if isinstance(self.series, _SeriesSizes) else frozenset[str]()
        return known.union(self.scans.values())

    def names_beside(self, instance: Instance, *, hashed: bool = False) -> Collection[str]:
        """The names of the files among which an instance would be stored: of its series, and of its SeriesNumber.

        The server may be asked.

        hashed: the site changes series UIDs, so that of those without SeriesNumber any may be its own
        """
        if not isinstance(self.series, _SeriesSizes):
            return self.sizes.keys()
        scans, number = self.scans_of(instance.series_uid) | {received_in(instance)}, number_of(instance)
        scans |= {one for one in self.scan_ids if was_built(one, number)}
        if hashed and not instance.series_number.strip():
            scans |= set(filter(self.is_unnumbered, self.scan_ids))
        return self.series.names_in(scans)

    def has_study(self, study_uid: str) -> bool:
        """Whether a stored name belongs to this study. XNAT names files on receipt, before a script changes UIDs."""
        return any(name.startswith(f"{study_uid}-") for name in self.sizes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Planned instances beside the stored files.

    verified, counted: SOPInstanceUIDs.
    absent: SOPInstanceUID -> why it is not on the server.
    other_names: SeriesInstanceUID -> what is wrong, for series whose files do not have XNAT's default names, and
        differ in number or are too small.
    told: SOPInstanceUIDs that a header on the server has, of series whose names do not tell them -> names of the files.
    """

    verified: frozenset[str]
    counted: frozenset[str]
    absent: Mapping[str, str]
    other_names: Mapping[str, str]
    told: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def seen(self) -> frozenset[str]:
        return self.verified | self.counted


# The last part of XNAT's default name: a number of 32 bits in base 36. It has a letter, or six or seven digits. Fewer
# digits are the number of an instance, in the names of a site's own template.
_DEFAULT_NAME = re.compile(r"-([1-9][0-9]{5,6}|(?=[0-9]*[a-z])[0-9a-z]{1,7})\.dcm\Z")
# The most files of which the headers are read: that may be one instance; of a series with other names, unless the plan
# has half as many.
_MOST_ALIKE = 16
_MOST_IN_SERIES = 100_000
NO_FILES = StoredFiles("", {})
_NOT_OURS = StoredFile("", 0, "", "", "")


class _SeriesSizes(Mapping[str, Sequence[int]]):
    """SeriesInstanceUID -> bytes of its files. The listing of files knows scans only: which series they are is asked
    for when somebody wants to know, as nobody does where the names tell instances."""

    def __init__(
        self, in_scan: Mapping[str, Sequence[StoredFile]], uid_of_scan: Callable[[], Mapping[str, str]]
    ) -> None:
        self._named: dict[str, Mapping[str, StoredFile]] = {}
        self._in_scan = in_scan
        self._uid_of_scan = uid_of_scan

    @cached_property
    def _uids(self) -> Mapping[str, str]:
        return self._uid_of_scan() if self._in_scan else {}

    @cached_property
    def _files(self) -> Mapping[str, Sequence[StoredFile]]:
        found: dict[str, list[StoredFile]] = defaultdict(list)
        for scan, files in self._in_scan.items():
            found[self._uids.get(scan, "")] += files
        return dict(found)

    def files_of(self, uid: str) -> Sequence[StoredFile]:
        return self._files.get(uid, ())

    def uid_of(self, scan: str) -> str:
        return self._uids.get(scan, "")

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[StoredFile]]:
        found: dict[str, list[StoredFile]] = defaultdict(list)
        for files in self._in_scan.values():
            for file in files:
                found[file.name].append(file)
        return found

    def named(self, uid: str) -> Mapping[str, StoredFile]:
        """The files of a series by name."""
        if uid not in self._named:
            self._named[uid] = {one.name: one for one in self.files_of(uid)}
        return self._named[uid]

    def named_in(self, scan: str) -> Mapping[str, StoredFile]:
        """The files of a scan by name."""
        return {file.name: file for file in self._in_scan.get(scan, ())}

    def number_in(self, scan: str) -> int:
        return len(self._in_scan.get(scan, ()))

    def names_in(self, scans: Iterable[str]) -> Collection[str]:
        return {file.name for scan in scans for file in self._in_scan.get(scan, ())}

    @property
    def known_ids(self) -> frozenset[str]:
        """The ids of scans, without asking for them."""
        return frozenset(self._in_scan).union(self._uids if "_uids" in vars(self) else ())

    def __getitem__(self, uid: str) -> Sequence[int]:
        return [one.size for one in self._files[uid]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _files_of(series: Mapping[str, Sequence[int]], uid: str) -> Sequence[StoredFile]:
    return series.files_of(uid) if isinstance(series, _SeriesSizes) else ()


def _other_names(files: Sequence[StoredFile], study_uid: str) -> list[StoredFile]:
    """Those whose names are not default ones of the study, though a site's template may end with the same hash."""
    begin = f"{study_uid}-"
    return [one for one in files if not (one.name.startswith(begin) and _DEFAULT_NAME.search(one.name))]


def archived_sessions(rest: XnatClient, project: str) -> list[ArchivedSession]:
    """Every image session of the project, from one listing."""
    columns = "ID,label,project,subject_label,xsiType,xnat:imageSessionData/UID"
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
        home=intern(entry.get("project", "") or entry.get("session_project", "")),
    )


def archived_session(rest: XnatClient, project: str, label: str) -> ArchivedSession | None:
    """The session with this label, or None.

    Sessions of types that are not set up on the site are missing from listings, but are found this way.
    """
    item = rest.item(f"/data/projects/{project}/experiments/{label}")
    if item is None:
        return None
    owner = str(item.get("subject_ID", ""))
    # The subject of a session that is shared need not be shared as well.
    subject = rest.item(f"/data/projects/{project}/subjects/{owner}") or rest.item(f"/data/subjects/{owner}") or {}
    return ArchivedSession(
        accession=str(item["ID"]),
        label=_label_here(item, project),
        subject=documents.text_of(subject, "label"),
        study_uid=str(item.get("UID") or ""),
        xsi_type=str(item.get("xsiType", "")),
        home=documents.text_of(item, "project") or project,
    )


def _label_here(item: Mapping[str, Any], project: str) -> str:
    """A session's label in this project. Where it is shared to, it may have another than at home."""
    here = (label for place, label in item["shares"] if place.casefold() == project.casefold())
    return next(here, "") or documents.text_of(item, "label")


def check_home(rest: XnatClient, project: str, known: ArchivedSession) -> ArchivedSession:
    """Asks for a session's document, unless its row in the project's listing says that it is the project's own.

    A session that is shared into a project is in the listing under its home, and by its label there. It is returned
    with its label here. Raises IngestError when it is not in the project at all.
    """
    if known.home.casefold() == project.casefold():
        return known
    item = rest.item(f"/data/projects/{project}/experiments/{known.accession}")
    if item is None:
        raise SessionTrouble(
            "server-fault",
            f"the server lists session {printable(known.label)} for project {project}, but does not find it there; "
            "nothing of it counts. Look at the session in XNAT, then run the same again",
        )
    return replace(known, label=_label_here(item, project) or known.label)


def in_archive(
    rest: XnatClient, accession: str, uids: StoredUids | None = None, *, reads_all: bool = False
) -> StoredFiles:
    """What an archived session holds: one request for all files. uids, reads_all: see StoredFiles."""
    uri = f"/data/experiments/{accession}"

    def uid_of_scan() -> Mapping[str, str]:
        return dict(rest.rows(f"{uri}/scans", lambda row: (row["ID"], row.get("UID", "")), columns="ID,UID"))

    files = (found for found in rest.rows(f"{uri}/scans/ALL/files", _file) if found.name)
    return replace(_holding(uri, uid_of_scan, files), uids=uids, reads_all=reads_all)


def _file(row: Mapping[str, str]) -> StoredFile:
    """A file in the archive. Its name is "" when it is not DICOM, such as a snapshot.

    Early releases of XNAT gave the resource of what they received no label.
    """
    label = row.get("collection", "")
    by_label, kind = label.lower() in prearchive.DICOM_RESOURCES, row.get("file_format", "").upper()
    if kind != "DICOM" and not by_label:
        return _NOT_OURS
    counts, received = by_label and kind in ("DICOM", ""), by_label or not label
    above, _, last = unquote(row.get("URI", "")).rpartition("/")
    place = _FOLDER.search(above) if last else None
    folder, scan = (intern(above[place.start() :]), intern(place[1])) if place else ("", "")
    name, own = unquote(row["Name"]), last if place else ""
    own = name if own == name else own
    return StoredFile(name, bytes_of(row), scan, folder, intern(label), own, counts=counts, received=received)


def in_prearchive(
    rest: XnatClient, uri: str, uids: StoredUids | None = None, *, reads_all: bool = False
) -> StoredFiles:
    """The files of a prearchive session when it was last built. Its document has the scans' UIDs."""
    files_held = _holding(uri, lambda: prearchive.scan_uids(rest, uri), prearchive.files(rest, uri))
    return replace(files_held, uids=uids, reads_all=reads_all)


def _holding(uri: str, uid_of_scan: Callable[[], Mapping[str, str]], files: Iterable[StoredFile]) -> StoredFiles:
    sizes: dict[str, int] = {}
    folders: dict[str, str] = {}
    scans: dict[str, str] = {}
    secondary: set[str] = set()
    doubled: set[str] = set()
    elsewhere: dict[str, str] = {}
    # Two rows with one address are one file, whatever they call it. Its smaller size is believed.
    in_scan: dict[str, dict[tuple[str, str], StoredFile]] = defaultdict(dict)
    uncounted: set[tuple[str, str]] = set()
    for file in files:
        if not file.received:
            elsewhere.setdefault(file.name, file.label)
            continue
        address, beside = (file.folder, file.own), in_scan[file.scan]
        if file.name in sizes and address not in beside:
            doubled.add(file.name)
        if address not in beside or file.size < beside[address].size:
            beside[address] = file
        if not file.counts:
            uncounted.add(address)
        sizes[file.name] = min(file.size, sizes.get(file.name, file.size))
        folders[file.name] = file.folder
        scans[file.name] = file.scan
        if file.label == "secondary":
            secondary.add(file.name)
    counted = {
        scan: [file for address, file in there.items() if address not in uncounted] for scan, there in in_scan.items()
    }
    series = _SeriesSizes({scan: some for scan, some in counted.items() if some}, uid_of_scan)
    number = sum(map(len, in_scan.values()))
    twice = frozenset(doubled)
    return StoredFiles(uri, sizes, series, folders, scans, frozenset(secondary), twice, number, elsewhere)


def least_size(instance: Instance) -> int:
    """The smallest size that a complete copy of the instance can have on the server.

    Anonymisation and re-encoding change headers, and decompression enlarges pixels. XNAT does not shrink them, but an
    export before may have been compressed: no listing tells that from a cut. An object without pixels must have at
    least half of the sent size.
    """
    return instance.pixel_bytes or instance.length // 2


def compare_stored(instances: Iterable[Instance], files_held: StoredFiles) -> Comparison:
    """Compares each instance by name and plausible size, or a series with other names by number and sizes."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[instance.series_uid].append(instance)
    nowhere = "not on the server"
    if _tells_nothing(files_held, by_series):
        nowhere = f"not recognised: the {files_held.number} files on the server have other names and other series"
    for find in (files_held.find_renumbered, files_held.find_strayed):
        find(one for members in by_series.values() for one in members)
    verified: set[str] = set()
    counted: set[str] = set()
    absent: dict[str, str] = {}
    other_names: dict[str, str] = {}
    all_told: dict[str, frozenset[str]] = {}
    for series_uid, members in by_series.items():
        named = any(files_held.name_of(i) for i in members)
        on_server = () if named else files_held.series.get(series_uid, ())
        if on_server and not files_held.has_default_names(members[0]):
            told, sizes = _told(members, on_server, files_held)
            all_told |= {uid: frozenset(one.name for one in files) for uid, files in told.items()}
            size_of = {uid: min(one.size for one in files) for uid, files in told.items()}
            if why := _why_not_counted(members, size_of, sizes, len(on_server)):
                other_names[series_uid] = why
                text = f"its series is on the server under names that do not identify instances: {why}"
                absent |= {i.sop_uid: text for i in members if size_of.get(i.sop_uid, -1) < least_size(i)}
            counted.update(i.sop_uid for i in members if i.sop_uid not in absent)
            continue
        among = _told_among(members, files_held)
        all_told |= {uid: frozenset([file.name]) for uid, file in among.items()}
        for instance, why in _by_name(members, files_held, nowhere):
            if why and instance.sop_uid in among and among[instance.sop_uid].size >= least_size(instance):
                counted.add(instance.sop_uid)
            elif why:
                absent[instance.sop_uid] = why
            else:
                verified.add(instance.sop_uid)
    return Comparison(frozenset(verified), frozenset(counted), absent, other_names, all_told)


def _why_not_counted(members: Sequence[Instance], told: Mapping[str, int], sizes: Sequence[int], files: int) -> str:
    """Why the files of a series, whatever their names, are not these instances; "" when they can be.

    Where files have the same number by chance, only their SOPInstanceUIDs show that they are others.

    told: SOPInstanceUID -> bytes of the smallest file that is known to be it
    sizes: see _told
    files: number of those of the series on the server
    """
    number = f"{files} files of {len(members)}"
    left = [i for i in members if i.sop_uid not in told]
    if len(sizes) < len(left) and files == len(members):
        return f"{number}, {len(left) - len(sizes)} of other instances or damaged"
    if len(sizes) != len(left):
        return number
    short = sum(told[i.sop_uid] < least_size(i) for i in members if i.sop_uid in told)
    # Each file, from the smallest on, is given to the smallest instance that is left, if it can be that.
    least = sorted(map(least_size, left))
    fitting = 0
    for size in sorted(sizes):
        fitting += size >= least[fitting]
    short += len(left) - fitting
    return f"{number}, {short} too small" if short else ""


def _told(
    members: Sequence[Instance], on_server: Sequence[int], files_held: StoredFiles
) -> tuple[dict[str, list[StoredFile]], Sequence[int]]:
    """SOPInstanceUID -> files, of those that are known, and the sizes of the files that may be any of the others.

    The headers tell. What looks like a SOPInstanceUID in a name may be the UID of the series with a number behind it.
    """
    files = _files_of(files_held.series, members[0].series_uid)
    if files_held.uids is None or not files:
        return {}, on_server
    wanted = {i.sop_uid for i in members}
    ask = files_held.reads_all or len(on_server) != len(members)
    ask &= len(on_server) <= max(_MOST_IN_SERIES, 2 * len(members))
    read = files_held.uids.of(files_held.uri, files, ask=ask)
    told: dict[str, list[StoredFile]] = {}
    for file, uid in read.items():
        if uid in wanted:
            told.setdefault(uid, []).append(file)
    return told, () if len(told) == len(wanted) else [one.size for one in files if one not in read]


def _told_among(members: Sequence[Instance], files_held: StoredFiles) -> dict[str, StoredFile]:
    """SOPInstanceUID -> its file, of those that another client has named in a series with default names."""
    lacking = {i.sop_uid for i in members if not files_held.name_of(i)}
    if not lacking or files_held.uids is None:
        return {}
    files = _files_of(files_held.series, members[0].series_uid)
    others = _other_names(files, members[0].study_uid)
    if not others or len(others) > max(_MOST_IN_SERIES, 2 * len(members)):
        return {}
    headers = files_held.uids.of(files_held.uri, others, ask=True)
    return {uid: file for file, uid in headers.items() if uid in lacking}


def _tells_nothing(files_held: StoredFiles, by_series: Mapping[str, Sequence[Instance]]) -> bool:
    """Whether there are files, of which neither a name nor a series shows that they are of the planned studies.

    A site's script may have changed all UIDs, and a site may name files without them, or by the study's alone.
    """
    begin = tuple({f"{instance.study_uid}-" for members in by_series.values() for instance in members})
    tells = (name.startswith(begin) and _DEFAULT_NAME.search(name) for name in files_held.sizes)
    if not files_held.number or any(tells):
        return False
    return not any(files_held.series.get(uid) for uid in by_series)


def _by_name(members: Sequence[Instance], files_held: StoredFiles, nowhere: str) -> Iterable[tuple[Instance, str]]:
    """Why an instance does not count, "" when it does. nowhere: why, when no file has its name."""
    for instance in members:
        size = files_held.sizes.get(files_held.name_of(instance))
        if moved := files_held.in_other_series(instance):
            yield instance, f"not in its series on the server, but in scan {printable(moved.scan)}"
        elif size is None:
            yield instance, _only_elsewhere(files_held.elsewhere.get(instance.name, "")) or nowhere
        elif size < least_size(instance):
            least = least_size(instance)
            why = f"stored too short: {size} bytes on the server, at least {least} expected"
            yield instance, f"{why}; cut, or compressed"
        else:
            yield instance, ""


def _only_elsewhere(label: str) -> str:
    """Why an instance is missing although a file in a resource of this label has its name, "" without a label."""
    if not label:
        return ""
    return (
        f"not on the server: only resource {printable(label)} has a file of its name. XNAT puts what it receives into "
        "DICOM or secondary, and files elsewhere may be made of it"
    )
