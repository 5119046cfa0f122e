"""Reads headers, never pixels: a file becomes an Instance, or is set aside with the reason.

A file is judged by its content alone; names and suffixes mean nothing (4 in 10 real files have no usable one).
"""

from __future__ import annotations

import difflib
import io
import itertools
import logging
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from sys import intern
from typing import BinaryIO, cast

import pydicom
import pydicom.uid
from pydicom.datadict import keyword_dict, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from xnat_ingest.core.errors import Stopped, UsageError, is_bug
from xnat_ingest.core.model import EMPTY, INFLATED, ZEROS, Flaw, Form, Instance, SetAside, SourceFile
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.archive_kinds import archive_kind_of
from xnat_ingest.inputs.deflated_header import LONGEST, measure_deflated
from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    NotWalkable,
    PeekableStream,
    blocks_of,
    is_explicit,
    skip_meta,
)
from xnat_ingest.inputs.dicom_file import START, UNDEFINED, PixelData, TruncationDetector, measure_pixels, sniff
from xnat_ingest.inputs.nested_archive import judge_nested
from xnat_ingest.inputs.outgoing import file_head
from xnat_ingest.inputs.sop_classes import DECISIVE, PIXEL_TAGS, lacking
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.undefined_length import EndsInside, TooDeep, pass_over
from xnat_ingest.inputs.unpacking import Unpacking

_CHARACTER_SETS = 0x00080005
_SOP_CLASS, _SOP_UID = 0x00080016, 0x00080018
_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E
_SERIES_NUMBER, _INSTANCE_NUMBER = 0x00200011, 0x00200013
_MODALITY, _SERIES_DESCRIPTION = 0x00080060, 0x0008103E
_PATIENT_ID = 0x00100020
_FRAMES = 0x00280008
_RLE = "1.2.840.10008.1.2.5"
_CUT = "the file ends before its data does"
_MEDIA_SOP_CLASS, _TRANSFER_SYNTAX = 0x00020002, 0x00020010
_STUDY_DATE = 0x00080020
_BASE_TAGS = (
    _SOP_CLASS,
    _SOP_UID,
    _STUDY_UID,
    _SERIES_UID,
    _SERIES_NUMBER,
    _INSTANCE_NUMBER,
    _MODALITY,
    _SERIES_DESCRIPTION,
    _PATIENT_ID,
    _FRAMES,
    _STUDY_DATE,
)
_CHARACTER_SET = 0x00080005
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
# Of how many bytes a block is where no more than meta information is looked for.
_LITTLE = 4096
_NO_TAGS: Mapping[str, str] = {}
# More than the standard allows: a scanner's or an anonymiser's odd UID is still one that XNAT takes.
_UID = re.compile(r"[A-Za-z0-9._-]{1,128}")

logging.getLogger("pydicom").addHandler(logging.NullHandler())


@contextmanager
def lenient() -> Iterator[None]:
    """Inside, the library reads as leniently as it can: a file that breaks a rule of the standard is still somebody's
    data. Its setting is the whole process's, so it is put back: we may be a guest there."""
    settings = pydicom.config.settings
    before = settings.reading_validation_mode
    settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode = before


def scan(
    source: Source,
    skip: Callable[[str], str | None],
    keywords: Iterable[str] = (),
    *,
    accept_truncated: bool = False,
    check_stop: Callable[[], None] = go_on,
) -> Iterator[Instance | SetAside]:
    """Every file of the source, as an Instance or set aside.

    skip: path -> reason to set it aside unread, or None.
    keywords: DICOM keywords to keep in Instance.tags.
    accept_truncated: a file that lacks some of its data is an Instance with that flaw.
    check_stop: called at each read of a header, since one file may take long.
    """
    wanted = {keyword: _tag(keyword) for keyword in keywords}
    patients: dict[str, str] = {}  # PatientID -> its number; only the number leaves this function
    for found in source.files():
        if isinstance(found, SetAside):
            yield found
        elif reason := skip(found.path):
            yield SetAside(found.path, reason)
        else:
            yield _judge(source, found, wanted, patients, accept_truncated=accept_truncated, check_stop=check_stop)


