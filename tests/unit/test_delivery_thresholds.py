"""Numbers and tables of the delivery that nothing else pins: each test breaks when one of them is changed a little."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from xnat_ingest.core.errors import ServerSaid, SessionTrouble
from xnat_ingest.core.model import Instance, Receipt, Session
from xnat_ingest.core.stop import RunControl, Stop
from xnat_ingest.core.stored_name import uid_hash
from xnat_ingest.delivery import context
from xnat_ingest.delivery.commit import ConcurrentUpload
from xnat_ingest.delivery.decision import ServerState, decide
from xnat_ingest.delivery.prearchive_session import plausible_copies
from xnat_ingest.delivery.same_number import Stuck, split_by_merge
from xnat_ingest.delivery.sending import Sending, _opener
from xnat_ingest.delivery.session_type import DEFINING_MODALITIES
from xnat_ingest.delivery.timestamps import Timestamps
from xnat_ingest.transports.bodies import Part
from xnat_ingest.xnat import archive
from xnat_ingest.xnat.archive import ArchivedSession, StoredFiles, _holding, compare_stored
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import PrearchiveSession, StoredFile, as_session, list_sessions
from xnat_ingest.xnat.projects import changes_study_uid
from xnat_ingest.xnat.scan_ids import PRIMARY, built_ids, moved_already, moved_by_build, received_in

MR = "1.2.840.10008.5.1.4.1.1.4"
CT = "1.2.840.10008.5.1.4.1.1.2"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def instance(series: int, number: int, **fields: Any) -> Instance:
    uid = f"1.2.{series}.{number}"
    text = (str(series), str(number), "MR", "", "1.2.840.10008.1.2.1")
    made = Instance(f"{series}/{number}", 1000, 0, MR, uid, "1.2", f"1.2.{series}", *text, 600, {})
    return replace(made, **fields)


def session(*instances: Instance) -> Session:
    return Session("P1", "S", "S_E", "1.2", "S/E", instances)


@pytest.mark.parametrize(("stored", "is_there"), [(600, True), (599, False)])
def test_a_copy_must_hold_the_pixels(stored: int, is_there: bool) -> None:
    one = instance(1, 1)
    assert bool(compare_stored([one], StoredFiles("", {one.name: stored})).verified) == is_there


@pytest.mark.parametrize(("stored", "is_there"), [(500, True), (499, False)])
def test_without_pixels_half_of_the_source_must_be_there(stored: int, is_there: bool) -> None:
    one = instance(1, 1, pixel_bytes=0)
    assert bool(compare_stored([one], StoredFiles("", {one.name: stored})).verified) == is_there


@pytest.mark.parametrize(("alike", "are_explained"), [(1, False), (2, False), (3, True)])
def test_a_length_is_explained_by_two_others(alike: int, are_explained: bool) -> None:
    """Another length than the source's counts when at least two others differ by as much."""
    files = [instance(1, number) for number in range(1, alike + 1)]
    sizes = {one.name: 990 for one in files}
    assert (len(plausible_copies(files, StoredFiles("", sizes))) == alike) == are_explained
    exact = instance(2, 1)
    assert exact.sop_uid in plausible_copies([*files, exact], StoredFiles("", {**sizes, exact.name: 1000}))


class OfEach:
    """Headers as the names tell."""

    def __init__(self, *instances: Instance) -> None:
        self.uids = {uid_hash(i.sop_class, i.sop_uid): i.sop_uid for i in instances}

    def of(self, _: str, files: Sequence[StoredFile], *, ask: bool) -> dict[StoredFile, str]:
        assert ask
        return {one: self.uids[one.name.removesuffix(".dcm").rpartition("-")[2]] for one in files}


@pytest.mark.parametrize(
    ("lengths", "whole"),
    [((1002,), 1), ((1010, 1020), 2), ((1001,), 0), ((1010, 1000), 1), ((1010, 1010, 1010, 1008), 3)],
)
def test_the_length_of_a_copy_under_another_number(lengths: tuple[int, ...], whole: int) -> None:
    """Its InstanceNumber takes four bytes, and ours two. Three that are alike show what the server makes of them."""
    files = [instance(1, number) for number in range(1, len(lengths) + 1)]
    names = [i.name.replace(f"-1-{n}-", f"-1-100{n}-") for n, i in enumerate(files, 1)]
    stored = [StoredFile(name, size, "1", "/f", "DICOM", name) for name, size in zip(names, lengths, strict=True)]
    held = replace(_holding("", lambda: {"1": "1.2.1"}, stored), uids=OfEach(*files))  # type: ignore[arg-type]
    assert len(plausible_copies(files, held)) == whole


