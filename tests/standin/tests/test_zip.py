"""Zip bodies as Java's ZipInputStream reads them, and archives in archives."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.standin import StandIn, zipstream
from tests.standin.fixtures import client, site
from tests.standin.samples import PARAMS, TAR, Answer, Client, dicom, series, tar
from tests.standin.tables import words
from tests.standin.tarstream import ArchiveError

__all__ = ["client", "site"]

ZIP = {"Content-Type": "application/zip"}
IGNORING: dict[str, Any] = {"Ignore-Unparsable": "true"}
CONTENT = {"d/a": bytes(range(256)) * 200, "b": b"hello"}


class _Pipe(io.RawIOBase):
    """Where a program writes that cannot go back."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.taken += bytes(data)
        return len(data)


def packed(members: Mapping[str, bytes], method: int, *, streamed: bool = False, zip64: bool = False) -> bytes:
    """A zip as Python's own writer makes it."""
    pipe, seekable = _Pipe(), io.BytesIO()
    with zipfile.ZipFile(pipe if streamed else seekable, "w", method) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=zip64) as member:
                member.write(content)
    return bytes(pipe.taken) if streamed else seekable.getvalue()


STORED = packed(CONTENT, zipfile.ZIP_STORED)
DEFLATED = packed(CONTENT, zipfile.ZIP_DEFLATED)
STREAMED = packed(CONTENT, zipfile.ZIP_DEFLATED, streamed=True)


def changed(archive: bytes, at: int, value: int) -> bytes:
    return archive[:at] + bytes([value]) + archive[at + 1 :]


def local_part(archive: bytes) -> bytes:
    """Everything before the central directory."""
    return archive[: archive.index(b"PK\1\2")]


def read(archive: bytes, block: int = 1000) -> Iterator[tuple[str, bytes]]:
    for name, member in zipstream.entries(io.BytesIO(archive)):
        yield name, b"".join(iter(lambda member=member: member.read(block), b""))  # type: ignore[misc]  # bound at once


def delivered(archive: bytes) -> tuple[dict[str, int], str]:
    """How many bytes of every entry came, and what ended the reading."""
    found: dict[str, int] = {}
    try:
        for name, member in zipstream.entries(io.BytesIO(archive)):
            found[name] = 0
            while data := member.read(512):
                found[name] += len(data)
    except (ArchiveError, zipstream.MalformedNameError) as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("block", [1, 1000, 1 << 16])
@pytest.mark.parametrize(
    "archive",
    [
        STORED,
        DEFLATED,
        STREAMED,
        packed(CONTENT, zipfile.ZIP_STORED, zip64=True),
        packed(CONTENT, zipfile.ZIP_DEFLATED, zip64=True),
        STREAMED.replace(b"PK\7\x08", b""),
        local_part(STREAMED),
        local_part(STORED),
    ],
    ids=["stored", "deflated", "streamed", "stored64", "deflated64", "no signature", "cut streamed", "cut stored"],
)
def test_what_can_be_read(archive: bytes, block: int) -> None:
    assert dict(read(archive, block)) == CONTENT


@pytest.mark.parametrize(
    ("archive", "whole", "message"),
    [
        (packed(CONTENT, zipfile.ZIP_STORED, streamed=True), {}, "only DEFLATED entries can have EXT descriptor"),
        (packed(CONTENT, zipfile.ZIP_BZIP2), {"d/a": 0}, "invalid compression method"),
        (packed(CONTENT, zipfile.ZIP_LZMA), {"d/a": 0}, "invalid compression method"),
        (changed(STORED, 6, 1), {}, "encrypted ZIP entry not supported"),
        (changed(STORED, 30, 0xFF), {}, "MALFORMED"),
        (
            packed(CONTENT, zipfile.ZIP_DEFLATED, streamed=True, zip64=True),
            {"d/a": 51200},
            "invalid entry size (expected 0 but got 51200 bytes)",
        ),
        (changed(DEFLATED, 14, DEFLATED[14] ^ 1), {"d/a": 51200}, "invalid entry CRC"),
        (changed(STORED, 14, STORED[14] ^ 1), {"d/a": 50688}, "invalid entry CRC"),
        (STORED[:5000], {"d/a": 4967}, "unexpected EOF"),
        (DEFLATED[:33], {"d/a": 0}, "Unexpected end of ZLIB input stream"),
        (STREAMED[:32], {}, "unexpected end of the archive"),
    ],
    ids=words(
        "stored-descriptor bzip2 lzma encrypted name small-zip64-descriptor crc-of-deflated crc-of-stored "
        "cut-in-stored cut-in-deflated cut-in-header"
    ),
)
def test_what_cannot(archive: bytes, whole: dict[str, int], message: str) -> None:
    """How far it comes before it is noticed differs: sizes and sums behind the data, everything else before."""
    found, said = delivered(archive)
    assert (found, said) == (whole, message)


@pytest.mark.parametrize("archive", [b"", b"junk" + STORED, b"no zip at all" * 10, b"PK\5\6" + bytes(18)])
def test_what_is_no_zip_has_no_entries(archive: bytes) -> None:
    assert delivered(archive) == ({}, "")


def test_a_wrong_sum_of_a_stored_entry_does_not_stop_the_next() -> None:
    stream = zipstream.entries(io.BytesIO(changed(STORED, 14, STORED[14] ^ 1)))
    _, member = next(stream)
    with pytest.raises(ArchiveError, match="invalid entry CRC"):
        member.read(1 << 20)
    assert [(name, one.read(100)) for name, one in stream] == [("b", b"hello")]


