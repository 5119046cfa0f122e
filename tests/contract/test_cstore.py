"""C-STORE over real sockets, against a receiver of the tests' own that keeps what it gets: what arrives, and how."""

from __future__ import annotations

import os
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.dicom_trees import BIG, IDENTITY, LITTLE, RLE, SAMPLES, Memory, encapsulated, implicit, part10
from tests.dicomscp import CLASSES, SYNTAXES, Scp, Sink, parsed
from tests.dicomscu import MR, TEXT, instances, made, plain, send, session, some, transport
from xnat_ingest.core.errors import SourceChanged
from xnat_ingest.core.model import INFLATED, Instance
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_dataset import BLOCK
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.outgoing import file_head
from xnat_ingest.inputs.sop_classes import DOCUMENTS
from xnat_ingest.transports import cstore
from xnat_ingest.transports.bodies import Part

# Declared as JPEG, which goes with explicit VR, and written in implicit VR.
MISLEADING = "SC_rgb_jpeg.dcm"


def real_files() -> tuple[Memory, dict[str, Instance]]:
    """One real file of each kind and encoding that pydicom has samples of. Some have the UID of others: each is sent
    under one of its own."""
    found: dict[str, bytes] = {}
    kinds = set()
    for path in sorted(SAMPLES.rglob("*")):
        if path.is_file() and path.name != MISLEADING:
            raw = path.read_bytes()
            for one in scan(Memory({"file": raw}), lambda _: None):
                kind = (one.sop_class, one.transfer_syntax) if isinstance(one, Instance) else None
                if kind and (kind not in kinds or path.name in ("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm")):
                    kinds.add(kind)
                    found[str(path.relative_to(SAMPLES))] = raw
    source = Memory(found)
    named = [_named(i, f"1.2.9.{number}") for number, i in enumerate(instances(source))]
    return source, {i.sop_uid: i for i in named}


def _named(instance: Instance, uid: str) -> Instance:
    """With another UID, which changes the length of a head that is put in front."""
    before, now = (len(file_head(instance.sop_class, one, instance.sent_syntax)) for one in (instance.sop_uid, uid))
    return replace(instance, sop_uid=uid, sent_size=instance.sent_size and instance.sent_size - before + now)