TYPES = {
    "mr": ("MR",), "pet": ("PT",), "ct": ("CT",), "petmr": ("PT", "MR"), "us": ("US",), "xa": ("XA",), "rf": ("RF",),
    "cr": ("CR",), "dx": ("DX",), "nm": ("NM",), "mg": ("MG",),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_which_modalities_keep_a_session_its_type(name: str) -> None:
    """A report that joins an archived session takes one instance of each along, and no other."""
    images = [instance(n, 1, modality=m) for n, m in enumerate((*TYPES[name], "SR"), 1)]
    report = instance(9, 1, modality="SR")
    there = StoredFiles("/data/experiments/X", {i.name: 1000 for i in images})
    known = ArchivedSession("X", "S_E", "S", "1.2", f"xnat:{name}SessionData")
    decision = decide(session(*images, report), ServerState([known], there))
    assert {i.modality for i in decision.to_send} == {"SR", *TYPES[name]}
    assert len(decision.to_send) == 1 + len(TYPES[name])
    assert decision.overwrite


def test_every_type_is_in_the_table() -> None:
    assert {f"xnat:{name}SessionData": lead for name, lead in TYPES.items()} == DEFINING_MODALITIES


def row(**fields: str) -> PrearchiveSession:
    entry = {"project": "P1", "timestamp": "20240101_101010000", "folderName": "S_E", "name": "S_E", "subject": "S"}
    return as_session(
        entry | {"tag": "1.2", "status": "READY", "SOURCE": "uploader", "prevent_auto_commit": "true"} | fields
    )


def test_a_prearchive_session_of_a_subject_in_other_case_is_the_sessions() -> None:
    """XNAT finds subjects without regard to case; labels and studies are compared as they stand."""
    ours = session(instance(1, 1))
    assert row(subject="s").is_ours(ours)
    for fields in ({"subject": "T"}, {"name": "s_e"}, {"tag": "1.3"}, {"SOURCE": ""}, {"prevent_auto_commit": ""}):
        assert not row(**fields).is_ours(ours)
    assert not row(prevent_anon="true").is_ours(ours)
    assert row(SOURCE="").is_ours(ours, by_dicom=True)


@pytest.mark.parametrize(("took", "seconds", "asked"), [(0, 19, 1), (0, 21, 2), (5, 99, 1), (5, 101, 2)])
def test_a_listing_is_believed_for_a_while(
    monkeypatch: pytest.MonkeyPatch, took: float, seconds: float, asked: int
) -> None:
    """20 seconds, or twenty times what it took: of a hundred thousand sessions it is much work for a server."""
    now, calls = [100.0], []

    def listing(*_: object) -> list[ArchivedSession]:
        calls.append(1)
        now[0] += took
        return []

    monkeypatch.setattr("xnat_ingest.delivery.context.time.monotonic", lambda: now[0])
    monkeypatch.setattr(context, "archived_sessions", listing)
    shared: Any = context.RunContext.__new__(context.RunContext)
    shared.rest, shared._known, shared._asking = None, {}, threading.Lock()
    shared.known("P1")
    now[0] += seconds
    shared.known("P1")
    assert len(calls) == asked


class Told:
    """A transport that answers with these addresses."""

    names_session = True

    def __init__(self, *uris: str) -> None:
        self.uris = uris

    def parts(self, instances: Sequence[Instance]) -> list[Part]:
        return [Part((one,)) for one in instances]

    def send(self, _session: Session, part: Part, _sent: Callable[[int], None]) -> Receipt:
        return Receipt(self.uris, part.instances, 1)


def sending(*uris: str) -> Sending:
    control = RunControl(Stop(), lambda _: None)
    return Sending(session(instance(1, 1)), Told(*uris), cast(ThreadPoolExecutor, None), control)


OURS = "/data/prearchive/projects/P1/20240101_101010000/S_E"


def test_a_reply_that_names_our_prearchive_session() -> None:
    one = sending(OURS)
    one.send(one.session.instances, lambda: True)
    assert (one.uri, one.taken) == (OURS, {"1.2.1.1"})


@pytest.mark.parametrize(
    "uri",
    [
        "/data/prearchive/projects/P1x/20240101_101010000/S_E",
        "/data/prearchive/projects/P/20240101_101010000/S_E",
        "/data/prearchive/projects/p1/20240101_101010000/S_E",
        "/data/prearchive/projects/Unassigned/20240101_101010000/S_E",
        "/data/prearchive/projects/P1/../P2/20240101_101010000/S_E",
        "/data/prearchive/projects/P1/20240101_101010000/..",
        "/data/prearchive/projects/P1/20240101_101010000/S_E?action=delete",
        "/data/prearchive/projects/P1/20240101_101010000/S_E/more",
        "/data/prearchive/projects/P1/20240101_101010000",
        "/data/archive/projects/P1/subjects/S/experiments/S_E",
        "http://elsewhere/data/prearchive/projects/P1/20240101_101010000/S_E",
    ],
)
def test_a_reply_that_names_another_place_is_not_ours(uri: str) -> None:
    one = sending(uri)
    with pytest.raises(SessionTrouble) as caught:
        one.send(one.session.instances, lambda: True)
    assert caught.value.kind == "rerouted"


def test_a_reply_that_names_two_prearchive_sessions() -> None:
    """The other one is another run's, which was archived meanwhile, unless it is of another session."""
    other = OURS.replace("000/", "001/")
    one = sending(OURS, other)
    with pytest.raises(ConcurrentUpload) as caught:
        one.send(one.session.instances, lambda: True)
    assert (caught.value.uri, one.uri) == (other, OURS)
    one = sending(OURS, OURS.replace("S_E", "S_F"))
    with pytest.raises(SessionTrouble, match="instead of"):
        one.send(one.session.instances, lambda: True)


def test_what_is_sent_first_where_it_matters() -> None:
    """What gives the session its type, then what no build moves, then the smallest, or the first in a stream."""
    image, large = instance(1, 1), instance(1, 2, size=9000)
    capture = instance(2, 1, sop_class=CAPTURE, modality="OT", size=10)
    twin, other = instance(7, 1, series_number="3"), instance(8, 1, series_number="3", size=500)
    scout = instance(4, 1, sop_class=CT, modality="CT", size=10)
    for members, first, in_stream in (
        ([large, image], None, None),
        ([capture], capture, capture),
        ([capture, large, image], image, large),
        ([twin, other], other, twin),
        ([twin, other, large], large, large),
        ([scout, large, image], image, large),
        ([scout, capture], scout, scout),
    ):
        assert _opener(members, in_order=False) is first
        assert _opener(members, in_order=True) is in_stream


def test_each_session_has_a_timestamp_of_its_own() -> None:
    stamps = Timestamps()
    sessions = [replace(session(), label=str(number)) for number in range(200)]
    drawn = [stamps.of(one) for one in sessions]
    assert len(set(drawn)) == 200
    assert drawn == [stamps.of(one) for one in sessions]
    assert all(len(one) == 18 and datetime.strptime(one[:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC) for one in drawn)
    stamps.renew(sessions[0])
    assert stamps.of(sessions[0]) not in drawn


# -- what a build moves


def test_what_the_first_build_moves() -> None:
    plain, capture = instance(1, 1), instance(1, 2, sop_class=CAPTURE)
    twin, other = instance(7, 1, series_number="3"), instance(8, 1, series_number="3")
    unnumbered, odd = instance(9, 1, series_number=""), instance(10, 1, series_number="1/2")
    moved = moved_by_build([plain, capture, twin, other, unnumbered, odd])
    assert moved == {i.sop_uid for i in (capture, twin, other, unnumbered, odd)}
    assert moved_by_build([twin]) == frozenset()
    assert received_in(plain) == "1"
    assert received_in(unnumbered) == "1.2.9"


def test_what_a_built_prearchive_session_cannot_receive_any_more() -> None:
    plain, capture = instance(1, 1), instance(1, 2, sop_class=CAPTURE)
    late = instance(1, 3, sop_class=CAPTURE)
    twin, more = instance(7, 1, series_number="3"), instance(7, 2, series_number="3")
    files = [plain, capture, late, twin, more]
    scans = {plain.name: "1", capture.name: "1", twin.name: "3-MR1"}
    assert moved_already(files, scans, {capture.name}) == {i.sop_uid for i in (capture, twin, more)}
    assert moved_already(files, {}, ()) == frozenset()


def test_what_it_cannot_receive_where_no_name_tells_what_was_moved() -> None:
    """A site with names of its own: any object of that scan that moves may be the one that lies there."""
    plain, capture, late = instance(1, 1), instance(1, 2, sop_class=CAPTURE), instance(1, 3, sop_class=CAPTURE)
    elsewhere = instance(2, 1, series_number="2", sop_class=CAPTURE)
    files = [plain, capture, late, elsewhere]
    held = {"IM-1.dcm": "1", "IM-2.dcm": "1"}
    assert moved_already(files, held, {"IM-2.dcm"}) == {capture.sop_uid, late.sop_uid}
    assert moved_already(files, held, ()) == frozenset()
    other = f"{plain.study_uid}-1-9-abc.dcm"  # a default name tells that it is none of these
    assert moved_already(files, {other: "1"}, {other}) == frozenset()


@pytest.mark.parametrize(
    ("number", "there", "closed"),
    [
        ("3", {"3-MR1", "3-MR2"}, True),
        ("3", {"3"}, False),
        ("3", {"3-MR", "30-MR1", "3-mr1", "13-MR1"}, False),
        ("", {"1_2_7"}, True),
        ("", {"1_2_8", "1"}, False),
    ],
)
def test_new_instances_of_what_a_build_has_moved(number: str, there: set[str], closed: bool) -> None:
    """None of those that were moved is in this tree. Their scan ids tell."""
    new = instance(7, 5, series_number=number)
    assert bool(moved_already([new], {f"{scan}.dcm": scan for scan in there}, ())) == closed


def test_scan_ids_count_by_modality_in_the_order_of_the_uids() -> None:
    files = [
        instance(4, 1, series_number="3"),
        instance(3, 1, series_number="3", modality="PT"),
        instance(2, 1, series_number="3"),
        instance(1, 1, series_number="3", modality="XX"),
        instance(5, 1),
    ]
    ids = {"1.2.1": "3-OT1", "1.2.2": "3-MR1", "1.2.3": "3-PT1", "1.2.4": "3-MR2", "1.2.5": "5"}
    assert built_ids(files) == ids


def test_the_list_of_primary_classes() -> None:
    assert len(PRIMARY) == 47
    assert MR in PRIMARY
    assert CAPTURE not in PRIMARY


A, B, C = (instance(n, 1, series_number="3") for n in (1, 2, 3))
NEW_A, NEW_B, NEW_C = (instance(n, 2, series_number="3") for n in (1, 2, 3))
PLAN = (A, B, C, NEW_A, NEW_B, NEW_C)
# what lacks, the archive's scans -> what goes now, what goes along, whether more follows, what is stuck
Merge = tuple[tuple[Instance, ...], tuple[tuple[Instance, str], ...], tuple[Instance, ...], tuple[Instance, ...], bool]
MERGES: dict[str, Merge] = {
    "first upload": ((A, B), (), (A, B), (), False),
    "a new series beside one": ((B,), ((A, "3"),), (B,), (), False),
    "one of two": (
        (NEW_B,),
        (
            (A, "3-MR1"),
            (B, "3-MR2"),
        ),
        (NEW_B,),
        (A,),
        False,
    ),
    "both of two": (
        (NEW_A, NEW_B),
        (
            (A, "3-MR1"),
            (B, "3-MR2"),
        ),
        (NEW_A, NEW_B),
        (),
        False,
    ),
    "one that came later": (
        (NEW_B,),
        (
            (A, "3"),
            (B, "3-MR1"),
        ),
        (NEW_B,),
        (),
        False,
    ),
    "both, one came later": (
        (NEW_A, NEW_B),
        (
            (A, "3"),
            (B, "3-MR1"),
        ),
        (NEW_A,),
        (),
        True,
    ),
    "a third beside two": (
        (C,),
        (
            (A, "3-MR1"),
            (B, "3-MR2"),
        ),
        (C,),
        (),
        False,
    ),
    "one of three": (
        (NEW_A,),
        (
            (A, "3-MR1"),
            (B, "3-MR2"),
            (C, "3"),
        ),
        (NEW_A,),
        (),
        False,
    ),
}


@pytest.mark.parametrize("name", MERGES)
def test_series_of_one_number_travel_so_that_xnat_merges_them(name: str) -> None:
    to_send, scans, now, companions, later = MERGES[name]
    files_held = StoredFiles("", {}, scans={i.name: scan for i, scan in scans})
    found = split_by_merge(to_send, PLAN, files_held, {i.sop_uid for i, _ in scans})
    assert (found.now, found.companions, found.later, found.stuck) == (now, companions, later, ())


def test_without_its_siblings_a_series_is_stuck() -> None:
    files_held = StoredFiles("", {}, scans={B.name: "3-MR2", "another": "3-MR1"})
    found = split_by_merge((NEW_B,), (B, NEW_B), files_held, {B.sop_uid})
    assert found.stuck == (Stuck(B, "3-MR2"),)


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("(0020,000D) := hashUID[(0020,000D)]", True),
        ("(0020,000d):=hashUID[(0020,000d)]", True),
        ("- (0020,000D)", True),
        ("(0020,000X) := hashUID[this]", True),
        ("mapReferencedUIDs[...]", True),
        ('(0010,0010) := "Anonymous"', False),
        ('// (0020,000D) := hashUID[(0020,000D)]', False),
        ('(0008,0018) := hashUID[(0020,000D)]', False),
        ("", False),
    ],
)  # fmt: skip
def test_which_scripts_change_the_study(script: str, changes: bool) -> None:
    assert changes_study_uid(f'version "6.1"\n{script}\n') == changes


