"""What is held to be stored, what is sent again, and what is done with a file that changes on the way: one line each,
without a server. tests/contract/test_existing.py has the whole table of --existing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import pytest

from tests.unit.test_delivery_thresholds import instance, row, session
from xnat_ingest.core.errors import Exit, SessionTrouble, SourceChanged
from xnat_ingest.core.model import Instance, Outcome, Plan, Problem, Receipt, Session, Verdict
from xnat_ingest.core.stop import RunControl, Stop
from xnat_ingest.delivery.decision import ServerState, decide
from xnat_ingest.delivery.sending import Sending
from xnat_ingest.delivery.session_type import lost_modality, type_of
from xnat_ingest.delivery.totals import exit_code
from xnat_ingest.transports.bodies import Part
from xnat_ingest.xnat.archive import ArchivedSession, StoredFiles, archived_sessions, compare_stored, in_archive
from xnat_ingest.xnat.client import XnatClient

ONE, TWO, THREE = (instance(1, number) for number in (1, 2, 3))
A, B, C = ONE.sop_uid, TWO.sop_uid, THREE.sop_uid
KNOWN = ArchivedSession("X", "S_E", "S", "1.2", "xnat:mrSessionData")
ALL = StoredFiles("/data/experiments/X", {one.name: 1000 for one in (ONE, TWO, THREE)})


def kind_of(state: ServerState, *instances: Instance) -> str:
    conflict = decide(session(*(instances or (ONE, TWO, THREE))), state).conflict
    return conflict.kind if conflict else ""


def test_a_doubtful_copy_is_sent_again() -> None:
    """Its name and size are plausible, but an upload of it was broken off."""
    decision = decide(session(ONE, TWO, THREE), ServerState([KNOWN], ALL), doubtful=frozenset({B}))
    assert decision.to_send == (TWO,)
    assert decision.archive.verified == {A, C}
    assert "may be cut" in decision.archive.absent[B]
    assert decision.overwrite


def test_two_prearchive_sessions_of_one_session_are_nobodys_to_choose_from() -> None:
    rows = [row(timestamp=f"2024010{day}_101010000") for day in (1, 2)]
    assert kind_of(ServerState(entries=rows[:1])) == ""
    assert kind_of(ServerState(entries=rows)) == "stale-row"


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("Duplicate archive attempt. Busy.", ""),
        ("Scan 3 has 1 non-secondary (or non-parsable secondary) files", ""),
        ("Scan 3 has 1 non-DICOM (or non-parsable DICOM) files", ""),
        ("Invalid session modality", "stale-row"),
        ("", "stale-row"),
    ],
)
def test_a_prearchive_session_that_is_stuck_is_committed_again_where_the_cause_has_passed(log: str, kind: str) -> None:
    assert kind_of(ServerState(entries=[row(status="ERROR")], log=log)) == kind
    assert kind_of(ServerState(entries=[row(status="READY")], log=log)) == ""


@pytest.mark.parametrize(("subject", "kind"), [("S", ""), ("s", ""), ("T", "other-subject")])
def test_subjects_are_compared_without_case(subject: str, kind: str) -> None:
    """XNAT finds a subject so, and keeps the spelling that it has."""
    assert kind_of(ServerState([replace(KNOWN, subject=subject)])) == kind


@pytest.mark.parametrize(
    ("study_uid", "advice"), [("1.2", "-S T -E S_E"), ("1.9", "--session-label"), ("", "--session-label")]
)
def test_a_study_that_a_person_gave_to_another_subject_needs_no_new_label(study_uid: str, advice: str) -> None:
    """A new label would make a second session of it, and be refused."""
    moved = replace(KNOWN, subject="T", study_uid=study_uid)
    conflict = decide(session(ONE), ServerState([moved])).conflict
    assert conflict is not None
    assert (conflict.kind, advice in conflict.detail) == ("other-subject", True)


@pytest.mark.parametrize("others", [(), ("SR",)])
def test_pet_and_mr_that_a_project_keeps_apart(others: tuple[str, ...]) -> None:
    images = [instance(n, 1, modality=m) for n, m in enumerate(("PT", "MR", *others), 1)]
    assert kind_of(ServerState(splits_petmr=True), *images) == "petmr-split"
    assert kind_of(ServerState(splits_petmr=True), images[0], *images[2:]) == ""
    assert kind_of(ServerState(), *images) == ""


CT_CLASS, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("archived", "modality", "sop_class", "kind"),
    [
        ("mr", "MR", "", ""),
        ("mr", "SR", "0", "other-type"),
        ("mr", "MR", CAPTURE, ""),  # where there are only captures, modalities decide
        ("mr", "OT", CAPTURE, "other-type"),
        ("mr", "", "", ""),  # the class of an image decides, whatever its modality
        ("mr", "OT", "", ""),
        ("mr", "CT", "", ""),  # they disagree: XNAT decides
        ("ct", "MR", "", "other-type"),
        ("ct", "CT", CT_CLASS, ""),
        ("pet", "CT", CT_CLASS, "other-type"),
        ("otherDicom", "MR", "", "other-type"),
        ("otherDicom", "MR", CAPTURE, "other-type"),
        ("otherDicom", "OT", CAPTURE, ""),
        ("otherDicom", "SR", "0", ""),
        ("sr", "OT", CAPTURE, ""),
        ("rt", "CT", CT_CLASS, ""),  # types whose rank is not known
        ("eeg", "MR", "", ""),
    ],
)
def test_only_a_merge_that_surely_changes_the_type_is_refused(
    archived: str, modality: str, sop_class: str, kind: str
) -> None:
    known = replace(KNOWN, xsi_type=f"xnat:{archived}SessionData")
    one = replace(ONE, modality=modality, sop_class=sop_class or ONE.sop_class)
    assert kind_of(ServerState([known]), one) == kind
    assert kind_of(ServerState([known], stays_open=True), one) == ""
    assert kind_of(ServerState([replace(known, xsi_type=f"our:{archived}SessionData")]), one) == ""


@pytest.mark.parametrize(("makes_petmr", "kind"), [(True, "other-type"), (False, "")])
def test_mr_joins_a_pet_session_unless_both_are_known_to_make_another(makes_petmr: bool, kind: str) -> None:
    """Where the user may not read the setting, XNAT decides."""
    pet = replace(TWO, modality="PT", sop_class="1.2.840.10008.5.1.4.1.1.128")
    known = replace(KNOWN, xsi_type="xnat:petSessionData")
    assert kind_of(ServerState([known], makes_petmr=makes_petmr), ONE, pet) == kind
    assert kind_of(ServerState([known], makes_petmr=makes_petmr), pet) == ""


def test_a_report_beside_a_capture_takes_an_image_along() -> None:
    """XNAT looks at the classes of images first, and the capture has none, whatever its modality."""
    capture = replace(TWO, sop_class=CAPTURE)
    report = replace(THREE, sop_class="1.2.840.10008.5.1.4.1.1.88.11", modality="SR")
    there = StoredFiles("/data/experiments/X", {ONE.name: 1000})
    assert decide(session(ONE, capture, report), ServerState([KNOWN], there)).to_send == (capture, report, ONE)
    assert decide(session(ONE, capture), ServerState([KNOWN], there)).to_send == (capture,)


CLASSES = {
    "MR": "4",
    "PT": "128",
    "CT": "2",
    "US": "6.1",
    "XA": "12.1",
    "RF": "12.2",
    "CR": "1",
    "DX": "1.1",
    "NM": "20",
    "MG": "1.2",
    "SR": "88.11",
    "OT": "7",
}
TYPES: dict[str, tuple[str, ...]] = {
    one.lower(): (one,) for one in ("MR", "CT", "US", "XA", "RF", "CR", "DX", "NM", "MG", "SR")
}
TYPES |= {"pet": ("PT",), "petmr": ("PT", "MR"), "otherDicom": ("OT",)}


def images(modality: str, *numbers: int) -> list[Instance]:
    sop_class = f"1.2.840.10008.5.1.4.1.1.{CLASSES[modality]}"
    series = list(CLASSES).index(modality) + 1
    return [instance(series, number, modality=modality, sop_class=sop_class) for number in numbers]


@pytest.mark.parametrize("makes_petmr", [True, False])
@pytest.mark.parametrize("archived", TYPES)
def test_the_advice_on_the_type_of_a_session_ends_it(archived: str, makes_petmr: bool) -> None:
    """To the letter, whatever one or two modalities are new, without archived images in the tree or with them."""
    own = [one for modality in TYPES[archived] for one in images(modality, 1)]
    held = StoredFiles("/data/experiments/X", {one.name: 1000 for one in own})
    state = ServerState([replace(KNOWN, xsi_type=f"xnat:{archived}SessionData")], held, makes_petmr=makes_petmr)
    for new in [*combinations(CLASSES, 1), *combinations(CLASSES, 2)]:
        for here in ([], own):
            tree = [*here, *(one for modality in new for one in images(modality, 2, 3))]
            conflict = decide(session(*tree), state).conflict
            if conflict is None:
                continue
            assert conflict.kind == "other-type"
            left_out = re.findall(r"--exclude Modality=(\w+)", conflict.fix)
            tree = [one for one in tree if one.modality not in left_out]
            if company := re.search("a tree that holds (.+) instances of this session", conflict.fix):
                tree += [one for one in own if one.modality in company[1].split(" and ") and one not in tree]
            again = decide(session(*tree), state).conflict
            assert again is None, (archived, new, bool(here), conflict.fix, again.fix)


def test_company_is_no_advice_where_the_new_modality_leads() -> None:
    """Nor are images of another number, where those in the tree would give series another scan id."""
    known = replace(KNOWN, xsi_type="xnat:ctSessionData")
    (old,) = images("CT", 1)
    held = StoredFiles("/data/experiments/X", {old.name: 1000}, scans={old.name: old.series_number})
    same = [replace(one, series_number=old.series_number) for one in images("MR", 1, 2)]
    for tree in ([*same], [old, *same], [old, *images("MR", 1)]):
        conflict = decide(session(*tree), ServerState([known], held)).conflict
        assert conflict is not None
        assert "leave them out (--exclude Modality=MR). Or delete the session" in conflict.fix


# -- what a listing says


@pytest.mark.parametrize(("there", "counts"), [(2, False), (3, True), (4, False)])
def test_a_series_under_other_names_counts_by_its_very_number(there: int, counts: bool) -> None:
    found = compare_stored([ONE, TWO, THREE], StoredFiles("", {"x.dcm": 1000}, {"1.2.1": [1000] * there}))
    assert bool(found.counted) == counts
    assert found.other_names == ({} if counts else {"1.2.1": f"{there} files of 3"})


@pytest.mark.parametrize(
    ("least", "sizes", "too_small"),
    [
        ((600, 600, 600), [600, 600, 600], 0),
        ((600, 600, 600), [5000, 5000, 599], 1),
        ((600, 600, 600), [5000, 0, 5000], 1),
        ((600, 600, 600), [3, 3, 3], 3),
        ((900, 50, 600), [50, 900, 600], 0),
        ((900, 50, 600), [900, 49, 800], 1),
        ((900, 50, 600), [50, 5000, 599], 1),
        ((900, 50, 600), [899, 899, 899], 1),
    ],
)
def test_a_series_under_other_names_counts_by_files_that_can_be_it(
    least: Sequence[int], sizes: list[int], too_small: int
) -> None:
    """Where the server's own listing says that a file is empty or cut, some instance is not there."""
    planned = [replace(one, pixel_bytes=number) for one, number in zip((ONE, TWO, THREE), least, strict=True)]
    found = compare_stored(planned, StoredFiles("", {"x.dcm": 1000}, {"1.2.1": sizes}))
    assert len(found.counted) == (0 if too_small else 3)
    assert found.other_names == ({"1.2.1": f"3 files of 3, {too_small} too small"} if too_small else {})


