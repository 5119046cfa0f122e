"""What is sent is the object that was planned, also where a file was replaced by another of its size and time."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.dicom_trees import (
    BIG,
    IDENTITY,
    Elements,
    Memory,
    Series,
    deflated,
    encode,
    implicit,
    make_session,
    part10,
)
from xnat_ingest.core.errors import SourceChanged
from xnat_ingest.core.model import Instance, Plan, Session
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.inputs import Source, open_source
from xnat_ingest.inputs.dicom_dataset import IMPLICIT
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.transports.bodies import FileBody, Part, TarBody, ZipBody, is_another

KINDS = [TarBody, ZipBody, FileBody]
Body = type[TarBody] | type[ZipBody] | type[FileBody]
STRANGE: Elements = {**IDENTITY, 0x0020000D: ("UI", b"1.2.9.4\0")}
LONG = ("OB", bytes(300_000))  # longer than a block


def scanned(source: Source, keywords: Iterable[str] = ()) -> tuple[Instance, ...]:
    return tuple(one for one in scan(source, lambda _: None, keywords) if isinstance(one, Instance))


def sent(source: Source, members: tuple[Instance, ...], kind: Body = TarBody) -> bytes:
    return b"".join(kind(source, Part(members)).open(lambda _: None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1_000, 300_000])
def test_another_object_of_the_same_size_is_not_sent(kind: Body, size: int) -> None:
    pixels = {0x00280100: ("US", b"\x08\0"), 0x00420011: ("OB", bytes(size))}
    source = Memory({"one": part10({**IDENTITY, **pixels})})
    members = scanned(source)
    assert sent(source, members, kind)
    source.contents["one"] = part10({**STRANGE, **pixels})
    told: list[int] = []
    with pytest.raises(SourceChanged, match="another object") as caught:
        list(kind(source, Part(members)).open(told.append))
    assert not caught.value.dirty
    assert not any(told)


@pytest.mark.parametrize("tag", [0x00080018, 0x0020000D, 0x0020000E])
def test_each_of_the_three_uids_counts_to_its_end(tag: int) -> None:
    """1.2.3 is not 1.2.30, though it begins like it."""
    source = Memory({"one": part10(IDENTITY)})
    (member,) = scanned(source)
    value = IDENTITY[tag][1].rstrip(b"\0")
    assert not is_another(source, member, source.contents["one"], None)
    for other in (value[:-1] + b"9\0", value + b"0", value[:-2] + b"\0\0\0"):
        source.contents["one"] = part10({**IDENTITY, tag: ("UI", other)})
        assert is_another(source, member, source.contents["one"], None)


def make(elements: Elements, form: str) -> bytes:
    if form == "deflated":
        return deflated(encode(elements))
    if form == "bare":
        return encode(elements)
    if form == "long private elements first":
        return part10({**elements, 0x00090010: ("LO", b"SOMEBODY"), 0x00091001: LONG})
    if form == "a group that looks like a digit":
        return part10({**elements, 0x0020000E: ("UI", b"1.2.3.45"), 0x00324000: ("LT", b"text")})
    return part10(elements, BIG) if form == "big endian" else part10(elements)


@pytest.mark.parametrize(
    "form",
    ["plain", "big endian", "deflated", "bare", "long private elements first", "a group that looks like a digit"],
)
def test_every_form_is_sent_and_its_double_is_not(form: str) -> None:
    source = Memory({"one": make({**IDENTITY, 0x0020000D: ("UI", b"1.2.10.4")}, form)})
    members = scanned(source)
    assert len(members) == 1
    assert sent(source, members)
    strange = (make({**IDENTITY, 0x0020000D: ("UI", b"1.2.%d.4" % number)}, form) for number in range(20, 90))
    source.contents["one"] = next(data for data in strange if len(data) == members[0].size)
    with pytest.raises(SourceChanged, match="another object") as caught:
        sent(source, members)
    assert not caught.value.dirty


def test_all_that_were_replaced_are_named_at_once() -> None:
    """The part is begun afresh once, and not once for each."""
    uids = [b"1.2.3.4.%d\0" % number for number in range(1, 5)]
    source = Memory({uid.decode()[:-1]: part10({**IDENTITY, 0x00080018: ("UI", uid)}) for uid in uids})
    members = scanned(source)
    for name in ("1.2.3.4.2", "1.2.3.4.4"):
        source.contents[name] = part10(STRANGE)[: len(source.contents[name])].ljust(len(source.contents[name]), b"\0")
    with pytest.raises(SourceChanged) as caught:
        sent(source, members)
    assert (caught.value.path, caught.value.others) == ("1.2.3.4.2", ("1.2.3.4.4",))


def test_a_session_that_was_replaced_on_the_disk_is_not_sent(tmp_path: Path) -> None:
    """With the files' own sizes and times, as a careless rsync or a restored backup may leave them."""
    mine = make_session(tmp_path / "root/007/pre", [Series("T1_1", 2)], "mine")
    others = make_session(tmp_path / "outside/999/x", [Series("T1_1", 2)], "theirs")
    source = open_source(str(tmp_path / "root"), 2)
    members = tuple(one for one in scan(source, lambda _: None) if isinstance(one, Instance))
    for file, other in zip(mine, others, strict=True):
        before = file.stat()
        file.write_bytes(other.read_bytes()[: before.st_size].ljust(before.st_size, b"\0"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SourceChanged, match="another object"):
        list(TarBody(source, Part(members)).open(lambda _: None))


STRANGERS: Elements = {
    **IDENTITY,
    0x00080018: ("UI", b"1.2.9.4.5.6\0"),
    0x0020000D: ("UI", b"1.2.9.4\0"),
    0x0020000E: ("UI", b"1.2.9.4.5\0"),
}
NAMES = encode({tag: IDENTITY[tag] for tag in (0x00080018, 0x0020000D, 0x0020000E)})
ITEM = b"\xfe\xff\x00\xe0" + len(NAMES).to_bytes(4, "little") + NAMES


def planned(size: int) -> bytes:
    """Longer than another object together with a header in which the planned UIDs are."""
    return part10({**IDENTITY, 0x00204000: ("LT", bytes(3000)), 0x00420011: ("OB", bytes(size))})


# At the end of a member of a tar, there are zeros, and then the header of the next one.
GAP = bytes(700)
# What another object may be that has the planned UIDs somewhere in its first block.
DOUBLES = {
    "the planned one begins behind it": part10(STRANGERS) + GAP + planned(0),
    "the same, in implicit VR": part10({}, IMPLICIT) + implicit(STRANGERS) + GAP + planned(0),
    "the same, in big endian": part10(STRANGERS, BIG) + GAP + planned(0),
    "of the same series": part10({**IDENTITY, 0x00080018: STRANGERS[0x00080018]}) + GAP + planned(0),
    "it refers to the planned one": part10({**STRANGERS, 0x00081140: ("SQ", ITEM)}),
    "it refers to it in front": part10({**STRANGERS, 0x00080006: ("SQ", ITEM)}),
    "its comment names it": part10({**STRANGERS, 0x00204000: ("LT", b"1.2.3.4.5.6 1.2.3.4 1.2.3.4.5 ")}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 300_000])
@pytest.mark.parametrize("double", DOUBLES)
def test_an_object_with_the_planned_uids_elsewhere_is_not_sent(kind: Body, size: int, double: str) -> None:
    source = Memory({"one": planned(size)})
    members = scanned(source)
    assert sent(source, members, kind)
    source.contents["one"] = DOUBLES[double][: members[0].size].ljust(members[0].size, b"\0")
    told: list[int] = []
    with pytest.raises(SourceChanged, match="another object"):
        list(kind(source, Part(members)).open(told.append))
    assert not any(told)


PEOPLE = {
    "ascii": ((b"Anna^A", b"Bert^B"), b""),
    "latin": ((b"W\xe4g^A ", b"W\xfcg^A "), b"ISO_IR 100"),
}


@pytest.mark.parametrize("form", ["plain", "big endian", "deflated", "bare", "long private elements first"])
@pytest.mark.parametrize("people", PEOPLE)
def test_a_label_is_not_given_to_another_value(form: str, people: str) -> None:
    """The UIDs are the same. What rules and labels did not look at may be corrected."""
    (name, other), character_set = PEOPLE[people]
    with_set = {**IDENTITY, 0x00080005: ("CS", character_set), 0x00100020: ("LO", b"P1")}
    source = Memory({"one": make({**with_set, 0x00100010: ("PN", name)}, form)})
    by_name, by_number = scanned(source, ["PatientName", "PatientID"]), scanned(source, ["PatientID"])
    assert sent(source, by_name) == sent(source, by_number)
    source.contents["one"] = make({**with_set, 0x00100010: ("PN", other)}, form)
    if len(source.contents["one"]) == by_name[0].size:  # deflated, they may differ
        assert sent(source, by_number)
    with pytest.raises(SourceChanged, match="changed since"):
        sent(source, by_name)


@pytest.mark.parametrize("form", ["plain", "big endian", "deflated", "bare", "long private elements first"])
def test_a_deidentified_object_is_held_against_what_leaves_of_it(form: str) -> None:
    """Its name is made up. Its modality and its date are not."""
    elements = {**IDENTITY, 0x00080060: ("CS", b"MR"), 0x00080020: ("DA", b"20240102"), 0x00100010: ("PN", b"Anna^A")}
    source = Memory({"one": make(elements, form)})
    deidentifier = Deidentifier(load_profile("basic"), Key(b"a key of tests, of no other use at all"))
    keywords = ["Modality", "StudyDate", "PatientName"]
    (found,) = (deidentifier.examine(source, one, keywords) for one in scanned(source, keywords))
    assert isinstance(found, Instance)
    assert found.leaving["Modality"] == "MR"
    session = Session("P", "S01", "S01_a", found.study_uid, "x", (found,))
    part = Part(deidentifier.settle(Plan("P", (session,), (), (), 1)).sessions[0].instances)
    assert b"".join(TarBody(source, part, deidentifier.rewrite).open(lambda _: None))
    source.contents["one"] = make({**elements, 0x00080060: ("CS", b"CT")}, form)
    with pytest.raises(SourceChanged, match="changed since"):
        list(TarBody(source, part, deidentifier.rewrite).open(lambda _: None))


def pack(archive: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """Its time is always the same."""
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as packed:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    os.utime(archive, (1_700_000_000, 1_700_000_000))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["tar", "tar.gz"])
def test_a_member_of_a_tar_that_was_packed_anew_is_not_sent(tmp_path: Path, form: str, kind: Body) -> None:
    """At its place there is a shorter version of the same object, and behind that another person's."""
    archive, name = tmp_path / f"root.{form}", "a" * 120  # a name that has a header of its own
    before, after = ([("1", planned(0)), (name, planned(size)), ("z", part10(STRANGERS))] for size in (20_000, 9_000))
    pack(archive, before)
    source = open_source(str(archive))
    members = scanned(source)
    assert [sent(source, (one,), kind) != b"" for one in members] == [True] * 3
    pack(archive, after)
    assert sent(source, members[:1], kind)
    for number, others in ((1, ("z",)), (2, ())):
        with pytest.raises(SourceChanged, match="its archive changed") as caught:
            sent(source, members[number:], kind)
        assert (caught.value.dirty, caught.value.path, caught.value.others) == (False, members[number].path, others)
