"""Objects of very many elements and items: a limit, a stop that is heard, and memory that was measured."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dicom_trees import IDENTITY, PIXELS, SAMPLES, Memory, encode, part10, sequence
from tests.unit.test_header_limits import EMPTY, stop_after
from xnat_ingest.core.errors import Stopped
from xnat_ingest.core.model import Instance, Plan, Session, SetAside
from xnat_ingest.deidentify import gathering, objects
from xnat_ingest.deidentify.encoding import NotRewritable
from xnat_ingest.deidentify.gate import hold_back
from xnat_ingest.deidentify.identity import look_for_identity, survey_identity
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.inputs import directory_records
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.directory_records import Referenced, referenced_files
from xnat_ingest.inputs.element_runs import MOST_ELEMENTS, Element, KnownRuns
from xnat_ingest.inputs.outgoing import Outgoing

KEY = Key(b"a key of tests, of no other use at all")
FEW = 100
SHAPE = {0x00280010: ("US", b"\2\0"), 0x00280011: ("US", b"\2\0"), 0x00280100: ("US", b"\x08\0")}
SET = {**IDENTITY, **SHAPE, 0x00100010: ("PN", b"Quillabel^Una "), PIXELS: ("OW", bytes(4))}
LEAVES = len(SET) - 1  # pixels are no part of the header


def flat(number: int) -> bytes:
    """A file with this many private elements of two bytes."""
    many = b"".join(struct.pack("<HH2sHH", 0x0029, 0x1000 + n, b"US", 2, 1) for n in range(number))
    return part10({t: v for t, v in SET.items() if t != PIXELS}) + many + encode({PIXELS: SET[PIXELS]})


def nested(number: int) -> bytes:
    """Likewise with items, a third of them with two elements."""
    inner = encode({0x0008103E: ("LO", b"words "), 0x00081150: ("UI", b"1.2\0")})
    full = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    return (
        part10(SET)[:-16]
        + sequence(*[inner] * 0, tag=0x0040A730)[:12]
        + (EMPTY * 2 + full) * (number // 5)
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        + encode({PIXELS: SET[PIXELS]})
    )


def opened(data: bytes) -> tuple[Memory, Instance]:
    source = Memory({"007/pre/f": data})
    (found,) = scan(source, lambda _: None)
    assert isinstance(found, Instance), found
    return source, found


def planned(found: Instance) -> Plan:
    return Plan("P", (Session("P", "S", "S_E", found.study_uid, "007/pre", (found,)),), (), (), 1)


@pytest.mark.parametrize(("make", "own"), [(flat, LEAVES), (nested, LEAVES + 1)])
def test_the_limit_counts_elements_and_items(
    make: Callable[[int], bytes], own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is named, with its reason, wherever all of a header is read."""
    source, found = opened(make(FEW))
    monkeypatch.setattr(gathering, "MOST_ELEMENTS", FEW + own)
    look_for_identity(Outgoing(source, found))
    monkeypatch.setattr(gathering, "MOST_ELEMENTS", FEW + own - 1)
    why = f"has more than {FEW + own - 1} elements"
    with pytest.raises(NotRewritable, match=why):
        look_for_identity(Outgoing(source, found))
    left = Deidentifier(load_profile("basic"), KEY).examine(source, found)
    assert left == SetAside(found.path, "not-deidentifiable", f"the object {why}")
    assert list(survey_identity(source, 2)) == [("007/pre", SetAside(found.path, "unreadable", why))]
    (session,) = hold_back(planned(found), source, None, lambda: None).sessions
    assert f"1 cannot be looked through (the object {why})" in session.conflicts[0].detail


