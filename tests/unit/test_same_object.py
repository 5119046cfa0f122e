"""What is sent is the object that was planned, also where a file was replaced by another of its size and time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.dicom_trees import BIG, IDENTITY, Elements, Memory, Series, deflated, encode, make_session, part10
from xnat_ingest.core.errors import SourceChanged
from xnat_ingest.core.model import Instance
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.same_object import holds_planned
from xnat_ingest.transports.bodies import FileBody, Part, TarBody, ZipBody

KINDS = [TarBody, ZipBody, FileBody]
Body = type[TarBody] | type[ZipBody] | type[FileBody]
STRANGE: Elements = {**IDENTITY, 0x0020000D: ("UI", b"1.2.9.4\0")}
LONG = ("OB", bytes(300_000))  # longer than a block


def scanned(source: Memory) -> tuple[Instance, ...]:
    return tuple(one for one in scan(source, lambda _: None) if isinstance(one, Instance))


def sent(source: Memory, members: tuple[Instance, ...], kind: Body = TarBody) -> bytes:
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
    assert holds_planned(source.contents["one"], member)
    for other in (value[:-1] + b"9\0", value + b"0", value[:-2] + b"\0\0\0"):
        assert not holds_planned(part10({**IDENTITY, tag: ("UI", other)}), member)


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
