"""Sorts the files of a NIfTI tree into sessions and scans: layouts, sidecars, files that are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xnat_ingest.commands.nifti.model import id_of
from xnat_ingest.commands.resources.files import why_not
from xnat_ingest.core import OUTSIDE, Instance, SetAside, SourceFile, printable
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.nifti_file import IDENTIFYING, Name, judge_image, judge_voxels, read_sidecar
from xnat_ingest.inputs.source import heard
from xnat_ingest.planning.rules import RuleSet

# A note, not a problem: only images and their sidecars are sent.
BESIDE = "excluded:not-nifti"
HIDDEN = "hidden"
# The folders of a BIDS session -> the modality of the images in it, "" where the data are not images.
DATATYPES = {
    "anat": "MR", "func": "MR", "dwi": "MR", "fmap": "MR", "perf": "MR", "mrs": "MR", "pet": "PT",
    "meg": "", "eeg": "", "ieeg": "", "beh": "", "micr": "", "motion": "", "nirs": "",
}  # fmt: skip
# Folders of a BIDS tree that belong to no subject, in lower case (BIDS 1.10, "Filesystem structure").
_OF_ALL = frozenset({"derivatives", "sourcedata", "rawdata", "code", "stimuli", "phenotype", "docs", "logs"})
# What a sidecar says of the series from which its image was made.
IDENTITY = ("SeriesInstanceUID", "SeriesNumber")
# All that is looked at in a sidecar, but for what rules name.
_LOOKED_AT = IDENTIFYING.union(IDENTITY, ("Modality", "SeriesDescription", "ProtocolName"))
# Characters of one value that are kept. DICOM allows 64 in most of them.
_LONGEST, _LONGEST_IN_RULE = 1024, 65536

_RENAME = "put it into a folder sub-LABEL, or leave it out with --exclude"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a session.

    above: the folders that name its subject and session
    inner: its path below them
    """

    file: SourceFile
    above: tuple[str, ...]
    inner: tuple[str, ...]
    bids: bool

    @property
    def name(self) -> Name:
        return Name.of(self.inner[-1])

    @property
    def stem(self) -> str:
        """The path below the session without suffixes. An image and its sidecars share it."""
        return "/".join((*self.inner[:-1], self.name.stem))

    @property
    def scan(self) -> str:
        """The key of its scan: in BIDS the stem, else the folder below the session's, if there is one."""
        return self.stem if self.bids or len(self.inner) == 1 else f"{self.inner[0]}/"

    @property
    def stored(self) -> str:
        """The file's name in a resource of the scan."""
        return self.inner[-1] if self.bids else "/".join(self.inner[1:] or self.inner)


@dataclass(frozen=True, slots=True)
class Series:
    """The files of one scan.

    said: what the sidecars of its images say, as far as anybody asks, one mapping for each image
    mixed: the names of several series to which its images belong, when it is not clear which belongs to which
    """

    key: str
    images: tuple[Found, ...]
    companions: tuple[Found, ...]
    said: tuple[Mapping[str, str], ...]
    mixed: str = ""


@dataclass
class NiftiTreeContents:
    """A tree as it was read.

    sessions: the folders of subject and session -> scans, in the order of their names
    bad_sidecars: those that are not valid JSON
    bids: whether it is a BIDS tree
    """

    bids: bool = False
    seen: int = 0
    aside: list[SetAside] = field(default_factory=list)
    sessions: dict[tuple[str, ...], list[Series]] = field(default_factory=dict)
    bad_sidecars: list[str] = field(default_factory=list)