def test_sizes_of_64_bits_only_behind_large_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry larger than the 32-bit limit, which is lowered here, has a descriptor with 64-bit sizes."""
    monkeypatch.setattr(zipstream, "_MAX32", 1000)
    content = b"x" * 5000
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(content) + deflate.flush()
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 8, 8, 0, 0, 0, 0, 0, 1, 0) + b"x" + data
    wide = head + struct.pack("<4sIQQ", b"PK\7\x08", zlib.crc32(content), len(data), len(content))
    small = head + struct.pack("<4sIII", b"PK\7\x08", zlib.crc32(content), len(data), len(content))
    assert list(read(wide)) == [("x", content)]
    assert delivered(small + bytes(8))[1].startswith("invalid entry")


# -- as bodies of an import


def send(client: Client, body: Any, headers: Mapping[str, str] = ZIP, path: str = "", **query: Any) -> Answer:
    return client("POST", "/data/services/import" + path, body, headers, **(PARAMS | query))


@pytest.mark.parametrize("streamed", [False, True])
def test_zip_bodies_with_and_without_length(site: StandIn, client: Client, streamed: bool) -> None:
    body = packed(series(range(1, 4)), zipfile.ZIP_DEFLATED, streamed=streamed)
    first = send(client, body)
    assert (first.status, len(site.rows("DEMO")[0].files)) == (200, 3)
    again = send(client, iter([body[:1000], body[1000:]]))
    assert (again.status, again.text, len(site.rows("DEMO")[0].files)) == (200, first.text, 3)
    assert next(iter(site.rows("DEMO")[0].files.values())).read_bytes() == dicom(1)


def test_an_empty_body_is_accepted_and_yields_nothing(site: StandIn, client: Client) -> None:
    bodies: list[Any] = [b"", iter([]), b"this is no zip"]
    for body in bodies:
        reply = send(client, body)
        assert (reply.status, reply.text, reply.headers["Content-Type"]) == (200, "", "text/uri-list")
    assert site.rows("DEMO") == []


def test_a_zip_that_cannot_be_read(site: StandIn, client: Client) -> None:
    members = series([1, 2])
    reply = send(client, packed(members, zipfile.ZIP_STORED, streamed=True))
    assert (reply.status, reply.reason) == (400, "unable to read data from file")
    reply = send(client, packed(members, zipfile.ZIP_BZIP2))
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object 1.dcm")
    assert site.rows("DEMO") == []
    reply = send(client, changed(packed(members, zipfile.ZIP_STORED), 30, 0xFF))
    assert (reply.status, reply.reason) == (400, "MALFORMED")
    reply = send(client, packed(members, zipfile.ZIP_DEFLATED, streamed=True, zip64=True))
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object 1.dcm")
    assert [path.read_bytes() for path in site.rows("DEMO")[0].files.values()] == [dicom(1)]


def test_a_zip_cut_between_entries_and_inside_one(site: StandIn, client: Client) -> None:
    body = local_part(packed(series([1, 2]), zipfile.ZIP_STORED))
    assert (send(client, body).status, len(site.rows("DEMO")[0].files)) == (200, 2)
    reply = send(client, body[:-50], EXPT_LABEL="E2")
    assert (reply.status, reply.reason) == (400, "unable to read DICOM object 2.dcm")
    sizes = sorted(path.stat().st_size for path in site.rows("DEMO")[1].files.values())
    assert len(sizes) == 2
    assert sizes[0] < sizes[1] == len(dicom(1))


def test_a_broken_entry_can_be_ignored_while_the_stream_holds(site: StandIn, client: Client) -> None:
    """A wrong sum of a stored entry costs that entry; a deflated one's costs the rest of the archive."""
    stored = packed(series([1, 2]), zipfile.ZIP_STORED)
    reply = send(client, changed(stored, 14, stored[14] ^ 1), **IGNORING)
    assert reply.status == 200
    deflated = packed(series([1, 2]), zipfile.ZIP_DEFLATED)
    reply = send(client, changed(deflated, 14, deflated[14] ^ 1), **IGNORING)
    assert (reply.status, reply.reason) == (400, "unable to read data from file")


@pytest.mark.parametrize(("outer", "path"), [("zip", "/x.zip"), ("tar", "/x.tar"), ("tgz", "/x.tar.gz")])
def test_archives_in_archives(site: StandIn, client: Client, outer: str, path: str) -> None:
    """Every kind in every kind; names alone decide, and only the last part of them counts."""
    members = {
        "a/in.zip": packed(series([1]), zipfile.ZIP_DEFLATED),
        "in.tar": tar(series([2])),
        "b/in.tgz": tar(series([3]), "w:gz"),
        "deep.tar": tar({"in.zip": packed(series([4]), zipfile.ZIP_STORED)}),
        "5.dcm": dicom(5),
    }
    body = packed(members, zipfile.ZIP_DEFLATED) if outer == "zip" else tar(members, "w" if outer == "tar" else "w:gz")
    assert send(client, body, TAR, path).status == 200
    assert len(site.rows("DEMO")[0].files) == 5
    broken = {"in.zip": packed(series([6]), zipfile.ZIP_STORED, streamed=True), "x.gz": b"", "7.dcm": dicom(7)}
    reply = send(client, packed(broken, zipfile.ZIP_DEFLATED))
    assert (reply.status, reply.reason) == (400, "unable to read data from file")
    reply = send(client, packed({"x.dcm.gz": b""}, zipfile.ZIP_DEFLATED))
    assert (reply.status, reply.reason) == (400, "Unsupported format GZ")
    ignoring = send(client, packed(broken, zipfile.ZIP_DEFLATED), **IGNORING)
    assert (ignoring.status, len(site.rows("DEMO")[0].files)) == (200, 6)
