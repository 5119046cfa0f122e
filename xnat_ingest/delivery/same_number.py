"""Series of one session that share their SeriesNumber: what must travel together.

XNAT gives each of them a scan id that depends on which of them are sent together (`3-MR1`, `3-MR2`; alone it would be
`3`). It refuses to merge a series that the archive has under another id. So one archived instance of each sibling goes
along, or the series go one after the other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from xnat_ingest.core.model import Instance
from xnat_ingest.xnat.scan_ids import built_ids, number_of

# So many siblings of one number are tried in all their combinations.
_MOST_SIBLINGS = 8


@dataclass(frozen=True, slots=True)
class SameNumber:
    """What of the instances can be sent together now.

    now: the instances that go in this round
    company: archived instances that go along
    later: whether others wait for the next round
    stuck: numbers of series that XNAT would refuse in any company
    """

    now: tuple[Instance, ...]
    company: tuple[Instance, ...] = ()
    later: bool = False
    stuck: tuple[str, ...] = ()


def together(
    lacks: Sequence[Instance],
    planned: Collection[Instance],
    scans: Mapping[str, str],
    usable: Collection[str],
    *,
    hashed: bool = False,
) -> SameNumber:
    """scans: stored name -> scan id in the archive; usable: SOPInstanceUIDs of archived instances that may go along;
    hashed: the archive's series UIDs are the site's, so that their order is not known here."""
    waiting: set[str] = set()
    company: list[Instance] = []
    stuck: list[str] = []
    for number, siblings in _siblings(planned).items():
        if not re.fullmatch(r"[\w.-]+", number, re.ASCII):
            continue  # releases of XNAT make different ids of such a number
        wanted = siblings.keys() & {i.series_uid for i in lacks}
        if not wanted:
            continue
        merge = _Merge(siblings, scans, usable, hashed=hashed)
        if choice := merge.choose(frozenset(wanted)):
            group, friends = choice
            waiting |= wanted - group
            company += (merge.friends[uid] for uid in friends)
        else:
            stuck.append(number)
    now = tuple(i for i in lacks if i.series_uid not in waiting)
    return SameNumber(now, tuple(company), bool(waiting), tuple(stuck))


def _siblings(instances: Collection[Instance]) -> dict[str, dict[str, list[Instance]]]:
    """Number -> series UID -> instances."""
    found: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for instance in instances:
        found[number_of(instance)][instance.series_uid].append(instance)
    return found


class _Merge:
    """One number's series against the archive. friends: series UID -> an archived instance that may go along."""

    def __init__(
        self,
        siblings: Mapping[str, Sequence[Instance]],
        scans: Mapping[str, str],
        usable: Collection[str],
        *,
        hashed: bool,
    ) -> None:
        self._siblings = siblings
        self._taken = frozenset(scans.values())
        self._hashed = hashed
        self._ids = {uid: scans[i.name] for uid, members in siblings.items() for i in members if i.name in scans}
        archived = {uid: [i for i in siblings[uid] if i.sop_uid in usable and i.name in scans] for uid in self._ids}
        self.friends = {uid: members[0] for uid, members in archived.items() if members}

    def choose(self, wanted: frozenset[str]) -> tuple[frozenset[str], frozenset[str]] | None:
        """The series of this round and those that go along; all that are wanted when they can go together."""
        for group in (wanted, *(frozenset({uid}) for uid in sorted(wanted))):
            for friends in self._subsets(self.friends.keys() - group):
                if self._is_merged(group | friends):
                    return group, friends
        return None

    def _subsets(self, uids: Collection[str]) -> Iterator[frozenset[str]]:
        if len(uids) > _MOST_SIBLINGS:
            yield from (frozenset(), frozenset(uids))
            return
        for size in range(len(uids) + 1):
            yield from map(frozenset, combinations(sorted(uids), size))

    def _is_merged(self, group: frozenset[str]) -> bool:
        """Whether the archive takes these series together. It does where the id that a series gets is in use, too: then
        it compares series UIDs."""
        built = built_ids(i for uid in group for i in self._siblings[uid])
        known = {uid: self._ids[uid] for uid in group if uid in self._ids}
        if self._hashed and len(group) > 1 and known:
            return known.keys() == group and set(known.values()) == set(built.values())
        return all(built[uid] in self._taken for uid in known)
