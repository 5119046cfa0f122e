"""Which scans on the server the images of a NIfTI session are in, or go into."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import chain, count

from xnat_ingest.commands.nifti.model import NIFTI, NiftiFile, NiftiScan, NiftiSession
from xnat_ingest.commands.nifti.server_scans import Place, ServerScan, place
from xnat_ingest.core import SessionTrouble
from xnat_ingest.inputs.nifti_file import Name

Digest = Callable[[NiftiFile], str]
# An image, its voxels if they are a file of their own, and its sidecars: what has one name but for the suffix.
Unit = tuple[NiftiFile, ...]


def settle_ids(session: NiftiSession, server: Mapping[str, ServerScan], digest: Digest) -> NiftiSession:
    """The session with the ids that its scans have or are to have on the server. Raises SessionTrouble.

    Nothing is ever written into a scan that holds another series. If our id is a SeriesNumber, the two contradict each
    other, and a person has to look: the session or its numbering may be wrong. If it was only counted, the next free id
    will do. Images that lie in other scans already stay there, and a scan of ours becomes several: no image is stored
    twice.

    digest: MD5 of one of our files, "" when it cannot be read.
    """
    known: dict[str, str] = {}
    held_ids: set[str] = set()
    for scan in session.scans:
        if (found := _known_as(scan, server, held_ids)) is not None:
            known[scan.key] = found.id
            held_ids.add(found.id)
    held = _Held(server, digest)
    for scan in session.scans:
        if home := known.get(scan.key):
            held.claim(home, scan.files)
    elsewhere = {scan.key: held.elsewhere(scan, known.get(scan.key, "")) for scan in session.scans}
    rest = {scan.key: [file for file in scan.files if file not in elsewhere[scan.key]] for scan in session.scans}
    unknown = [scan for scan in session.scans if scan.key not in known and rest[scan.key]]
    if others := [(scan, server[scan.id]) for scan in unknown if scan.numbered and scan.id in server]:
        raise SessionTrouble("other-series", _other_series(session, others))
    taken = {*server, *(scan.id for scan in session.scans if scan.numbered)}
    free = (str(number) for number in count(1) if str(number) not in taken)
    own = {scan.key: scan.id if scan.numbered else next(free) for scan in unknown} | known
    scans = [part for scan in session.scans for part in _parts(scan, elsewhere[scan.key], own.get(scan.key, ""))]
    for scan in scans:
        if (there := server.get(scan.id)) and there.xsi_type != scan.xsi_type:
            text = f"scan {scan.id} of {session.label} is {there.xsi_type} on the server, and would be {scan.xsi_type}"
            raise SessionTrouble("other-type", f"{text}; give --modality if the tree is wrong")
    return replace(session, scans=tuple(scans))


def _parts(scan: NiftiScan, elsewhere: Mapping[NiftiFile, str], own: str) -> Iterator[NiftiScan]:
    """The scan as the server has it: one scan for each id. own: the id of what is not elsewhere."""
    files: dict[str, list[NiftiFile]] = defaultdict(list)
    for file in scan.files:
        files[elsewhere.get(file, own)].append(file)
    for number, some in files.items():
        key = scan.key if number == own or len(files) == 1 else f"{scan.key}{some[0].name}"
        yield scan.part(some, key).renumbered(number)


class _Held:
    """Which of our images lie in which scans of the server. Each file there is the copy of one of ours."""

    def __init__(self, server: Mapping[str, ServerScan], digest: Digest) -> None:
        self._server = server
        self._digest = cache(digest)
        self._claimed: set[tuple[str, Place]] = set()
        self._with: dict[Place, list[ServerScan]] = defaultdict(list)
        for one in server.values():
            for where in one.files:
                self._with[where].append(one)

    def claim(self, number: str, files: Iterable[NiftiFile]) -> None:
        self._claimed.update((number, place(file)) for file in files)

    def elsewhere(self, scan: NiftiScan, home: str) -> Mapping[NiftiFile, str]:
        """File -> id of the scan that it is in, or goes into with its image, where that is not the scan's own.

        A series whose sidecar gives the number stays together: it is elsewhere as a whole, or not at all.

        home: id of the server's scan that is this one, "" when there is none.
        """
        if home and scan.numbered:
            return {}
        at_home = self._server[home].files if home else {}
        units, tables = _units(scan)
        left = dict.fromkeys(unit for unit in units if not any(place(file) in at_home for file in unit))
        is_here = len(left) < len(units)
        found: dict[NiftiFile, str] = {}
        for number, held in sorted(self._holding(scan, home, left, tables).items(), key=lambda one: -len(one[1])):
            for unit in held:
                if unit in left:
                    found |= dict.fromkeys(unit, number)
                    del left[unit]
        if scan.numbered and left:
            return {}
        numbers = list(dict.fromkeys(found.values()))
        own = "" if is_here or left else numbers[0]
        for file in tables:
            if number := next((one for one in numbers if place(file) in self._server[one].files), own):
                found[file] = number
        for file, number in found.items():
            self.claim(number, [file])
        return found

    def _holding(self, scan: NiftiScan, home: str, units: Iterable[Unit], tables: Unit) -> Mapping[str, Sequence[Unit]]:
        """Id of a scan on the server -> which of these units are in it."""
        found: dict[str, list[Unit]] = defaultdict(list)
        for unit in units:
            first = next(filter(_is_image, unit))
            for one in self._with.get(place(first), ()):
                if one.id != home and _may_hold(scan, one) and self._holds(one, unit, tables):
                    found[one.id].append(unit)
        return found

    def _holds(self, one: ServerScan, unit: Unit, tables: Unit) -> bool:
        """Whether a scan has just these images, under our names, and no other sidecar or table of theirs."""
        for file in filter(_is_image, unit):
            where = place(file)
            is_listed = one.files.get(where) == file.size and one.digests.get(where)
            if not is_listed or (one.id, where) in self._claimed:
                return False
        there = [file for file in (*unit, *tables) if place(file) in one.files]
        return all(one.digests.get(place(file)) == self._digest(file) for file in there)


def _units(scan: NiftiScan) -> tuple[list[Unit], Unit]:
    """The scan's images with what has their name, and the tables that go with all of them."""
    named: dict[tuple[str, str], list[NiftiFile]] = defaultdict(list)
    for file in scan.files:
        folder, _, name = file.name.rpartition("/")
        named[folder, Name.of(name).stem].append(file)
    units = [tuple(files) for files in named.values() if any(map(_is_image, files))]
    return units, tuple(file for files in named.values() if not any(map(_is_image, files)) for file in files)


