"""The headers of stored files, from a server that sends what it likes."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, count
from typing import Any

import pytest

from tests.dicom_trees import DEFLATED, MR, SAMPLES, part10
from xnat_ingest.core import Instance, ServerSaid
from xnat_ingest.core.stored_name import uid_hash
from xnat_ingest.inputs.dicom_elements import Unreadable, has_whole_header, sop_uid_of
from xnat_ingest.inputs.whole_copy import extent_of
from xnat_ingest.xnat.archive import _holding, compare_stored
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import StoredFile
from xnat_ingest.xnat.stored_uids import StoredUids

MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
IMAGE = (SAMPLES / MR).read_bytes()
# The head of an element that claims four gigabytes, before the SOPInstanceUID.
ENDLESS = IMAGE[:128] + b"DICM" + b"\x08\0\x08\0UN\0\0\xf0\xff\xff\xff"


class Answers(XnatClient):
    """A client whose every answer begins with these bytes, and goes on for ever."""

    def __init__(self, begin: bytes) -> None:
        self.begin = begin
        self.sent = 0

    def request(self, *_: Any, read: Callable[[Iterator[bytes]], str], **__: Any) -> Any:  # type: ignore[override]
        def told(block: bytes) -> bytes:
            self.sent += len(block)
            assert self.sent < 10_000_000, "it reads on"
            return block

        return read(map(told, chain([self.begin], (bytes(65536) for _ in count()))))


@pytest.mark.parametrize("listed", [1000, 10_000_000])
@pytest.mark.parametrize(("begin", "is_known"), [(IMAGE, True), (ENDLESS, False)])
def test_an_answer_without_end_is_read_to_a_limit(listed: int, begin: bytes, is_known: bool) -> None:
    file = StoredFile("x.dcm", listed, "1", "/scans/1/resources/DICOM/files", "DICOM", "x.dcm")
    rest = Answers(begin)
    with ThreadPoolExecutor(1) as pool:
        found = StoredUids(rest, pool, lambda: None).of("/data/experiments/X", [file], ask=True)
    assert bool(found[file]) == is_known
    assert rest.sent < 3_000_000


@pytest.mark.parametrize("find", [sop_uid_of, has_whole_header, lambda blocks: extent_of(blocks, 1 << 20)])
def test_a_few_packed_bytes_do_not_take_much_memory_or_time(find: Callable[[Iterable[bytes]], object]) -> None:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    uid = b"\x08\0\x18\0UN\0\0\xf0\xff\xff\xff"
    packed = b"".join(map(engine.compress, [uid, *[bytes(1 << 20)] * 64])) + engine.flush()
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="too long"):
            find([part10({}, DEFLATED) + packed])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


class Missing(XnatClient):
    """A client whose server gives no file."""

    def __init__(self) -> None:
        self.asked = 0

    def request(self, method: str, path: str, *_: Any, **__: Any) -> Any:
        self.asked += 1
        raise ServerSaid(f"{method} {path}", 404, "")


@pytest.mark.parametrize("series", [True, False])
def test_a_listing_cannot_make_the_program_ask_for_ever(series: bool) -> None:
    """All its names have the hash of one instance; or a series has files without end, under names that tell nothing."""
    one = Instance(
        "1/1", 1000, 0, MR_CLASS, "1.2.1.1", "1.2", "1.2.1", "1", "1", "MR", "", "1.2.840.10008.1.2.1", 600, {}
    )
    hashed = uid_hash(MR_CLASS, "1.2.1.1")
    names = (f"IM-{n}.dcm" if series else f"1.2-1-{n}-{hashed}.dcm" for n in range(2, 200_000))
    files = [StoredFile(name, 1000, "1", "/scans/1/resources/DICOM/files", "DICOM", name) for name in names]
    rest = Missing()
    with ThreadPoolExecutor(1) as pool:
        uids = StoredUids(rest, pool, lambda: None)
        held = _holding("/data/experiments/X", lambda: {"1": "1.2.1"}, files)
        found = compare_stored([one], replace(held, uids=uids, reads_all=True))
    assert not found.seen
    assert rest.asked < 100


def test_a_file_that_the_server_does_not_give_is_asked_for_once() -> None:
    file = StoredFile("x.dcm", 1000, "1", "/scans/1/resources/DICOM/files", "DICOM", "x.dcm")
    rest = Missing()
    with ThreadPoolExecutor(1) as pool:
        uids = StoredUids(rest, pool, lambda: None)
        for _ in range(3):
            assert not uids.of("/data/experiments/X", [file], ask=True)
    assert rest.asked == 1
