"""The zip of a prearchive session's folder, from a server that sends what it likes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from tests.dicom_trees import MR, SAMPLES
from xnat_ingest.core import ServerSaid
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.unlisted_files import holds_readable

IMAGE = (SAMPLES / MR).read_bytes()


class Answers(XnatClient):
    """A client that gives these bytes, in blocks of this size; or the server's refusal."""

    def __init__(self, answer: bytes | ServerSaid, block: int) -> None:
        self.answer = answer
        self.block = block

    def request(self, *_: Any, read: Callable[[Iterator[bytes]], str], **__: Any) -> Any:  # type: ignore[override]
        if isinstance(self.answer, ServerSaid):
            raise self.answer
        data, block = self.answer, self.block
        return read(data[at : at + block] for at in range(0, len(data), block))


class Unseekable(io.BytesIO):
    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


def zipped(*files: bytes, method: int = ZIP_DEFLATED, out: io.BytesIO | None = None) -> bytes:
    out = out or Unseekable()
    with ZipFile(out, "w", method) as found:
        for number, data in enumerate(files):
            found.writestr(f"S_E/SCANS/1/DICOM/{number}.dcm", data)
    return out.getvalue()


CASES: dict[str, tuple[bytes | ServerSaid, bool]] = {
    "an image": (zipped(IMAGE), True),
    "an image, cut in its pixels": (zipped(IMAGE[:-100]), True),
    "an image, cut in its header": (zipped(IMAGE[:1000]), False),
    "nothing": (zipped(), False),
    "empty files": (zipped(b"", b""), False),
    "text": (zipped(b"a log" * 1000), False),
    "pieces and an image": (zipped(b"", IMAGE[:200], IMAGE), True),
    "stored, sizes in front": (zipped(b"", IMAGE, method=ZIP_STORED, out=io.BytesIO()), True),
    "stored, nothing to be read": (zipped(b"", b"text", method=ZIP_STORED, out=io.BytesIO()), False),
    # What cannot be told counts as held.
    "stored, sizes behind": (zipped(b"", b"text", method=ZIP_STORED), True),
    "no zip": (b"<html>Login</html>", True),
    "no body": (b"", True),
    "a zip without an end": (zipped(b"", b"")[:60], True),
    "a damaged entry": (zipped(b"x" * 5000)[:50] + b"\xff" * 3000, True),
    "more than is read": (zipped(bytes(range(256)) * 40_000, method=ZIP_STORED, out=io.BytesIO()), True),
    "more than is unpacked": (zipped(bytes(40 << 20)), True),
    "refused": (ServerSaid("GET x", 404, "no"), True),
}


@pytest.mark.parametrize("block", [1, 7, 65536])
@pytest.mark.parametrize("case", CASES)
def test_whether_something_can_be_read(case: str, block: int) -> None:
    answer, holds = CASES[case]
    if block == 1 and len(answer if isinstance(answer, bytes) else b"") > 100_000:
        pytest.skip("slow")
    assert holds_readable(Answers(answer, block), "/data/prearchive/projects/P/1/S_E") == holds