def read_tree(source: Source, rules: RuleSet, check_stop: Callable[[], None], *, fixed: bool) -> NiftiTreeContents:
    """Lists the tree, and reads every image's header and every sidecar.

    fixed: ROOT is one session
    check_stop: raises to end it
    """
    items = list(source.files())
    tree = NiftiTreeContents(_is_bids([item.path for item in items], fixed=fixed), len(items))
    sessions: dict[tuple[str, ...], _Session] = {}
    for item in items:
        check_stop()
        if isinstance(item, SetAside):
            tree.aside.append(_left_out(item))
        elif isinstance(found := _place(item, fixed=fixed, bids=tree.bids), SetAside):
            tree.aside.append(found)
        else:
            if found.above not in sessions:
                sessions[found.above] = _Session(source, rules, tree, check_stop)
            sessions[found.above].add(found)
    for above, session in sessions.items():
        check_stop()
        if series := session.scans():
            tree.sessions[above] = series
    return tree


def _left_out(item: SetAside) -> SetAside:
    """What the source left out, as it is called here. A link out of ROOT may stand for an image, or for a folder of
    them."""
    name = item.path.rpartition("/")[2]
    if item.reason == "link" and item.detail == OUTSIDE and (Name.of(name).kind == "image" or "." not in name):
        return replace(item, reason="unreadable")
    return replace(item, reason=BESIDE) if item.reason == "not-dicom" else item


def _is_bids(paths: Sequence[str], *, fixed: bool) -> bool:
    tops = {path.partition("/")[0] for path in paths}
    if fixed:
        return not tops.isdisjoint(DATATYPES)
    return "dataset_description.json" in tops or any(top.startswith("sub-") for top in tops)


def _place(file: SourceFile, *, fixed: bool, bids: bool) -> Found | SetAside:
    parts = tuple(file.path.split("/"))
    if any(part.startswith(".") for part in parts[:-1]) or _is_hidden(parts[-1]):  # DataLad leaves a folder .git
        return SetAside(file.path, BESIDE, HIDDEN)
    depth = 0 if fixed else 2
    if bids and not fixed:
        if not parts[0].startswith("sub-"):
            is_kept_beside = parts[0].lower() in _OF_ALL or parts[0].startswith("tpl-")
            why = "belongs to no subject of the BIDS tree"
            if Name.of(parts[-1]).kind == "image" and not is_kept_beside:
                return SetAside(file.path, "outside-layout", f"{why}: {_RENAME}")
            return SetAside(file.path, BESIDE, why)
        depth = 2 if len(parts) > 2 and parts[1].startswith("ses-") else 1
    if len(parts) <= depth:
        if Name.of(parts[-1]).kind == "image":
            return SetAside(file.path, "outside-layout", "is above the session folders of subject/session")
        return SetAside(file.path, BESIDE)
    return Found(file, parts[:depth], parts[depth:], bids)


def _elsewhere(found: Found) -> str:
    """The subject or session of a BIDS name when it lies in the folder of another one, else ""."""
    pairs = entities(found.stem)[0] if found.bids else ()
    for folder in found.above:
        key = folder.partition("-")[0]
        said = sorted(pair for pair in pairs if pair.partition("-")[0] == key)
        if said and folder not in said:
            return said[0]
    return ""


def _is_hidden(name: str) -> bool:
    """macOS leaves `._NAME` beside each file. An image may begin with a dot like any other."""
    return name.startswith("._") or (name.startswith(".") and Name.of(name).kind != "image")


