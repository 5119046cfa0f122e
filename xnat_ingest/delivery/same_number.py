"""Series of one session that share their SeriesNumber, and must travel together.

The scan id that XNAT gives to each of them depends on which are sent together (`3-MR1`, `3-MR2`; alone it would be
`3`). XNAT refuses to merge a series that the archive has under another id. So one archived instance of each sibling
goes along, or the series go one after the other.

So do series whose numbers were given anew, where one comes under a number that another has in the archive.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from xnat_ingest.core import Instance
from xnat_ingest.xnat.archive import StoredFiles
from xnat_ingest.xnat.scan_ids import built_ids, id_without_number, number_of

_Series = tuple[str, str]  # the start of its scan ids, and its SeriesInstanceUID
# Up to this many series of one number are tried in all combinations.
_MOST_SIBLINGS = 8


@dataclass(frozen=True, slots=True)
class Stuck:
    """A series that XNAT would refuse in any company.

    instance: one of it
    scan: the id that the series has in the archive
    """

    instance: Instance
    scan: str


@dataclass(frozen=True, slots=True)
class SameNumber:
    """Which of the instances can be sent together now.

    now: the instances that go in this round
    companions: archived instances that go along
    later: whether others wait for the next round
    stuck: series that XNAT would refuse in any combination, one of each number
    """

    now: tuple[Instance, ...]
    companions: tuple[Instance, ...] = ()
    later: bool = False
    stuck: tuple[Stuck, ...] = ()


def split_by_merge(
    to_send: Sequence[Instance],
    planned: Collection[Instance],
    files_held: StoredFiles,
    usable: Collection[str],
    *,
    hashed: bool = False,
    recounts: bool = False,
) -> SameNumber:
    """Divides the instances into those of this round and those of a later one.

    to_send: what is not on the server yet
    planned: all instances of the session
    files_held: those of the archived session
    usable: SOPInstanceUIDs of archived instances that may go along
    hashed: the site changes series UIDs, so their order in the archive is not known
    recounts: a script of the project may change headers
    """
    waiting: set[_Series] = set()
    companions: list[Instance] = []
    stuck: list[Stuck] = []
    archived, places = _archived_ids(planned, files_held), _Places(planned, files_held)
    going: dict[_Series, str] = {}
    sent = _siblings(to_send)
    for number, siblings in _siblings(planned).items():
        if not re.fullmatch(r"[\w.-]+", number, re.ASCII):
            continue  # the id that XNAT makes of such a number differs between its releases
        wanted = siblings.keys() & sent.get(number, {}).keys()
        if not wanted:
            continue
        merge = _Merge(siblings, archived, files_held, usable, hashed=hashed)
        if choice := merge.choose(frozenset(wanted), places, going, recounts=recounts):
            group, representatives = choice
            going |= merge.built(group | representatives)
            waiting |= {(number, uid) for uid in wanted - group}
            companions += (merge.representatives[uid] for uid in representatives)
        elif going and merge.choose(frozenset(wanted), places, {}, recounts=recounts):
            waiting |= {(number, uid) for uid in wanted}
        else:
            uid = min(wanted & archived.keys() or wanted)
            stuck.append(Stuck(siblings[uid][0], archived.get(uid, "")))
    now = tuple(i for i in to_send if (number_of(i), i.series_uid) not in waiting)
    return SameNumber(now, tuple(companions), bool(waiting), tuple(stuck))


def kept_apart(
    to_send: Collection[Instance],
    held: Collection[str],
    planned: Collection[Instance],
    files_held: StoredFiles,
    *,
    hashed: bool = False,
) -> frozenset[str]:
    """SOPInstanceUIDs of those that must not join what an open prearchive session holds of other series.

    XNAT would take what it holds, but not the two together, or would mix them up.

    held: SOPInstanceUIDs that the open session holds
    planned, files_held, hashed: as for split_by_merge
    """
    archived, places = _archived_ids(planned, files_held), _Places(planned, files_held)
    apart: set[_Series] = set()
    there_already, to_come = _built(i for i in planned if i.sop_uid in held), _siblings(to_send)
    for number, siblings in _siblings(planned).items():
        there = frozenset(uid for uid, members in siblings.items() if any(i.sop_uid in held for i in members))
        sent = siblings.keys() & to_come.get(number, {}).keys()
        merge = _Merge(siblings, archived, files_held, (), hashed=hashed)
        is_apart = bool(there - sent) and merge.accepts(there) and not merge.accepts(there | sent)
        built = there_already | merge.built(there | sent)
        if sent and (is_apart or (places.are_mixed(built) and not places.are_mixed(there_already))):
            apart |= {(number, uid) for uid in sent}
    return frozenset(i.sop_uid for i in to_send if (number_of(i), i.series_uid) in apart)


def are_crossed(held: Collection[str], planned: Collection[Instance], files_held: StoredFiles) -> bool:
    """Whether XNAT would mix up series of an open prearchive session, see _Places and kept_apart."""
    return _Places(planned, files_held).are_mixed(_built(i for i in planned if i.sop_uid in held))


class _Places:
    """The scans in which the archive has the planned series: one for each number under which its files came."""

    def __init__(self, planned: Collection[Instance], files_held: StoredFiles) -> None:
        self._files_held = files_held
        self._named: dict[str, set[str]] = defaultdict(set)
        for instance in planned:
            if scan := files_held.scans.get(instance.name):
                self._named[instance.series_uid].add(scan)

    def are_mixed(self, built: Mapping[_Series, str]) -> bool:
        """Whether XNAT may mix up series that go together.

        Where one of them has the scan id of another in the archive, XNAT corrects all ids, one after the other
        (PrearcSessionArchiver, correctScanID and moveScan). A known series goes to the first scan with its UID, and its
        catalogue over what lies there. New ones have made room before.

        built: series -> scan id that the build gives
        """
        if not self._are_corrected(built, self._scans(built, asks=False)):
            return False
        scans = self._scans(built, asks=True)  # other numbers of a series may not be in the tree
        known = {series: scan for series, scan in built.items() if scans[series[1]]}
        return self._are_corrected(built, scans) and any(
            other[1] == series[1] or (there in scans[series[1]] and scans[series[1]] != {scan})
            for series, scan in known.items()
            for other, there in known.items()
            if other != series
        )

    def _are_corrected(self, built: Mapping[_Series, str], scans: Mapping[str, Collection[str]]) -> bool:
        return any(scan in self._files_held.scan_ids and scan not in scans[uid] for (_, uid), scan in built.items())

    def _scans(self, built: Mapping[_Series, str], *, asks: bool) -> dict[str, set[str]]:
        """Series UID -> its scans. asks: the server is asked, also where names tell some."""
        return {
            uid: named | self._files_held.scans_of(uid) if asks or not named else named
            for uid, named in ((uid, self._named.get(uid, set())) for _, uid in built)
        }


def _siblings(instances: Iterable[Instance]) -> dict[str, dict[str, list[Instance]]]:
    """Number -> series UID -> instances."""
    found: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for instance in instances:
        found[number_of(instance)][instance.series_uid].append(instance)
    return found


def _built(instances: Iterable[Instance]) -> dict[_Series, str]:
    """The scan ids that a build gives."""
    return {
        (number, uid): scan
        for number, siblings in _siblings(instances).items()
        for uid, scan in built_ids(i for members in siblings.values() for i in members).items()
    }


def _archived_ids(planned: Collection[Instance], files_held: StoredFiles) -> dict[str, str]:
    """Series UID -> scan id in the archive. Where no name tells it, the archive's own UIDs do."""
    ids = {i.series_uid: files_held.scans[i.name] for i in planned if i.name in files_held.scans}
    for uid in {i.series_uid for i in planned} - ids.keys():
        if uid and (found := files_held.scans_of(uid)):
            ids[uid] = min(found)
    return ids