SCANS = [{"ID": "1", "UID": "1.1"}]


class Listings(XnatClient):
    """A client that has these listings, by the end of their addresses."""

    def __init__(self, **tables: Sequence[Mapping[str, str]]) -> None:
        self.tables = tables

    def rows(self, path: str, pick: Callable[[dict[str, str]], Any] = dict, **_: Any) -> list[Any]:
        return [pick(dict(one)) for one in self.tables[path.rpartition("/")[2]]]


def test_a_name_that_is_listed_twice_counts_by_the_smaller_copy() -> None:
    """One of the two may be the cut one; which of them a listing names first means nothing."""
    place = "/data/experiments/X/scans/{}/resources/DICOM/files/{}"
    listed = [("1", "a.dcm", 900), ("2", "a.dcm", 10), ("1", "b.dcm", 10), ("2", "b.dcm", 900), ("3", "c.dcm", 5)]
    files = [
        {"Name": name, "Size": str(size), "URI": place.format(scan, name), "collection": "DICOM"}
        for scan, name, size in listed
    ]
    scans = [{"ID": "1", "UID": "1.1"}, {"ID": "2", "UID": "1.2"}, {"ID": "3", "UID": "1.2"}]
    held = in_archive(Listings(files=files, scans=scans), "X")
    assert held.sizes == {"a.dcm": 10, "b.dcm": 10, "c.dcm": 5}
    assert held.doubled == {"a.dcm", "b.dcm"}
    assert {uid: sorted(sizes) for uid, sizes in held.series.items()} == {
        "1.1": [10, 900],
        "1.2": [5, 10, 900],
    }  # two scans of one series are one number