class _Session:
    """Sorts the files of one session into scans."""

    def __init__(self, source: Source, rules: RuleSet, tree: NiftiTreeContents, check_stop: Callable[[], None]) -> None:
        self._source = source
        self._rules = rules
        self._tree = tree
        self._check_stop = check_stop
        self._wanted = dict.fromkeys(_LOOKED_AT, _LONGEST) | dict.fromkeys(rules.keywords, _LONGEST_IN_RULE)
        self._images: dict[str, list[Found]] = defaultdict(list)
        self._beside: list[Found] = []
        self._said: dict[str, Mapping[str, str]] = {}
        self._unread: dict[str, str] = {}  # stem -> path of a sidecar that cannot be read
        self._split: set[str] = set()  # folders that hold several series
        self._series_of: dict[str, str] = {}  # by stem: the series of an image in one of them
        self._gone: dict[str, SetAside] = {}  # by stem: the sidecars of an image that is not sent are not sent either
        self._sent: set[str] = set()  # stems of the images that are sent
        self._named: dict[str, list[dict[str, str]]] = {}  # by scan: what the sidecars of its images say of its series

    def add(self, found: Found) -> None:
        name = found.name
        self._rules.depth = len(found.above)  # in a BIDS tree, not every subject has session folders
        reason = self._rules.skip(found.file.path)
        if reason:
            self._leave(found, SetAside(found.file.path, reason))
        elif name.kind == "other" or (name.kind == "table" and not found.bids):
            self._leave(found, SetAside(found.file.path, BESIDE))
        elif found.file.size == 0:
            self._leave(found, SetAside(found.file.path, "empty", "a placeholder without content"))
        elif why := why_not(found.stored):
            self._leave(found, SetAside(found.file.path, "illegal-name", why))
        elif name.kind == "image" and (other := _elsewhere(found)):
            why = f"its name says {printable(other)}, its folder does not"
            self._leave(found, SetAside(found.file.path, "outside-layout", why))
        elif name.kind == "image":
            self._images[found.scan].append(found)
        else:
            self._beside.append(found)

    def _leave(self, found: Found, aside: SetAside) -> None:
        self._tree.aside.append(aside)
        if found.name.kind == "image":
            self._gone[found.stem] = aside

    def scans(self) -> list[Series]:
        self._beside = [found for found in self._beside if found.name.suffix != ".json" or self._reads(found)]
        voxels = {found.stem: found for found in self._beside if found.name.kind == "pixels"}
        whole = {key: images for key, all_ in self._images.items() if (images := list(self._whole(all_, voxels)))}
        apart = {key: images for one in whole.items() for key, images in self._apart(*one)}
        kept = {key: images for key, images_ in apart.items() if (images := list(self._judged(images_)))}
        self._sent = {found.stem for images in kept.values() for found in images}
        near = _Neighbours(kept, {stem: aside for stem, aside in self._gone.items() if stem not in self._sent})
        companions: dict[str, list[Found]] = defaultdict(list)
        for found in heard(self._beside, self._check_stop):
            if (key := self._belongs_to(found, near)) is not None:
                companions[key].append(found)
        return [self._series(key, images, companions[key]) for key, images in sorted(kept.items())]

    def _series(self, key: str, images: list[Found], companions: list[Found]) -> Series:
        said = tuple(self._said.get(found.stem, {}) for found in images)
        return Series(key, tuple(images), tuple(companions), said, ", ".join(several(said)))

    def _apart(self, key: str, images: list[Found]) -> Iterator[tuple[str, list[Found]]]:
        """The series of one folder, each under the name of its first image, where the sidecars distinguish them."""
        said = [self._said.get(found.stem, {}) for found in images]
        told = [word for word in IDENTITY if all(one.get(word) for one in said)]
        groups: dict[tuple[str, ...], list[Found]] = defaultdict(list)
        for found, one in zip(images, said, strict=True):
            groups[tuple(one[word] for word in told)].append(found)
        doubtful = any(several([self._said.get(i.stem, {}) for i in group]) for group in groups.values())
        if len(groups) == 1 or doubtful:
            yield key, images
            return
        self._split.add(key)
        for group in groups.values():
            yield group[0].stem, group
            self._series_of |= {found.stem: group[0].stem for found in group}

    def _reads(self, found: Found) -> bool:
        """Reads a sidecar. Without one that is there, nobody knows to which series its image belongs."""
        self._check_stop()
        try:
            with self._source.open(found.file.path) as stream:
                said = read_sidecar(stream, found.file.size, found.name, self._wanted)
        except OSError as error:
            self._unread[found.stem] = found.file.path
            self._tree.aside.append(SetAside(found.file.path, "unreadable", error.strerror or "cannot be read"))
            return False
        if said is None:
            self._tree.bad_sidecars.append(found.file.path)
        else:
            self._said[found.stem] = said
        return True

    def _whole(self, images: list[Found], voxels: Mapping[str, Found]) -> Iterator[Found]:
        for found in images:
            path, name = found.file.path, found.name
            if sidecar := self._unread.get(found.stem):
                why = f"its sidecar {printable(sidecar.rpartition('/')[2])} cannot be read"
                self._leave(found, SetAside(path, "unreadable", why))
                continue
            try:
                with self._source.open(path) as stream:
                    aside = judge_image(stream, path, found.file.size, name, self._check_stop)
            except OSError as error:
                aside = SetAside(path, "unreadable", error.strerror or "cannot be read")
            if not aside and name.suffix == ".hdr":
                aside = self._judge_pair(found, voxels.get(found.stem))
            if aside:
                self._leave(found, aside)
            else:
                yield found

    def _judge_pair(self, header: Found, voxels: Found | None) -> SetAside | None:
        """Why a header and the file with its voxels are not sent."""
        path = header.file.path
        if not voxels:
            return SetAside(path, "truncated", "a header without its voxels: there is no .img beside it")
        try:
            with self._source.open(path) as one, self._source.open(voxels.file.path) as other:
                wrong = judge_voxels(one, other, voxels.file.size, self._check_stop)
        except OSError as error:
            return SetAside(path, "unreadable", f"{printable(voxels.inner[-1])}: {error.strerror or 'cannot be read'}")
        return SetAside(path, "truncated", f"{printable(voxels.inner[-1])} {wrong}") if wrong else None

    def _judged(self, images: list[Found]) -> Iterator[Found]:
        """The images that pass the rules on content, judged by their sidecars."""
        for found in images:
            self._rules.depth = len(found.above)
            if reason := self._rules.judge(instance_of(found, self._said.get(found.stem, {})), len(images)):
                self._leave(found, SetAside(found.file.path, reason))
            else:
                yield found

    def _belongs_to(self, found: Found, near: _Neighbours) -> str | None:
        """The scan that a file goes with, or None when it was set aside because it has none."""
        path = found.file.path
        gone = self._gone.get(found.stem)
        if gone and (found.name.kind == "pixels" or found.stem not in self._sent):
            self._tree.aside.append(SetAside(path, gone.reason, f"goes with {printable(gone.path)}"))
            return None
        if found.name.is_bare_table and (images := near.of(found)):
            return self._owner_of_table(found, images)
        key = self._series_of.get(found.stem, "") if found.scan in self._split else found.scan
        if key in near.scans and not self._is_of_another(found, key, near.scans[key]):
            return key
        if found.bids and found.name.kind != "pixels" and (best := near.named_like(found)) is not None:
            return best
        if found.bids and (len(found.inner) == 1 or found.name.kind == "table"):
            self._tree.aside.append(SetAside(path, BESIDE, "describes no single image"))
        else:
            self._tree.aside.append(SetAside(path, "no-image", "no image that is sent has this name or is beside it"))
        return None

    def _is_of_another(self, found: Found, key: str, images: Sequence[Found]) -> bool:
        """Whether a sidecar without its image names another series than the images beside it. key: their scan's."""
        if found.stem in self._sent or found.stem not in self._said:
            return False
        if key not in self._named:
            self._named[key] = _distinct([self._said.get(image.stem, {}) for image in images])
        return bool(several([self._said[found.stem], *self._named[key]]))

    def _owner_of_table(self, table: Found, near: _Near) -> str | None:
        """The scan of a table without an image's name, or None when it was set aside.

        It may belong to an image that is not sent.
        """
        path, gone = table.file.path, near.gone
        if len(near.scans) == 1 and not gone:
            return next(iter(near.scans))
        if near.scans:
            why = "lies beside images of several series, or beside one that is not sent; name it like its image"
            self._tree.aside.append(SetAside(path, "no-image", why))
        elif gone:
            self._tree.aside.append(SetAside(path, gone.reason, f"goes with {printable(gone.path)}"))
        return None