@pytest.mark.parametrize(
    ("file_format", "label", "counts"),
    [("DICOM", "scans of ours", True), ("dicom", "", True), ("", "DICOM", True), ("", "secondary", True),
     ("", "SNAPSHOTS", False), ("GIF", "NIFTI", False)],
)  # fmt: skip
def test_files_of_an_archive_that_are_dicom(file_format: str, label: str, counts: bool) -> None:
    """By their format, or by the name of their resource: either is enough."""
    uri = f"/data/experiments/E/scans/1/resources/{label}/files/1.dcm"
    row = {"Name": "1.dcm", "Size": "7", "URI": uri, "file_format": file_format, "collection": label}
    assert archive._file(row).name == ("1.dcm" if counts else "")


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/data/experiments/E/scans/1/resources/7/files/1.dcm", ("/scans/1/resources/7/files", "1", "1.dcm")),
        ("/data/experiments/E/scans/1/resources/7/files/a/b/1.dcm", ("/scans/1/resources/7/files/a/b", "1", "1.dcm")),
        ("/scans/1-MR1/resources/QC/files/a%20b/c%23.dcm", ("/scans/1-MR1/resources/QC/files/a b", "1-MR1", "c#.dcm")),
        ("/scans/1/resources/7/files/scans/2/resources/8/files/x",
         ("/scans/1/resources/7/files/scans/2/resources/8/files", "1", "x")),
        ("/scans/1/resources/7/filesystem/1.dcm", ("", "", "")),
        ("/scans/1/resources/7/files", ("", "", "")),
        ("/scans/1/resources/7/files/", ("", "", "")),
        ("1.dcm", ("", "", "")),
        ("", ("", "", "")),
    ],
)  # fmt: skip
def test_where_a_file_of_an_archive_lies(uri: str, place: tuple[str, str, str]) -> None:
    found = archive._file({"Name": "", "Size": "7", "URI": uri, "file_format": "DICOM", "collection": "DICOM"})
    assert (found.folder, found.scan, found.own) == place


def test_an_address_that_was_made_to_be_slow() -> None:
    """A row may have a megabyte."""
    uri = "/scans/1/resources/7/files" * 40_000 + "/"
    begun = time.process_time()
    archive._file({"Name": "", "URI": uri, "file_format": "DICOM"})
    assert time.process_time() - begun < 2


class Listing(XnatClient):
    """A client that has this one table."""

    def __init__(self, *projects: str) -> None:
        self.projects = projects

    def rows(self, path: str, pick: Callable[[dict[str, str]], Any] = dict, **_: Any) -> list[Any]:
        return [pick({"project": one, "timestamp": "1", "folderName": "f", "name": "n"}) for one in self.projects]


def test_a_prearchive_listing_of_another_project_is_refused() -> None:
    """Otherwise it would look empty, and everything deleted, or archived."""
    assert [one.project for one in list_sessions(Listing("P1", "", "Unassigned", "P1"), "P1")] == ["P1", "P1"]
    for projects in (("P2",), ("P1", "P12")):
        with pytest.raises(ServerSaid, match=r"the answer is about project P1?2"):
            list_sessions(Listing(*projects), "P1")