def _is_image(file: NiftiFile) -> bool:
    return Name.of(file.name.rpartition("/")[2]).kind in ("image", "pixels")


def _may_hold(scan: NiftiScan, one: ServerScan) -> bool:
    """Whether a scan on the server may have images of ours under another number. One with our SeriesNumber that is not
    known as ours is for a person to look at."""
    is_other = (scan.uid and one.uid and scan.uid != one.uid) or (scan.numbered and one.id == scan.id)
    return not is_other and one.xsi_type == scan.xsi_type


def _known_as(scan: NiftiScan, server: Mapping[str, ServerScan], taken: set[str]) -> ServerScan | None:
    """The server's scan that is this series: the one of our number or, where that was only counted, any."""
    first = server.get(scan.id)
    rest = () if scan.numbered else server.values()
    candidates = (one for one in chain([first], rest) if one and one.id not in taken)
    return next((one for one in candidates if _same(scan, one)), None)


def _other_series(session: NiftiSession, others: Sequence[tuple[NiftiScan, ServerScan]]) -> str:
    listed = ", ".join(f"scan {scan.id} ({other.description!r}, not {scan.description!r})" for scan, other in others)
    return (
        f"{listed} of {session.label} holds another series on the server, so nothing was written into it; give another "
        "--session-label, or leave out with --exclude what does not belong there"
    )


def _same(scan: NiftiScan, other: ServerScan) -> bool:
    """Whether a scan on the server is this series.

    Both UIDs decide if they are known. Else the descriptions must be alike, and the number must come from the sidecar:
    then the scan is the DICOM series from which the images were made, or what another run has left. If the number was
    only counted, the scan must have images under our names, or no images and only sidecars under our names: then a run
    that was broken off has begun it.
    """
    if scan.uid and other.uid:
        return scan.uid == other.uid
    if _words(scan.description) != _words(other.description):
        return False
    ours = {place(file) for file in scan.files}
    images = {where for where in ours if where[0] == NIFTI}
    has_images = any(resource == NIFTI for resource, _ in other.files)
    is_begun = not has_images and other.files.keys() <= ours
    return scan.numbered or is_begun or not images.isdisjoint(other.files)


@lru_cache(maxsize=1 << 14)
def _words(text: str) -> str:
    """What converters leave of a description. They replace all but letters and digits."""
    return re.sub(r"[\W_]+", "_", text).strip("_").casefold()