@dataclass(slots=True)
class _Near:
    """The images of a folder.

    scans: the keys of those that are sent, in order
    gone: why one of the others is not sent: the first, but rather a problem than a note
    """

    scans: dict[str, None] = field(default_factory=dict)
    gone: SetAside | None = None

    def leave(self, aside: SetAside) -> None:
        if self.gone is None or (aside.is_problem and not self.gone.is_problem):
            self.gone = aside


class _Neighbours:
    """Which images lie near a file of a session, found without going through all of them.

    scans: key -> images that are sent
    gone: stem -> why it is not
    """

    def __init__(self, scans: Mapping[str, list[Found]], gone: Mapping[str, SetAside]) -> None:
        self.scans = scans
        self._beside: dict[str, _Near] = defaultdict(_Near)  # by the folder that they are in
        self._below: dict[str, _Near] = defaultdict(_Near)  # by the session's folder that they are in, however deep
        for key, images in scans.items():
            for image in images:
                for near in self._places(image.stem):
                    near.scans[key] = None
        for stem, aside in gone.items():
            for near in self._places(stem):
                near.leave(aside)
        self._keys: dict[tuple[str, ...], list[str]] = defaultdict(list)  # by folder, sorted
        self._with: dict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)  # by folder and part of the name
        self._pairs: dict[str, frozenset[str]] = {}
        for key in sorted(key for key, images in scans.items() if images[0].bids):
            folder, self._pairs[key] = scans[key][0].inner[:-1], entities(key)[0]
            self._keys[folder].append(key)
            for pair in self._pairs[key]:
                self._with[folder, pair].append(key)
        self._found: dict[tuple[tuple[str, ...], frozenset[str]], str | None] = {}

    def _places(self, stem: str) -> Iterator[_Near]:
        folder = stem.rpartition("/")[0]
        yield self._beside[folder]
        if folder:
            yield self._below[folder.partition("/")[0]]

    def of(self, table: Found) -> _Near | None:
        """The images beside a table. If its own folder has none, those of the whole scan's folder count."""
        *above, _ = table.inner
        below = self._below.get(above[0]) if above and not table.bids else None
        return self._beside.get("/".join(above)) or below

    def named_like(self, found: Found) -> str | None:
        """The first scan of the same folder whose name has all parts of the file's name.

        Events of a run, and recordings made with it, belong to each echo and part of the run. They are stored with the
        first.
        """
        folder, own = found.inner[:-1], entities(found.stem)[0]
        if folder and (folder, own) not in self._found:
            likely = min((self._with.get((folder, pair), []) for pair in own), key=len, default=self._keys[folder])
            self._found[folder, own] = next((key for key in likely if own <= self._pairs[key]), None)
        return self._found.get((folder, own))