def check_keywords(keywords: Iterable[str]) -> None:
    """Raises UsageError for a word that is no DICOM keyword, naming the nearest one."""
    for keyword in keywords:
        if tag_for_keyword(keyword) is None:
            known = {word.lower(): word for word in keyword_dict}
            near = difflib.get_close_matches(keyword.lower(), known, n=1)
            hint = f"; did you mean {known[near[0]]}?" if near else ""
            raise UsageError(f"{keyword} is not a DICOM keyword{hint}")


def uid_of(name: str) -> str:
    """The UID that a keyword such as SecondaryCaptureImageStorage stands for; a UID as it is. Raises UsageError."""
    if not name.isidentifier():
        return name
    known = [word for word in vars(pydicom.uid) if isinstance(getattr(pydicom.uid, word), pydicom.uid.UID)]
    if name in known:
        return str(getattr(pydicom.uid, name))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{name} is neither a UID nor the keyword of one{hint}")


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword  # check_keywords came first  # noqa: S101
    return tag


def _judge(
    source: Source,
    file: SourceFile,
    wanted: dict[str, int],
    patients: dict[str, str],
    *,
    accept_truncated: bool,
    check_stop: Callable[[], None],
) -> Instance | SetAside:
    if file.size == 0:
        return SetAside(file.path, "not-dicom", EMPTY)
    try:
        with lenient(), source.open(file.path) as stream:
            found = _Header(
                file, TruncationDetector(stream, check_stop), wanted, patients, accept_truncated=accept_truncated
            ).judge()
            if isinstance(found, SetAside) and not found.is_problem and isinstance(stream, Unpacking):
                stream.read_on(check_stop)  # what damage has made of a file is not left out as something else
            return found
    except OSError as error:
        return SetAside(file.path, "unreadable", error.strerror or "cannot be read")


