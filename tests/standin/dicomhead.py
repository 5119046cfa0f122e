"""Reading the head of a DICOM stream and keeping what was read, so that the file can be stored as it came.

XNAT parses up to a stop tag and copies the rest without looking at it; so does this. The preamble is rewritten as
zeros. Objects without preamble or meta header are taken when they begin as a data set does.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import config as pydicom_config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.standin.tarstream import Source

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
STUDY_COMMENTS = 0x00324000
"""The last tag XNAT's identifier reads; filters and nothing else can move the stop tag behind it."""

pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE


class NotDicomError(Exception):
    """The bytes are no DICOM object."""


@dataclass
class Head:
    """What was parsed, and every byte read so far (with a clean preamble), ready to be written."""

    data: Dataset
    meta: Dataset
    raw: bytes

    @property
    def transfer_syntax(self) -> str:
        return str(self.meta.get("TransferSyntaxUID", EXPLICIT_LITTLE))


class Recorder(io.RawIOBase):
    """A one-way stream that remembers: seeking works within what was read."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self.seen = bytearray()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        end = self._at + (size if size >= 0 else 1 << 62)
        while len(self.seen) < end:
            more = self._source.read(min(max(end - len(self.seen), 4096), 1 << 16))
            if not more:
                break
            self.seen += more
        data = bytes(self.seen[self._at : min(end, len(self.seen))])
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        target = offset + (self._at if whence == 1 else len(self.seen) if whence == 2 else 0)
        if whence != 2 and target > len(self.seen):
            self._at = len(self.seen)
            self.read(target - len(self.seen))
        self._at = min(max(target, 0), len(self.seen))
        return self._at


class _Inflated:
    """The data set of a deflated object."""

    def __init__(self, source: Recorder) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size: int, /) -> bytes:
        while True:
            packed = self._inflate.unconsumed_tail or self._source.read(4096)
            data = self._inflate.decompress(packed, size)
            if data or not packed or self._inflate.eof:
                return data


def read_head(source: Source, stop_after: int = STUDY_COMMENTS) -> Head:
    """Parse up to ``stop_after``; whatever goes wrong means "not DICOM" to the caller."""
    stream = Recorder(source)
    start = stream.read(132)
    stream.seek(0)
    try:
        if start[128:132] == b"DICM":
            return _part10(stream, stop_after)
        return _bare(stream, start, stop_after)
    except (EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RecursionError) as error:
        raise NotDicomError(str(error)) from error
    except zlib.error as error:
        raise NotDicomError(str(error)) from error


def _part10(stream: Recorder, stop_after: int) -> Head:
    file = cast("BinaryIO", stream)
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=_no_meta)
    syntax = str(meta.get("TransferSyntaxUID", EXPLICIT_LITTLE))
    data = _data_set(stream, syntax, stop_after)
    stream.seen[:128] = bytes(128)
    return Head(data, meta, bytes(stream.seen))


def _bare(stream: Recorder, start: bytes, stop_after: int) -> Head:
    """No preamble: guess the syntax from the first element, as dcm4che2 does, and add a meta header."""
    group = int.from_bytes(start[:2], "little")
    if len(start) < 8 or group not in (2, 8):
        raise NotDicomError("Not a DICOM Stream")
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    meta: Dataset = FileMetaDataset()
    if group == 2:
        meta = read_dataset(cast("BinaryIO", stream), False, True, stop_when=_no_meta)
        syntax = str(meta.get("TransferSyntaxUID", EXPLICIT_LITTLE))
        data = _data_set(stream, syntax, stop_after)
        return Head(data, meta, bytes(128) + b"DICM" + bytes(stream.seen))
    syntax = EXPLICIT_LITTLE if explicit else str(ImplicitVRLittleEndian)
    data = _data_set(stream, syntax, stop_after)
    if not data:
        raise NotDicomError("Not a DICOM Stream")
    made = FileMetaDataset()
    made.MediaStorageSOPClassUID = data.get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7")
    made.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "0")
    made.TransferSyntaxUID = syntax  # type: ignore[assignment]  # a plain string is converted on assignment
    made.ImplementationClassUID = "1.2.40.0.13.1.1"  # type: ignore[assignment]  # likewise
    out = DicomBytesIO()
    write_file_meta_info(out, made, enforce_standard=True)
    return Head(data, made, bytes(128) + b"DICM" + out.getvalue() + bytes(stream.seen))


def _no_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _data_set(stream: Recorder, syntax: str, stop_after: int) -> Dataset:
    def behind(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return int(tag) > stop_after

    if syntax == DeflatedExplicitVRLittleEndian:
        return read_dataset(cast("BinaryIO", Recorder(_Inflated(stream))), False, True, stop_when=behind)
    implicit = syntax == ImplicitVRLittleEndian
    return read_dataset(cast("BinaryIO", stream), implicit, syntax != ExplicitVRBigEndian, stop_when=behind)


def head_of(path: Path, stop_after: int = STUDY_COMMENTS) -> Head:
    """The head of a stored file."""
    with path.open("rb") as stored:
        return read_head(stored, stop_after)