def _distinct(said: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """What sidecars say of their series, each value once; of each word two are enough to see a difference."""
    values = {word: list(dict.fromkeys(filter(None, (one.get(word) for one in said))))[:2] for word in IDENTITY}
    return [{word: value} for word, some in values.items() for value in some]


def several(said: Iterable[Mapping[str, str]]) -> list[str]:
    """The words of a message when sidecars name more than one series, else empty."""
    values = ((word, {one[word] for one in said if one.get(word)}) for word in IDENTITY)
    return [f"{word} {', '.join(sorted(map(printable, all_)))}" for word, all_ in values if len(all_) > 1]


def entities(stem: str) -> tuple[frozenset[str], str]:
    """The `key-value` pairs of a BIDS name, and its suffix."""
    *pairs, suffix = stem.rpartition("/")[2].split("_")
    return frozenset(pairs), suffix


def instance_of(found: Found, said: Mapping[str, str]) -> Instance:
    """An image as rules and reports know it. One file is one instance, identified by its path."""
    return Instance(
        path=found.file.path,
        size=found.file.size,
        mtime_ns=found.file.mtime_ns,
        sop_class="",
        sop_uid=id_of(found.file.path),
        study_uid="",
        series_uid=id_of(found.scan),
        series_number=said.get("SeriesNumber", ""),
        instance_number="",
        modality=said.get("Modality", ""),
        series_description=said.get("SeriesDescription", ""),
        transfer_syntax="",
        pixel_bytes=0,
        tags=said,
    )
