"""Archives: their members are those that Python's own readers find, or something is told."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from tests.dicom_trees import IDENTITY, part10
from tests.fuzz.target import Target, as_file
from xnat_ingest.core.model import SetAside
from xnat_ingest.inputs.archive_kinds import Kind, archive_kind_of
from xnat_ingest.inputs.archive_members import Damaged
from xnat_ingest.inputs.nested_archive import judge_nested
from xnat_ingest.inputs.open_archive import open_archive

_CONTENTS = {f"s/{n}": part10({**IDENTITY, 0x00080018: ("UI", b"1.2.3.%d\0" % n)}) for n in range(2)}
_CONTENTS |= {"notes.txt": b"no DICOM, but somebody's", "f/empty": b""}
# Of a member: a small archive may unpack to a thousand times as much.
_MOST = 1 << 22


def _members(data: bytes, kind: Kind) -> list[bytes] | None:
    """Each member's bytes, sorted; None when something is told."""
    path = as_file(data, f"x.{kind}")
    try:
        source = open_archive(path, kind)
        listed = list(source.files())
    except Damaged:
        return None
    if any(isinstance(one, SetAside) for one in listed):
        return None
    assert len({one.path for one in listed}) == len(listed)
    found = []
    for one in listed:
        assert not isinstance(one, SetAside)
        assert not one.path.startswith("/")
        assert ".." not in one.path.split("/")
        assert source.stat(one.path)[0] == one.size
        with source.open(one.path) as stream:
            try:
                content = stream.read(_MOST)
            except OSError:
                return None  # told when it is scanned
        assert len(content) == min(one.size, _MOST), one.path
        found.append(content)
    return sorted(found)


def zips(data: bytes) -> None:
    ours = _members(data, "zip")
    if ours is None:
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        try:
            theirs = [archive.open(info).read(_MOST) for info in infos]
        except (OSError, EOFError, lzma.LZMAError):  # it unpacks more than the member has, and finds damage there
            assert {info.compress_type for info in infos} & {zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
            assert sorted(map(zlib.crc32, ours)) == sorted(info.CRC for info in infos)
            return
    assert ours == sorted(theirs)


def _same_as_tarfile(ours: list[bytes] | None, data: bytes) -> None:
    if ours is None:
        return
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        files = [archive.extractfile(info) for info in archive if info.isreg()]
        assert ours == sorted(file.read(_MOST) for file in files if file)


def tars(data: bytes) -> None:
    """The first byte: whether headers get the checksums that they should have, so that what is in them is read."""
    tar = _with_checksums(data[1:]) if data[:1] > b"\x7f" else data[1:]
    _same_as_tarfile(_members(tar, "tar"), tar)


def gzipped_tars(data: bytes) -> None:
    """The first byte: whether the rest is a tar to be packed, with checksums or without, or is packed already."""
    choice, rest = data[:1], data[1:]
    if choice < b"\x55":
        packed = rest
        try:
            with gzip.open(io.BytesIO(packed)) as stream:
                tar = stream.read(_MOST)
        except (OSError, EOFError, zlib.error):
            assert _members(packed, "tar.gz") is None
            return
    else:
        tar = _with_checksums(rest) if choice > b"\xaa" else rest
        packed = gzip.compress(tar, 1, mtime=0)
    if len(tar) < _MOST:
        _same_as_tarfile(_members(packed, "tar.gz"), tar)


def _with_checksums(tar: bytes) -> bytes:
    """Every block that looks like a header, with its checksum made right."""
    made = bytearray(tar)
    for at in range(0, len(made) - 511, 512):
        if made[at + 257 : at + 262] == b"ustar":
            made[at + 148 : at + 156] = b" " * 8
            made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + 512])
    return bytes(made)


def nested(data: bytes) -> None:
    """An archive where none is read: it is told what it is, whatever it is."""
    kind = archive_kind_of(io.BytesIO(data))
    if kind:
        judge_nested("x", io.BytesIO(data), kind, len(data))


def packed_zip(packing: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as archive:
        for name, data in _CONTENTS.items():
            archive.writestr(name, data)
    return made.getvalue()


def _tarred(form: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, data in (*_CONTENTS.items(), ("ä" * 120, b"a long name")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()[: archive.offset + 1024]


_FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def _zips() -> Iterator[bytes]:
    yield from map(packed_zip, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    yield packed_zip(zipfile.ZIP_STORED) + b"tail"


def _tars() -> Iterator[bytes]:
    yield from (choice + _tarred(form) for form in _FORMS[1:] for choice in (b"\0", b"\xff"))


def _gzipped() -> Iterator[bytes]:
    yield from (b"\0" + gzip.compress(_tarred(form), mtime=0) for form in _FORMS[1:])
    yield from _tars()


def _nested() -> Iterator[bytes]:
    yield from _zips()
    yield from (_tarred(form) for form in _FORMS[1:])
    yield from (
        gzip.compress(_tarred(tarfile.GNU_FORMAT)),
        gzip.compress(part10(IDENTITY)),
        b"BZh91AY&SY",
        b"7z\xbc\xaf",
    )


TARGETS = (
    Target("zip", zips, _zips),
    Target("tar", tars, _tars),
    Target("tar.gz", gzipped_tars, _gzipped),
    Target("nested-archive", nested, _nested),
)