class _Merge:
    """The series of one number and the archive.

    representatives: series UID -> an archived instance that may go along
    """

    def __init__(
        self,
        siblings: Mapping[str, Sequence[Instance]],
        archived: Mapping[str, str],
        files_held: StoredFiles,
        usable: Collection[str],
        *,
        hashed: bool,
    ) -> None:
        self._siblings = siblings
        self._taken = files_held.scan_ids
        self._hashed = hashed
        scans = files_held.scans
        own = {uid: scans[i.name] for uid, members in siblings.items() for i in members if i.name in scans}
        self._ids = {uid: own.get(uid, archived[uid]) for uid in siblings if uid in archived}
        there = {uid: [i for i in siblings[uid] if i.sop_uid in usable] for uid in self._ids}
        # Best is one that comes under the name that it has: it surely replaces its file.
        best = {uid: min(members, key=lambda i: i.name not in scans) for uid, members in there.items() if members}
        self.representatives = best
        self._unnumbered = _ids_of_changed_uids(siblings, self._ids, files_held) if hashed else {}

    def built(self, group: Iterable[str]) -> dict[_Series, str]:
        """The scan ids that a build gives to these series."""
        return _built(i for uid in group for i in self._siblings[uid])

    def choose(
        self, wanted: frozenset[str], places: _Places, going: Mapping[_Series, str], *, recounts: bool
    ) -> tuple[frozenset[str], frozenset[str]] | None:
        """The series of this round, and the archived ones that go along. All wanted series, if they can go together.

        going: series of other numbers that go in this round, and the scan ids that a build gives them
        recounts: after XNAT has corrected scan ids, the project's script may have them counted anew. So a choice that
            leaves nothing to correct comes first.
        """
        for accepts in (self._fits, self.accepts) if recounts else (self.accepts,):
            for group in (wanted, *(frozenset({uid}) for uid in sorted(wanted))):
                for representatives in self._subsets(self.representatives.keys() - group):
                    together = group | representatives
                    if accepts(together) and not places.are_mixed({**going, **self.built(together)}):
                        return group, representatives
        return None

    def _fits(self, group: frozenset[str]) -> bool:
        """Whether the archive takes these series together, and a build gives each the scan id that it is to have."""
        built = built_ids(i for uid in group for i in self._siblings[uid])
        is_right = all(
            self._ids[uid] == scan if uid in self._ids else scan not in self._taken for uid, scan in built.items()
        )
        return is_right and self.accepts(group)

    def _subsets(self, uids: Collection[str]) -> Iterator[frozenset[str]]:
        if len(uids) > _MOST_SIBLINGS:
            yield from (frozenset(), frozenset(uids))
            return
        for size in range(len(uids) + 1):
            yield from map(frozenset, combinations(sorted(uids), size))

    def accepts(self, group: frozenset[str]) -> bool:
        """Whether the archive takes these series together, each with its own files.

        It also does where the id of a series is in use already: then it compares series UIDs.
        """
        built = built_ids(i for uid in group for i in self._siblings[uid])
        if len(group) == 1:  # the changed UID takes the place of ours
            built |= {uid: self._unnumbered[uid] for uid in group & self._unnumbered.keys()}
        known = {uid: self._ids[uid] for uid in group if uid in self._ids}
        if self._hashed and len(group) > 1 and known:
            return known.keys() == group and set(known.values()) == set(built.values())
        return all(built[uid] in self._taken for uid in known) and not self._mixes(built, known)

    def _mixes(self, built: Mapping[str, str], known: Mapping[str, str]) -> bool:
        """Whether XNAT might mix up two of these series when it corrects their scan ids, see _Places.

        New series go first: one whose id is in use takes the next free id, which another new one may have. Then each
        known series goes to its id in the archive, where another may lie.

        built: series UID -> scan id that the build gives
        known: series UID -> scan id in the archive
        """
        new = {built[uid] for uid in built.keys() - known.keys()}
        if new & self._taken and new - self._taken:
            return True
        return any(built[other] == scan for uid, scan in known.items() for other in known.keys() - {uid})


def _ids_of_changed_uids(
    siblings: Mapping[str, Sequence[Instance]], archived: Mapping[str, str], files_held: StoredFiles
) -> dict[str, str]:
    """Series UID -> scan id that XNAT makes of the UID that the site's script gives to a series without SeriesNumber.

    That UID is known from the archive, where the series has files.
    """
    unnumbered = (uid for uid in archived if not siblings[uid][0].series_number.strip())
    changed = {uid: files_held.series_of(archived[uid]) for uid in unnumbered}
    return {uid: id_without_number(now) for uid, now in changed.items() if now}