@pytest.mark.parametrize(("addresses", "number"), [("ab", 2), ("aa", 1)])
def test_one_file_under_two_names_is_one(addresses: str, number: int) -> None:
    """A series under other names counts by its files, and rows with one address are one file."""
    place = "/data/experiments/X/scans/1/resources/DICOM/files/{}.dcm"
    files = [
        {"Name": f"zz{n}.dcm", "Size": "900", "URI": place.format(own), "collection": "DICOM"}
        for n, own in enumerate(addresses)
    ]
    held = in_archive(Listings(files=files, scans=SCANS), "X")
    assert dict(held.series) == {"1.1": [900] * number}
    assert held.number == number


@pytest.mark.parametrize(
    ("collection", "format_of_it", "counts", "proves"),
    [
        ("DICOM", "DICOM", True, True),
        ("dicom", "", True, True),
        ("secondary", "DICOM", True, True),
        ("DICOM", "TXT", False, True),
        ("SNAPSHOTS", "DICOM", False, False),
        ("DICOM_DEFACED", "DICOM", False, False),
        ("", "DICOM", False, True),
    ],
)
def test_only_what_the_server_calls_dicom_is_counted(
    collection: str, format_of_it: str, counts: bool, proves: bool
) -> None:
    """By its resource and by its format. Where its name is an instance's, its resource is enough."""
    said = {"Size": "900", "collection": collection, "file_format": format_of_it}
    place = "/data/experiments/X/scans/1/resources/7/files/"
    held = in_archive(Listings(files=[said | {"Name": "0.dcm", "URI": f"{place}0.dcm"}], scans=SCANS), "X")
    assert dict(held.series) == ({"1.1": [900]} if counts else {})
    assert (held.sizes, held.number) == (({"0.dcm": 900}, 1) if proves else ({}, 0))
    assert held.elsewhere == ({} if proves else {"0.dcm": collection})