@pytest.fixture
def any_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many of the real files have the same UID, so they are planned under others."""
    monkeypatch.setattr(cstore, "is_another", lambda *_: False)


@pytest.mark.wide
@pytest.mark.usefixtures("any_uid")
def test_real_files_arrive_byte_by_byte_without_routing() -> None:
    source, members = real_files()
    part = Part(tuple(members.values()))
    with Scp() as scp:
        receipt = transport(source, scp.port, route="none").send(session(part.instances), part, lambda _: None)
    assert (receipt.instances, receipt.bytes) == (part.instances, part.bytes)
    assert (receipt.uris, receipt.refused, receipt.disturbed, receipt.notes) == ((), {}, False, {})
    assert len({one.syntax for one in scp.got}) >= 10
    for one in scp.got:
        member = members[one.sop_uid]
        assert one.data == plain(source, member)
        assert one.syntax == member.sent_syntax
        assert one.sop_class == member.sop_class
    assert {one.syntax for one in scp.got if members[one.sop_uid].form == "headed"} >= {LITTLE, BIG}
    assert (scp.associations, scp.callers) == (1, {"XNAT_INGEST"})


@pytest.mark.wide
@pytest.mark.usefixtures("any_uid")
@pytest.mark.parametrize("route", ["comments", "study-description"])
def test_real_files_arrive_with_their_place_and_nothing_else_changed(route: str) -> None:
    source, members = real_files()
    part = Part(tuple(members.values()))
    with Scp() as scp:
        receipt = transport(source, scp.port, route=route).send(session(part.instances), part, lambda _: None)
    assert receipt.instances == part.instances
    keyword, tag, text = {
        "comments": ("PatientComments", 0x00104000, TEXT),
        "study-description": ("StudyDescription", 0x00081030, "xnat://DEMO/007/007_pre"),
    }[route]
    replaced = 0
    for one in scp.got:
        before, after = parsed(plain(source, members[one.sop_uid]), one.syntax), parsed(one.data, one.syntax)
        replaced += bool(before.get(keyword))
        kept = [t for t in sorted(map(int, before.keys())) if t not in (tag, tag & 0xFFFF0000)]
        assert kept == [t for t in sorted(map(int, after.keys())) if t != tag]
        for element in kept:
            was, now = before.get_item(element), after.get_item(element)
            assert (now.VR, repr(now.value)) == (was.VR, repr(was.value))
        assert str(after[tag].value) == text
    assert receipt.notes == ({f"{keyword} replaced": replaced} if replaced else {})
    assert bool(replaced) == (route == "study-description")


def test_the_fact_of_a_replaced_element_is_told_and_not_its_text() -> None:
    raw = part10({**IDENTITY, 0x00104000: ("LT", b"left knee ")})
    source = Memory({"a": raw, "b": made(2)})
    with Scp() as scp:
        receipt = send(source, scp.port)
    assert receipt.notes == {"PatientComments replaced": 1}
    assert source.contents["a"] == raw


def test_what_is_not_encoded_as_its_file_says_is_refused_alone() -> None:
    """Nobody reads it that way, and some receivers never answer. What is not compressed is sent as what it is."""
    plain = part10({}, LITTLE) + implicit(IDENTITY)
    source = Memory({"a": made(1), "b": (SAMPLES / MISLEADING).read_bytes(), "c": plain})
    wrong = next(i for i in instances(source) if i.path == "b")
    with Scp() as scp:
        receipt = send(source, scp.port)
    assert [i.path for i in receipt.instances] == ["a", "c"]
    assert scp.got[-1].syntax == "1.2.840.10008.1.2"
    assert receipt.refused == {
        wrong.sop_uid: "its data set is encoded in implicit VR, but its file says explicit: no receiver could read it"
    }
    assert (scp.associations, receipt.disturbed) == (1, False)


# Those whose data sets are not in explicit VR little endian are among the real files.
OTHERS = {"1.2.840.10008.1.2", BIG, "1.2.840.113619.5.2", LITTLE, *INFLATED}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("syntax", [one for one in SYNTAXES if one not in OTHERS])
def test_every_transfer_syntax_goes_as_it_is_stored(syntax: str) -> None:
    """What the pixels are encoded in concerns nobody on the way."""
    raw = encapsulated(b"", b"pixels").replace(_ui(RLE), _ui(syntax))
    source = Memory({"file": raw})
    uids = ("1.2.3.4.5.6", "1.2.3.4", "1.2.3.4.5")
    member = Instance("file", len(raw), 0, MR, *uids, "", "", "", "", syntax, 0, {})
    with Scp() as scp:
        receipt = transport(source, scp.port, route="none").send(session([member]), Part((member,)), lambda _: None)
    assert receipt.instances == (member,)
    assert (scp.got[0].syntax, scp.got[0].data) == (syntax, plain(source, member))


def _ui(uid: str) -> bytes:
    """A transfer syntax element with the group length before it."""
    return part10({}, uid)[132:]


# Those in DOCUMENTS (spectra, documents) are not whole with pixels alone.
PLAIN_CLASSES = tuple(uid for uid in CLASSES if uid not in DOCUMENTS)


@pytest.mark.wide
def test_more_contexts_than_an_association_takes() -> None:
    """parts() keeps each part to one association; a part that has more all the same goes over two."""
    classes = PLAIN_CLASSES[:150]
    source = Memory({f"{n:03}": made(n, sop_class=uid) for n, uid in enumerate(classes)})
    members = instances(source)
    with Scp(classes=classes) as scp:
        way = transport(source, scp.port)
        parts = way.parts(members)
        assert [len(part.instances) for part in parts] == [128, 22]
        for part in parts:
            assert way.send(session(members), part, lambda _: None).instances == part.instances
        assert scp.associations == 2
        assert len(send(source, scp.port).instances) == 150
        assert scp.associations == 4


class _Stream(Memory):
    def in_order(self, path: str) -> bool:
        return True


def test_a_stream_is_sent_in_its_order() -> None:
    source = _Stream({f"{n:03}": made(n, sop_class=uid) for n, uid in enumerate(PLAIN_CLASSES[:150])})
    members = instances(source)
    parts = transport(source, 1).parts(members)
    assert [i for part in parts for i in part.instances] == list(members)
    assert [len(part.instances) for part in parts] == [128, 22]


@pytest.mark.wide
def test_parts_go_in_parallel() -> None:
    source = some(40, size=1 << 16)
    members = instances(source)
    with Scp() as scp, ThreadPoolExecutor(4) as pool:
        way = transport(source, scp.port)
        parts = [Part(members[at::4]) for at in range(4)]
        receipts = list(pool.map(lambda part: way.send(session(members), part, lambda _: None), parts))
    assert sum(len(receipt.instances) for receipt in receipts) == 40
    assert {one.sop_uid for one in scp.got} == {i.sop_uid for i in members}
    assert all(scp.object(i.sop_uid).data for i in members)
    assert scp.associations == 4


def test_progress_is_told_in_bytes_of_the_source() -> None:
    source = some(3, size=700_000)
    members = instances(source)
    told: list[int] = []
    with Scp() as scp:
        transport(source, scp.port).send(session(members), Part(members), told.append)
    assert sum(told) == sum(i.size for i in members)
    assert max(told) <= 256 * 1024


@pytest.mark.parametrize("limit", [0, 1024, 4095, 4096, 1 << 20])
def test_the_receivers_limit_on_fragments_is_kept(limit: int) -> None:
    """Commands, too; 0 is none. Fragments have even lengths."""
    source = Memory({"file": made(1, size=300_000)})
    with Sink(limit) as sink:
        send(source, sink.port, route="none")
    assert sink.total == len(plain(source, instances(source)[0]))
    assert sink.largest <= (limit or 128 * 1024)
    assert (sink.odd, sink.commands) == (0, 1)
    assert sink.largest >= min(limit - 1 if limit else 1 << 20, 100 * 1024)


class _Zeros(BytesIO):
    """A file of one header and very many zeros."""

    def __init__(self, header: bytes, size: int) -> None:
        super().__init__(header)
        self._left = size - len(header)

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if data or size is None or size < 0:
            return data
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


class _Large(Memory):
    """One file of 96 MB that lies nowhere."""

    def __init__(self) -> None:
        pixels = 96 << 20
        head = made(1)[:-22] + b"\xe0\x7f\x10\0OW\0\0" + pixels.to_bytes(4, "little")
        super().__init__({"large": head})
        self.size = len(head) + pixels

    def stat(self, path: str) -> tuple[int, int]:
        return self.size, 0

    def open(self, path: str) -> BinaryIO:
        return _Zeros(self.contents[path], self.size)


def test_a_file_that_is_rewritten_in_place_while_it_is_sent(tmp_path: Path) -> None:
    """Its time is put back, so only the time of its last change tells."""
    path = tmp_path / "1"
    path.write_bytes(part10({**IDENTITY, 0x7FE00010: ("OW", bytes(4 * BLOCK))}))
    time.sleep(0.02)
    source = open_source(str(tmp_path), 0)
    members = instances(source)
    before = path.stat()

    def rewrite(_: int) -> None:
        with path.open("r+b") as stream:
            stream.seek(-4 * BLOCK, 2)
            stream.write(b"x" * 9)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with Scp() as scp, pytest.raises(SourceChanged, match="rewritten while it was sent"):
        transport(source, scp.port).send(session(members), Part(members), rewrite)


@pytest.mark.wide
def test_memory_does_not_grow_with_an_object() -> None:
    source = _Large()
    large = Instance("large", source.size, 0, MR, "1.2.3.1", "1.2.3.4", "1.2.3.4.5", "", "", "", "", LITTLE, 0, {})
    with Sink(16384) as sink:
        tracemalloc.start()
        try:
            receipt = transport(source, sink.port).send(session([large]), Part((large,)), lambda _: None)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert receipt.instances == (large,)
    assert sink.total == source.size - len(part10({})) + 8 + len(TEXT)
    assert peak < 8 << 20
