"""A project's archived sessions, as its listing shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from xnat_ingest.core import Session
from xnat_ingest.xnat.archive import ArchivedSession


def with_label_of(session: Session, archived: Iterable[ArchivedSession]) -> ArchivedSession | None:
    """The archived session with a session's label. Of several that differ in case, the one that is most like it."""
    label = session.label.casefold()
    found = [known for known in archived if known.label.casefold() == label]
    subject = session.subject.casefold()
    return min(found, key=lambda k: (k.label != session.label, k.subject.casefold() != subject), default=None)


class KnownSessions:
    """A project's archived sessions. There may be a hundred thousand, and each session of a run looks for its own.

    listing: all of them, in the server's order
    good_until: by time.monotonic()
    """

    def __init__(self, listing: list[ArchivedSession], good_until: float) -> None:
        self.listing = listing
        self.good_until = good_until
        # Folded label or study UID -> where it is in the listing. Most occur once.
        self._first: dict[str, int] = {}
        self._others: dict[str, list[int]] = defaultdict(list)
        for place, known in enumerate(listing):
            for word in {known.label.casefold(), known.study_uid} - {""}:
                if self._first.setdefault(word, place) != place:
                    self._others[word].append(place)

    @cached_property
    def of_subject(self) -> dict[str, list[ArchivedSession]]:
        """Folded subject label -> its sessions."""
        found: dict[str, list[ArchivedSession]] = defaultdict(list)
        for known in self.listing:
            found[known.subject.casefold()].append(known)
        return dict(found)

    def matching(self, label: str, study_uid: str) -> list[ArchivedSession]:
        """Those with this label, folded, or this study, in the listing's order."""
        words = [word for word in (label, study_uid) if word in self._first]
        places = {place for word in words for place in (self._first[word], *self._others.get(word, ()))}
        found = (self.listing[place] for place in sorted(places))
        return [known for known in found if known.label.casefold() == label or known.study_uid == study_uid]
