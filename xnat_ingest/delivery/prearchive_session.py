"""The prearchive row of one session: joined, built, listed, and whether it is this program's to send into."""

from __future__ import annotations

from collections import Counter
from itertools import count

from xnat_ingest.core.errors import ServerSaid, SessionTrouble, Unreachable
from xnat_ingest.core.model import Instance, Session
from xnat_ingest.delivery import direct_archive
from xnat_ingest.delivery.commit import LiveRow
from xnat_ingest.delivery.context import Site
from xnat_ingest.delivery.decision import Decision
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.xnat import prearchive
from xnat_ingest.xnat.archive import Holding, compare, in_row
from xnat_ingest.xnat.retry_policy import is_passing

# A row that is found receiving is watched this long after it was built, in seconds: it may be another run's.
WATCH = 5.0
LOOKS = 3  # parts that may go to a DICOM receiver before a row of them must be there
NO_ROW = (
    "the DICOM receiver answered success, and the project has no row of this session: it filters, or its routing does "
    "not read what --route says, or it sends elsewhere (to another project, or to the unassigned rows that an "
    "administrator sees)"
)


def _stored_size(instance: Instance) -> int:
    """Bytes of an instance as XNAT writes it, but for what is the same in all: its data set, and in meta information
    of its own three UIDs."""
    uids = (instance.sop_class, instance.sop_uid, instance.sent_syntax)
    return instance.length - instance.head_size + sum(len(uid) + len(uid) % 2 for uid in uids)


class OurRow:
    """overwrite: closing is to replace what the archive has under the same names; goes_direct: a DICOM receiver
    archives by itself, past the prearchive; may_edit: whether the user may build, list and close rows."""

    def __init__(self, site: Site, session: Session, sending: Sending) -> None:
        self.site = site
        self.session = session
        self.sending = sending
        self.overwrite = False
        self.goes_direct = False
        self._waited_for: set[str] = set()
        self._looks = 0
        self.may_edit = site.projects[session.project].may_edit

    def join(self, decision: Decision, archive: Holding) -> frozenset[str]:
        """What our row, if there is one, already holds whole."""
        row = decision.row if self.may_edit else None
        if row is None:
            self.sending.uri = ""
            return frozenset()
        if not row.source and row.status.startswith("RECEIVING") and row.uri not in self._waited_for:
            # A scanner, or another DICOM sender, may have made it, and may pause between two series.
            self._waited_for.add(row.uri)
            raise LiveRow(row.uri, "it came from a DICOM sender, which may not have ended")
        self.sending.uri = row.uri
        holding = self.built(row.uri)
        self.overwrite |= not archive.sizes.keys().isdisjoint(holding.sizes)
        if row.status.startswith("RECEIVING"):
            self._watch(row, holding)
        if self.site.existing == "overwrite":
            return frozenset()  # what lies in it may be the old copies
        return self.whole(decision.lacks, holding, in_peace=row.status == "READY")

    def _watch(self, row: prearchive.Row, holding: Holding) -> None:
        """A row that was receiving may be another run's: then it leaves READY, or grows."""
        self.site.patience.pause(WATCH)
        now = prearchive.row(self.site.rest, row.uri)
        if now is None or now.status != "READY" or self.built(row.uri).sizes != holding.sizes:
            raise LiveRow(row.uri)

    def built(self, uri: str) -> Holding:
        """What a row holds now. Building twice is building once, so it may be repeated."""
        for attempt in count(1):
            try:
                prearchive.build(self.site.rest, uri)
                break
            except (ServerSaid, Unreachable) as error:
                row = prearchive.settle(self.site.rest, uri, self.site.patience.pause)
                if row is None or error.status in (409, 500):
                    # Most likely somebody else has it, or is in the middle of a file.
                    raise LiveRow(uri, f"the server could not build it ({error})") from error
                if not is_passing(error):
                    raise
                self.site.patience.wait(error, attempt)
        return in_row(self.site.rest, uri)

    def whole(self, instances: tuple[Instance, ...], holding: Holding, *, in_peace: bool) -> frozenset[str]:
        """Which of the instances a row holds whole.

        A row may have been cut off in the middle, and then built. A file that looks long enough may lack its end
        where the header is long and the pixels are few. The server changes whole files alike, so a file counts only
        when its length differs from the source's as that of others does; those without pixels are sent again unless
        the row was left in peace.
        """
        found = compare(instances, holding)
        sound = found.verified
        change = {i.sop_uid: holding.sizes[i.name] - _stored_size(i) for i in instances if i.sop_uid in sound}
        usual = Counter(change.values())
        return (found.counted if in_peace else frozenset()) | frozenset(
            i.sop_uid
            for i in instances
            if (in_peace or i.pixel_bytes)
            and i.sop_uid in sound
            and (holding.sizes[i.name] == i.length or usual[change[i.sop_uid]] > 2)
        )

    def check(self) -> bool:
        """After a part: whether the rest may follow; False: the next one alone. Raises LiveRow and SessionTrouble."""
        if not self.site.transport.names_rows:
            return not self.may_edit or self._find_row()
        uri = self.sending.uri
        row = prearchive.row(self.site.rest, uri)
        if row is None or row.timestamp != self.site.timestamp:
            raise LiveRow(uri)
        if not row.is_ours(self.session):
            raise SessionTrouble(
                "foreign-row",
                f"the server put the first files into row {row.uri} (subject {row.subject}, session {row.label}), "
                "which is not this program's; nothing was closed",
            )
        return True

    def _find_row(self) -> bool:
        """The row that a DICOM receiver has made of the first files: nobody tells it, so it is looked for, before more
        follow them to where they may not belong. A part may have been filtered: then the next one is looked at."""
        rows = self.site.rows(self.session.project, fresh=True)
        self.sending.uri = next((row.uri for row in rows if row.is_ours(self.session, by_dicom=True)), "")
        self.goes_direct = not self.sending.uri and direct_archive.is_receiving(self.site.rest, self.session)
        if self.sending.uri or self.goes_direct:
            return True
        self._looks += 1
        if self._looks >= LOOKS:
            raise SessionTrouble("rerouted", f"{NO_ROW}. No more of it was sent")
        return False

    def refuse_broken_copies(self, lacks: tuple[Instance, ...]) -> None:
        refused = [i for i in lacks if i.sop_uid in self.sending.failed]
        if not refused:
            return
        holding = self.built(self.sending.uri)
        broken = [i for i in refused if i.name in holding.sizes]
        if broken:
            raise SessionTrouble(
                "server-fault",
                f"row {self.sending.uri} holds {len(broken)} broken copies of files that cannot be sent again, so it "
                f"is not closed: delete it ({prearchive.command_for(self.sending.uri, 'delete')}), then run again",
            )