def test_one_file_in_two_rows_is_not_doubled() -> None:
    """Who deletes "one copy" of it deletes the file. The smaller of the two sizes is believed."""
    place = "/data/experiments/X/scans/{}/resources/1/files/a.dcm"
    row_of = {"Name": "a.dcm", "Size": "900", "collection": "DICOM", "URI": place.format(1)}
    for sizes in (("900", "10"), ("10", "900")):
        held = in_archive(Listings(files=[row_of | {"Size": size} for size in sizes], scans=SCANS), "X")
        assert (held.sizes, held.doubled, dict(held.series)) == ({"a.dcm": 10}, frozenset(), {"1.1": [10]})
    assert in_archive(Listings(files=[row_of, row_of, row_of | {"URI": place.format(2)}]), "X").doubled == {"a.dcm"}


@pytest.mark.parametrize("column", ["xnat:imageSessionData/UID", "xnat:imagesessiondata/uid", "UID", "uid"])
def test_a_study_comes_under_either_name_of_its_column(column: str) -> None:
    """XNAT gives a column back under the path that was asked for, or under a short name of its own."""
    listed = [{"ID": "X", "label": "S_E", "subject_label": "S", "xsiType": "xnat:mrSessionData", column: "1.2"}]
    assert archived_sessions(Listings(experiments=listed), "P1") == [KNOWN]