class _Header:
    """One file's header: how far it reads, whether the file is whole, what it says."""

    def __init__(
        self,
        file: SourceFile,
        stream: TruncationDetector,
        wanted: dict[str, int],
        patients: dict[str, str],
        *,
        accept_truncated: bool,
    ) -> None:
        self.patients = patients
        self.file = file
        self.accept_truncated = accept_truncated
        self.stream = stream
        self.wanted = wanted
        self.form: Form = "file"
        self.head_size = 0  # bytes before the data set
        self.data_bytes = 0  # of the data set as it is sent
        self.end = 0  # where the last element's value ends, by its own length
        self.pixels: tuple[str | None, int] | None = None  # VR and length of the pixel data element
        self.inflated_pixels = 0  # bytes of the pixel data in a deflate stream
        self.has: set[int] = set()  # which decisive elements it has
        self.header_cut = False
        self.unwanted: tuple[int, str | None, int] | None = None  # start, VR and length of a value that is passed over
        self.tags = frozenset((*_BASE_TAGS, *wanted.values()))
        self.is_explicit = True
        self.saw_elements = False
        self.saw_uid = False

    def judge(self) -> Instance | SetAside:
        start = self.stream.read(START)
        kind = sniff(start)
        if kind == "other":
            self.stream.seek(0)
            stream = cast(BinaryIO, self.stream)
            archive = archive_kind_of(stream)
            if archive:
                return judge_nested(self.file.path, stream, archive, self.file.size)
            return self._aside("not-dicom", ZEROS if not any(start) and self._is_all_zeros() else "")
        try:
            if self._pass_meta(start) in INFLATED:
                return self._instance(self._read_inflated(), kind)
            return self._instance(self._read(cast(BinaryIO, self.stream)), kind)
        except Stopped:
            raise
        except TooDeep as error:
            return self._aside("unreadable", str(error))
        except NotWalkable as error:
            return self._aside("truncated", f"the data set {error}")
        except Exception as error:  # the library raises many types for a damaged file
            if is_bug(error) or (isinstance(error, OSError) and error.errno):
                raise
            return self._damaged(error, kind)

    def _is_all_zeros(self) -> bool:
        """Whether the file is blank to its end; read on only while it is."""
        self.stream.seek(0)
        while block := self.stream.read(1024 * 1024):
            if any(block):
                return False
        return True

    def _damaged(self, error: Exception, kind: str) -> SetAside:
        # The library wraps what it meets in a sequence into an OSError of its own.
        if isinstance(error, RecursionError) or isinstance(error.__context__, RecursionError):
            return self._aside("unreadable", "sequences nested too deeply")
        if kind == "bare" and not self.saw_uid:
            return self._aside("not-dicom")
        cut = isinstance(error, EOFError | struct.error) or "No tag to read" in str(error) or "incomplete" in str(error)
        return self._aside("truncated" if cut else "unreadable", "the header cannot be read to its end")

    def _pass_meta(self, start: bytes) -> str:
        """Notes where the data set begins, and returns the transfer syntax that the file names."""
        source = PeekableStream(itertools.chain((start,), blocks_of(cast(BinaryIO, self.stream), _LITTLE)))
        syntax = ""
        with suppress(NotWalkable):  # the library may still make something of it
            syntax = skip_meta(source)
            self.head_size, self.data_bytes = source.taken, self.file.size - source.taken
            self.is_explicit = is_explicit(source)
        self.stream.seek(0)
        return syntax

    def _read_inflated(self) -> pydicom.FileDataset:
        """What of a deflated data set was asked for. Reads it to its end: how long it is must be known."""
        packed = PeekableStream(blocks_of(cast(BinaryIO, self.stream)))
        syntax = skip_meta(packed)
        found = measure_deflated(packed.rest(), {_CHARACTER_SET, *_BASE_TAGS, *self.wanted.values()})
        dataset = self._read(io.BytesIO(file_head("", "", EXPLICIT) + found.elements))
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        self.form, self.data_bytes = "inflated", found.length
        self.inflated_pixels, self.has = found.pixel_bytes, set(found.has)
        return dataset

    def _read(self, stream: BinaryIO) -> pydicom.FileDataset:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            tags: list[BaseTag | int] = list(self.tags)
            dataset = read_partial(stream, self._stop_at, force=True, specific_tags=tags)
            while self.unwanted is not None:
                implicit, little_endian = (
                    dataset.original_encoding[0] is True,
                    dataset.original_encoding[1] is not False,
                )
                self._pass_over(stream, "<" if little_endian else ">")
                dataset.update(
                    read_dataset(
                        stream,
                        implicit,
                        little_endian,
                        stop_when=self._stop_at,
                        specific_tags=tags,
                        at_top_level=not implicit,
                    )
                )
        if any("End of file" in str(w.message) for w in said):  # the library's only word on a cut header
            if not self.accept_truncated:
                raise EOFError
            self.header_cut = True
        return dataset

    def _pass_over(self, stream: BinaryIO, order: str) -> None:
        """Goes on behind a value that the library stopped at. Raises NotWalkable."""
        assert self.unwanted  # noqa: S101 - the caller has looked
        start, vr, length = self.unwanted
        self.unwanted = None
        stream.seek(start)
        if length == UNDEFINED:
            try:
                pass_over(stream, vr not in (None, "UN"), order)
            except EndsInside:
                if not self.accept_truncated:
                    raise
                self.header_cut = True
        else:
            stream.seek(length, io.SEEK_CUR)
        self.end = stream.tell()

    def _stop_at(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        """Called by the library at each element, its value next: notes where it ends, stops at pixel data, at what
        the library would build and nobody wants, and where zeros follow the data set."""
        if not self.data_bytes:  # the first call is a guess, and a damaged element may have no VR in any data set
            self.is_explicit = vr is not None
        self.saw_elements = True
        self.has |= DECISIVE & {tag}
        self.saw_uid |= tag in (_SOP_CLASS, _SOP_UID)
        if tag in PIXEL_TAGS:
            self.pixels = (vr, length)
            return True
        if tag == 0:
            return True
        if length > LONGEST and (length == UNDEFINED or tag in self.tags):
            self.unwanted = (self.stream.tell(), vr, length)
            return True
        # Of a deflated file the library sees another stream, where these positions mean nothing.
        self.end = self.stream.tell() + length if length != UNDEFINED else 0
        return False

    def _instance(self, dataset: pydicom.FileDataset, kind: str) -> Instance | SetAside:
        syntax = self._syntax(dataset, kind)
        sop_class, sop_uid = _raw(dataset, _SOP_CLASS), _raw(dataset, _SOP_UID)
        if _MEDIA_DIRECTORY in (sop_class, _raw(dataset.file_meta, _MEDIA_SOP_CLASS)):
            return self._aside("dicomdir")
        pixel_bytes, flaw, why = self._completeness(dataset, sop_class, syntax)
        study_uid, series_uid = _raw(dataset, _STUDY_UID), _raw(dataset, _SERIES_UID)
        uids = {"SOPClassUID": sop_class, "SOPInstanceUID": sop_uid}
        uids |= {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        absent = [name for name, uid in uids.items() if not _UID.fullmatch(uid)]
        is_nobody = len(absent) == len(uids)
        if not _UID.fullmatch(syntax):  # it goes into meta information and associations, which are ASCII
            absent.append("TransferSyntaxUID")
        if kind == "bare" and is_nobody and not _raw(dataset, _MODALITY):
            return self._aside("not-dicom")
        if flaw == "truncated" and not self.accept_truncated:
            return self._aside("truncated", why)
        if absent:
            return self._aside("no-uid", f"no valid {', '.join(absent)}")
        if self.form != "file":
            self.head_size = len(file_head(sop_class, sop_uid, INFLATED.get(syntax, syntax)))
        return Instance(
            path=self.file.path,
            size=self.file.size,
            mtime_ns=self.file.mtime_ns,
            sop_class=intern(sop_class),
            sop_uid=sop_uid,
            study_uid=intern(study_uid),
            series_uid=intern(series_uid),
            series_number=intern(_raw(dataset, _SERIES_NUMBER)),
            instance_number=intern(_raw(dataset, _INSTANCE_NUMBER)),
            modality=intern(_raw(dataset, _MODALITY)),
            series_description=intern(_text(dataset, _SERIES_DESCRIPTION)),
            transfer_syntax=intern(syntax),
            pixel_bytes=pixel_bytes,
            tags=self._tags(dataset),
            form=self.form,
            sent_size=0 if self.form == "file" else self.head_size + self.data_bytes,
            head_size=self.head_size,
            flaw=flaw or self._study_date(dataset),
            patient=self._patient(dataset),
        )

    def _study_date(self, dataset: Dataset) -> Flaw:
        """XNAT takes an absent date, and reads no further than the year of any other."""
        date = _raw(dataset, _STUDY_DATE)
        return "study-date" if date and not re.match(r"[0-9]{4}", date) else ""

    def _patient(self, dataset: Dataset) -> str:
        number = str(len(self.patients) + 1)
        return self.patients.setdefault(known, number) if (known := _raw(dataset, _PATIENT_ID)) else ""

    def _completeness(self, dataset: pydicom.FileDataset, sop_class: str, syntax: str) -> tuple[int, Flaw, str]:
        """(bytes of its pixel data, how it is flawed, and in words)."""
        pixel_bytes = self.inflated_pixels
        if self.pixels and self.form != "inflated":
            little_endian = dataset.original_encoding[1] is not False
            found = measure_pixels(self.stream, self.pixels, self.file.size, little_endian)
            if not found.is_whole:
                frames = _raw(dataset, _FRAMES)
                whole = _has_all_frames(found, syntax, int(frames) if frames.isdecimal() else 1)
                return (found.bytes, "unended", "") if whole else (0, "truncated", _CUT)
            pixel_bytes = found.bytes
        elif self.form != "inflated" and not self._reads_to_its_end():
            return 0, "truncated", _CUT
        if lacks := lacking(sop_class, self.has):
            return 0, "truncated", f"it has no {lacks}: it was cut, or is a header alone"
        return pixel_bytes, "", ""

    def _reads_to_its_end(self) -> bool:
        end = max(self.end, self.stream.tell())
        return self.saw_elements and end <= self.file.size and not self.stream.cut and not self.header_cut

    def _syntax(self, dataset: pydicom.FileDataset, kind: str) -> str:
        """The file's transfer syntax; where it names none, or not the one that it is in, that which it is in."""
        named = _raw(dataset.file_meta, _TRANSFER_SYNTAX)
        if self.form == "inflated":
            return named
        little_endian = dataset.original_encoding[1] is not False
        actual = IMPLICIT if not self.is_explicit else EXPLICIT if little_endian else BIG_ENDIAN
        is_wrong = not named or (named in (IMPLICIT, EXPLICIT) and named != actual)
        if (kind == "bare" or is_wrong) and self.data_bytes:
            self.form = "headed"
        return actual if is_wrong else named

    def _tags(self, dataset: Dataset) -> Mapping[str, str]:
        if not self.wanted:
            return _NO_TAGS  # one for all: memory must not grow by a dict per file
        return {keyword: intern(_text(dataset, tag)) for keyword, tag in self.wanted.items()}

    def _aside(self, reason: str, detail: str = "") -> SetAside:
        return SetAside(self.file.path, reason, detail)


def _has_all_frames(found: PixelData, syntax: str, frames: int) -> bool:
    """Whether nothing but the end of the sequence lacks, and perhaps the pad byte before it.

    A codestream tells its end; RLE does not, but has one fragment for each frame (PS3.5, A.4.2).
    """
    if syntax == _RLE:
        return found.fragments == frames and not found.lost
    return found.marked == frames and found.lost <= 1


def _raw(dataset: Dataset, tag: int) -> str:
    """First value of a string element as written, trimmed; "" when absent. No conversion, so it cannot fail."""
    if tag not in dataset:
        return ""
    value = dataset.get_item(tag).value
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return text.split("\\", 1)[0].strip(" \0\t\r\n")


def _text(dataset: Dataset, tag: int) -> str:
    """An element's value as text, in the file's character set, several values joined by a backslash."""
    if tag not in dataset:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset[tag].value
    except Exception:  # noqa: BLE001 - a value that breaks its VR is still text to a rule
        value = dataset.get_item(tag).value
    if value is None or isinstance(value, Sequence):
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    if isinstance(value, MultiValue):
        return "\\".join(str(v).strip() for v in value)
    return str(value).strip()


def header_values(head: bytes, keywords: Iterable[str]) -> Mapping[str, str]:
    """The values of DICOM keywords in a Part 10 object in memory, of which nothing but the pixels may be missing."""
    wanted = {keyword: _tag(keyword) for keyword in keywords}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags: list[BaseTag | int] = [_CHARACTER_SETS, *wanted.values()]
        dataset = read_partial(io.BytesIO(head), force=True, specific_tags=tags)
    return {keyword: intern(_text(dataset, tag)) for keyword, tag in wanted.items()}


def referenced_files(source: Source, path: str) -> list[str] | None:
    """The files that a DICOMDIR names, relative to its folder, '/'-separated; None when it cannot be read."""
    try:
        with lenient(), source.open(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory = pydicom.dcmread(stream, force=True)
            records = directory.get("DirectoryRecordSequence") or []
            found = (record.get("ReferencedFileID") for record in records)
            return ["/".join([name] if isinstance(name, str) else map(str, name)) for name in found if name]
    except Exception:  # noqa: BLE001 - the library raises many types for a damaged file
        return None


def same_bytes(source: Source, first: Instance, second: Instance) -> bool:
    """Whether two files hold the same bytes. Raises OSError."""
    if first.size != second.size:
        return False
    with source.open(first.path) as one, source.open(second.path) as other:
        while True:
            block = one.read(io.DEFAULT_BUFFER_SIZE * 16)
            if block != other.read(io.DEFAULT_BUFFER_SIZE * 16):
                return False
            if not block:
                return True