def of_many_people(words: int) -> bytes:
    """A file with so many short words in each of two names. Each makes some twenty spellings to be searched for."""
    name = b" ".join(bytes((97 + n // 400 % 20, 97 + n // 20 % 20, 98 + n % 20)) for n in range(words)) + b" "
    return part10({**SET, 0x00080090: ("PN", name), 0x00100010: ("PN", name[::-1])})


def test_more_names_than_can_be_searched_for() -> None:
    """With a token for each word, and a look through the header for each token, it would take minutes or hours."""
    source, found = opened(of_many_people(15_000))
    begun = time.process_time()
    why = "has 120000 bytes of names and identifiers, more than can be searched for"
    left = Deidentifier(load_profile("basic"), KEY).examine(source, found)
    assert left == SetAside(found.path, "not-deidentifiable", f"the object {why}")
    assert list(survey_identity(source, 2)) == [("007/pre", SetAside(found.path, "unreadable", why))]
    assert time.process_time() - begun < 5


def test_names_in_a_header_so_long_that_they_cannot_be_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    source, found = opened(of_many_people(300))
    assert isinstance(Deidentifier(load_profile("basic"), KEY).examine(source, found), Instance)
    monkeypatch.setattr(objects, "_MOST_SEARCH", 2_400 * 2_400)
    assert isinstance(Deidentifier(load_profile("basic"), KEY).examine(source, found), SetAside)


def test_a_stop_is_heard_between_names() -> None:
    """Not only between elements: with many names the search takes longest."""
    source, found = opened(of_many_people(300))
    with pytest.raises(Stopped):
        look_for_identity(Outgoing(source, found), stop_after(100))
    with pytest.raises(Stopped):
        Deidentifier(load_profile("basic"), KEY, stop_after(100)).examine(source, found)


def test_the_limit_is_the_documented_one() -> None:
    assert gathering.MOST_ELEMENTS == 1_000_000
    assert f"{gathering.MOST_ELEMENTS:,} elements" in Path("docs/deidentify.md").read_text("utf-8")


@pytest.mark.parametrize("make", [flat, nested])
def test_a_stop_is_heard_between_elements(make: Callable[[int], bytes]) -> None:
    """At least once in 4,096 of them; a stop is not taken for damage."""
    source, found = opened(make(13_000))
    with pytest.raises(Stopped):
        look_for_identity(Outgoing(source, found), stop_after(4))
    with pytest.raises(Stopped):
        list(hold_back(planned(found), source, None, stop_after(4)).sessions)
    with pytest.raises(Stopped):
        Deidentifier(load_profile("basic"), KEY, stop_after(4)).examine(source, found)


@pytest.mark.parametrize("make", [flat, nested])
def test_an_element_takes_a_quarter_of_a_kilobyte(make: Callable[[int], bytes]) -> None:
    """The limit bounds the memory only if this holds."""
    source, found = opened(make(3_000))
    look_for_identity(Outgoing(source, found))  # what is loaded once is not counted
    tracemalloc.start()
    try:
        look_for_identity(Outgoing(source, found))
        looked = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        Deidentifier(load_profile("basic"), KEY).examine(source, found)
        rewritten = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert looked < 3_000 * 300
    assert rewritten < 3_000 * 500


def test_learnt_elements_have_a_limit() -> None:
    """A file of a million elements in many groups does not stay in memory. Equal ones are counted once."""
    runs = KnownRuns(frozenset())

    def some(group: int, number: int = MOST_ELEMENTS // 4) -> list[Element]:
        return [Element(struct.pack("<HH2sH", group, n, b"US", 2), group << 16 | n, b"US", 2) for n in range(number)]

    for group in range(9, 9 + 4):
        runs.note(some(group))
        runs.note(some(group))
    assert len(runs) == 4
    runs.note(some(0x4001, 1))
    assert len(runs) == 1


def record(*parts: bytes) -> bytes:
    value = b"\\".join(parts)
    return encode({0x00041430: ("CS", b"IMAGE "), 0x00041500: ("CS", value + b" " * (len(value) % 2))})


def directory(*records: bytes) -> bytes:
    return part10({0x00041130: ("CS", b"SET ")}) + sequence(*records, tag=0x00041220)


def test_the_files_of_a_directory() -> None:
    data = directory(record(b"A", b"IM 1"), record(b"B   ", b"C"), encode({0x00041430: ("CS", b"STUDY ")}), record(b""))
    for behind in (b"", bytes(100)):
        assert referenced_files(Memory({"D": data + behind}), "D") == [
            Referenced("A/IM 1", kind="IMAGE"),
            Referenced("B/C", kind="IMAGE"),
        ]
    for cut in (len(data) - 20, len(data) - 9):
        assert referenced_files(Memory({"D": data[:cut]}), "D") is None
    assert referenced_files(Memory({"D": b""}), "D") == []


def test_the_directories_of_real_media_read_as_the_library_reads_them() -> None:
    import pydicom

    found = 0
    for path in sorted(SAMPLES.rglob("DICOMDIR*")):
        records = pydicom.dcmread(path).get("DirectoryRecordSequence") or []
        listed = [r for r in records if r.get("ReferencedFileID")]
        names = [[n] if isinstance(n := r.ReferencedFileID, str) else list(n) for r in listed]
        uids = [str(r.get("ReferencedSOPInstanceUIDInFile", "")) for r in listed]
        kinds = [r.DirectoryRecordType for r in listed]
        expected = [Referenced("/".join(name), uid, kind) for name, uid, kind in zip(names, uids, kinds, strict=True)]
        assert referenced_files(Memory({"D": path.read_bytes()}), "D") == expected
        found += bool(expected)
    assert found > 2


def test_a_directory_of_very_many_records_takes_no_memory_and_hears_a_stop() -> None:
    data = part10({0x00041130: ("CS", b"SET ")}) + sequence(tag=0x00041220)[:12] + EMPTY * 5_000
    source = Memory({"D": data + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)})
    tracemalloc.start()
    try:
        assert referenced_files(source, "D") == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    with pytest.raises(Stopped):
        referenced_files(source, "D", stop_after(100))


@pytest.mark.parametrize(
    ("records", "signs", "is_read"), [(3, 100, True), (2, 100, False), (3, 11, False), (3, 12, True)]
)
def test_a_directory_that_lists_more_than_any_medium_holds(
    monkeypatch: pytest.MonkeyPatch, records: int, signs: int, is_read: bool
) -> None:
    """A packed file of some kilobytes can list millions."""
    monkeypatch.setattr(directory_records, "_MOST_RECORDS", records)
    monkeypatch.setattr(directory_records, "_MOST_SIGNS", signs)
    found = referenced_files(Memory({"D": directory(*(record(b"IM 1") for _ in range(3)))}), "D")
    assert (found is not None) == is_read
