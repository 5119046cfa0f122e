"""The headers of stored files, from a server that sends what it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from typing import Any

import pytest

from tests.dicom_trees import MR, SAMPLES
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.prearchive import StoredFile
from xnat_ingest.xnat.stored_uids import StoredUids

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
    assert bool(found) == is_known
    assert rest.sent < 3_000_000