def test_a_file_without_a_size_has_none() -> None:
    """What a listing does not say is no plausible size."""
    row_of = {"Name": "a.dcm", "URI": "/x/scans/1/resources/DICOM/files/a.dcm", "collection": "DICOM"}
    assert in_archive(Listings(files=[row_of, row_of | {"Name": "b.dcm", "Size": ""}]), "X").sizes == {
        "a.dcm": 0,
        "b.dcm": 0,
    }


@pytest.mark.parametrize(("study", "there"), [("1.2", True), ("1", False), ("1.2.1", False)])
def test_a_study_is_known_by_the_names_of_its_files(study: str, there: bool) -> None:
    assert ALL.has_study(study) == there


# -- files that change while they are sent


class Changing:
    """A transport whose first part has a file that has changed."""

    names_session = True

    def __init__(self, error: SourceChanged, refused: Mapping[str, str] | None = None) -> None:
        self._errors = [error]
        self._refused = refused or {}

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return [Part(tuple(instances))]

    def send(self, _session: Session, part: Part, _sent: Callable[[int], None]) -> Receipt:
        if self._errors:
            raise self._errors.pop()
        taken = tuple(i for i in part.instances if i.sop_uid not in self._refused)
        return Receipt(("/data/prearchive/projects/P1/20240101_101010000/S_E",), taken, 1, self._refused)


def sending(transport: Changing, direct: str = "") -> Sending:
    control = RunControl(Stop(), lambda _: None)
    return Sending(session(ONE, TWO, THREE), transport, cast(ThreadPoolExecutor, None), control, direct=direct)


def changed(*, dirty: bool) -> SourceChanged:
    return SourceChanged(TWO.path, "its size changed", dirty=dirty)


def test_a_file_that_changed_before_its_turn_is_left_out_alone() -> None:
    """What went with it arrived by a body that was cut between two members: nothing of that is beyond doubt."""
    one = sending(Changing(changed(dirty=False)))
    one.send((ONE, TWO, THREE), lambda: True)
    assert (one.taken, one.failed) == ({A, C}, {B: "its size changed"})
    assert (one.disturbed, one.intact) == (True, set())


@pytest.mark.parametrize(("direct", "way"), [("", "prearchive list"), ("/data/archive", "--existing overwrite")])
def test_a_file_that_changed_in_mid_stream_ends_its_session(direct: str, way: str) -> None:
    """The server may hold a broken copy. In the prearchive it is deleted; straight in the archive it is replaced."""
    with pytest.raises(SessionTrouble, match=way) as caught:
        sending(Changing(changed(dirty=True)), direct).send((ONE, TWO, THREE), lambda: True)
    assert caught.value.kind == "source-changed"
    assert ("what only it holds" in str(caught.value)) == (not direct)


def test_what_was_refused_is_not_called_ignored_as_well() -> None:
    one = sending(Changing(changed(dirty=False), {C: "unable to read"}))
    one.send((ONE, TWO, THREE), lambda: True)
    assert (one.taken, one.ignored) == ({A}, set())
    assert one.failed == {B: "its size changed", C: "unable to read"}


def test_a_problem_of_the_plan_that_spoils_is_no_success() -> None:
    whole = session(ONE)
    outcome = Outcome(whole, Verdict("verified", verified=frozenset({A})))
    for spoils, code in ((False, Exit.OK), (True, Exit.PARTIAL)):
        plan = Plan("P1", (whole,), (), (Problem("strict", "why", spoils=spoils),), 1)
        assert exit_code(plan, [outcome], sending=True) == code


# -- who goes first


class Noting:
    """A transport that notes which threads send: a part each."""

    def __init__(self, *uris: str, names_session: bool = True) -> None:
        self.uris, self.names_session = uris, names_session
        self.threads: list[str] = []

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return [Part((one,)) for one in instances]

    def send(self, _session: Session, part: Part, _sent: Callable[[int], None]) -> Receipt:
        self.threads.append(threading.current_thread().name.partition("_")[0])
        return Receipt(self.uris, part.instances, 1)


@pytest.mark.parametrize(
    ("transport", "direct", "answers", "alone"),
    [
        (Noting("/data/prearchive/projects/P1/20240101_101010000/S_E"), "", [True], 1),
        (Noting("/data/prearchive/projects/P1/20240101_101010000/S_E"), "", [False, True], 2),
        (Noting(names_session=False), "", [True], 1),
        (Noting("/data/archive/S"), "/data/archive/S", [], 1),
        (Noting(), "", [], 3),
    ],
    ids=["named", "not yet sure", "by DICOM", "straight into the archive", "filtered"],
)
def test_one_part_goes_alone_until_its_place_is_known(
    transport: Noting, direct: str, answers: list[bool], alone: int
) -> None:
    """answers: what looking at the prearchive session says, once for each time it is looked at."""
    left = list(answers)
    with ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
        control = RunControl(Stop(), lambda _: None)
        one = Sending(session(ONE, TWO, THREE), transport, pool, control, direct=direct)
        one.send((ONE, TWO, THREE), lambda: left.pop(0))
    assert transport.threads == ["MainThread"] * alone + ["pool"] * (3 - alone)
    assert left == []


@pytest.mark.parametrize(
    ("xsi_type", "classes"),
    [
        ("mr", [("MR", "")]),
        ("mr", [("SR", "0"), ("MR", "")]),
        ("mr", [("MR", CAPTURE)]),
        ("ct", [("CT", CT_CLASS), ("SR", "0")]),
        ("mr", [("CT", CT_CLASS), ("MR", "")]),
        ("otherDicom", [("SR", "0")]),
        ("otherDicom", [("OT", CAPTURE), ("PR", "0")]),
        ("otherDicom", []),
        ("", [("EEG", "0")]),
    ],
)
def test_the_type_of_a_session_is_that_of_its_images(xsi_type: str, classes: list[tuple[str, str]]) -> None:
    images = [replace(ONE, modality=modality, sop_class=one or ONE.sop_class) for modality, one in classes]
    assert type_of(images) == (xsi_type and f"xnat:{xsi_type}SessionData")


@pytest.mark.parametrize(
    ("sent", "failed", "petmr", "lost"),
    [
        ("report", "mr", False, "MR"),
        ("ct", "mr", False, "MR"),
        ("mr", "ct", False, ""),
        ("mr", "report", False, ""),
        ("mr", "mr", False, ""),
        ("pet", "mr", False, ""),
        ("pet", "mr", True, "MR"),
        ("mr", "pet", True, "PT"),
        ("pet mr", "mr", True, ""),
        ("report", "report", False, ""),
        ("", "mr", False, ""),
    ],
)
def test_a_modality_that_could_not_be_sent_may_lead(sent: str, failed: str, *, petmr: bool, lost: str) -> None:
    kinds = {
        "mr": replace(ONE, modality="MR"),
        "ct": replace(ONE, modality="CT", sop_class=CT_CLASS),
        "pet": replace(ONE, modality="PT", sop_class="1.2.840.10008.5.1.4.1.1.128"),
        "report": replace(ONE, modality="SR", sop_class="0"),
    }
    taken = [kinds[word] for word in sent.split()]
    assert lost_modality(taken, [*taken, kinds[failed]], makes_petmr=petmr) == lost
