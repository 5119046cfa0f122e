"""Any header, read by the library: what a file is, how far it reads, whether it is whole, what it says."""

from __future__ import annotations

import io
import itertools
import logging
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

import pydicom
import pydicom.uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag

from xnat_ingest.core import (
    BEGINS_WITH_ZEROS,
    ICLOUD,
    INFLATED,
    PLAIN_TEXT,
    POINTER,
    ZEROS,
    Flaw,
    Form,
    Instance,
    SetAside,
    SourceFile,
    Stopped,
    is_bug,
)
from xnat_ingest.inputs.archive_kinds import archive_kind_of, is_plain_text, is_pointer
from xnat_ingest.inputs.behind_pixels import is_cut_behind
from xnat_ingest.inputs.deflated_header import LONGEST, measure_deflated
from xnat_ingest.inputs.dicom_dataset import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    EndsInside,
    NotWalkable,
    PeekableStream,
    blocks_of,
    is_explicit,
    skip_meta,
)
from xnat_ingest.inputs.dicom_file import (
    START,
    UNDEFINED,
    PixelData,
    TruncationDetector,
    is_followed,
    is_padded,
    measure_pixels,
    moved_prefix,
    sniff,
)
from xnat_ingest.inputs.header_text import full_text, raw_text
from xnat_ingest.inputs.instances import (
    BASE_TAGS,
    CHARACTER_SET,
    FRAMES,
    MEDIA_DIRECTORY,
    MODALITY,
    SOP_CLASS,
    SOP_UID,
    UID,
    has_no_uid,
    invalid_uids,
    make_instance,
)
from xnat_ingest.inputs.nested_archive import judge_nested, judge_rare
from xnat_ingest.inputs.outgoing import file_head
from xnat_ingest.inputs.sop_classes import DECISIVE, PIXEL_TAGS, lacking
from xnat_ingest.inputs.source import go_on
from xnat_ingest.inputs.system_names import is_only_called_encrypted, may_be_image
from xnat_ingest.inputs.undefined_length import TooDeep, pass_over
from xnat_ingest.inputs.unpacking import ChecksummedStream
from xnat_ingest.inputs.zeros import pass_zeros

_RLE = "1.2.840.10008.1.2.5"
_SEVERAL = "several DICOM files, one behind the other; divide it into one file for each"
_CUT = "the file ends before its data does"
_SHRUNK = "it has become shorter since it was listed. Is it still being written? Run again when it is complete"
_NOT_SENT = "more than padding follows its deflated data set, and would not be sent; see what it is, and take it out"
_OVERWRITTEN = "zeros stand in the middle of its data set"
_CUT_BEHIND = "the file ends inside an element behind its pixel data"

_ENDLESS_META = "its meta information takes more than 16 MiB; see what is in it, and export or fetch the file again"

_MEDIA_SOP_CLASS, _TRANSFER_SYNTAX = 0x00020002, 0x00020010
# Bytes of a SpecificCharacterSet. All that the standard has are about 300.
_LONGEST_SETS = 1024
# Bytes of meta information, which the library holds in memory. A few hundred are usual.
_MOST_META = 16 << 20
# Block size in bytes when only the meta information is needed.
_LITTLE = 4096

logging.getLogger("pydicom").addHandler(logging.NullHandler())


# What is said of a file that is no DICOM and may be of a rare kind.
_MAY_BE_RARE = ("", BEGINS_WITH_ZEROS, PLAIN_TEXT)


@contextmanager
def lenient() -> Iterator[None]:
    """Makes pydicom read as leniently as it can: a file that breaks a rule of the standard is still a person's data.

    The setting belongs to the whole process, so it is restored: another program may be using us as a library.
    """
    settings = pydicom.config.settings
    before = settings.reading_validation_mode
    settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode = before


def library_instance(
    file: SourceFile,
    stream: BinaryIO,
    wanted: dict[str, int],
    patients: dict[str, str],
    *,
    accept_truncated: bool = False,
    check_stop: Callable[[], None] = go_on,
) -> Instance | SetAside:
    """Reads any file with pydicom. wanted: keyword -> tag. For the others see scan. Raises OSError."""
    with lenient():
        watched = TruncationDetector(stream, check_stop)
        found = _Header(file, watched, wanted, patients, accept_truncated=accept_truncated).judge()
        is_unpacked = isinstance(stream, ChecksummedStream)
        if isinstance(found, SetAside) and found.reason == "not-dicom" and found.detail in _MAY_BE_RARE:
            found = judge_rare(cast(BinaryIO, watched), found, None if is_unpacked else file.size)
        if isinstance(found, SetAside) and not found.is_problem and isinstance(stream, ChecksummedStream):
            stream.read_on(check_stop)  # a damaged file must not pass as one without DICOM
        return found


class _Read:
    """The values of a data set that pydicom has read."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def first(self, tag: int) -> str:
        return raw_text(self._dataset, tag)

    def full(self, tag: int) -> str:
        return full_text(self._dataset, tag)


def _is_icloud(path: str, start: bytes) -> bool:
    """Whether it is what macOS leaves in place of a file that it has moved to iCloud: .IM1.icloud for IM1."""
    return start.startswith(b"bplist") and path.endswith(".icloud")


class _Header:
    """One file's header: how far it can be read, whether the file is complete, and what the header says."""

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
        self.last = 0  # the last element's tag
        self.descends = file.size  # where the first element is whose tag is lower than the one before
        self.pixels: tuple[str | None, int] | None = None  # VR and length of the pixel data element
        self.inflated_pixels = 0  # bytes of the pixel data in a deflate stream
        self.is_cut_behind = False  # the data set in a deflate stream ends inside an element behind its pixels
        self.has: set[int] = set()  # which decisive elements it has
        self.zeros = 0  # the position behind zeros that stand where the next element should
        self.header_cut = False
        self.is_followed = False  # another DICOM file begins behind the data set
        self.loses = False  # something follows that is not sent with it
        self.unwanted: tuple[int, str | None, int] | None = None  # start, VR and length of a value that is skipped
        self.tags = frozenset((*BASE_TAGS, *wanted.values()))
        self.is_explicit = True
        self.saw_elements = False
        self.saw_uid = False

    def judge(self) -> Instance | SetAside:
        start = self.stream.read(START)
        kind = sniff(start)
        if kind in ("other", "moved"):
            if len(start) < min(START, self.file.size):
                return self._aside("unreadable", _SHRUNK)
            self.stream.seek(0)
            stream = cast(BinaryIO, self.stream)
            archive = archive_kind_of(stream)
            if archive:
                return judge_nested(self.file.path, stream, archive, self.file.size)
            at = moved_prefix(start)
            # NIfTI images and the like may have a DICOM header in them.
            if kind == "moved" and (at >= 0 or may_be_image(self.file.path.rpartition("/")[2])):
                why = f"{at - 128} bytes too many" if at > 128 else f"{128 - at} bytes missing"
                why = why if at >= 0 else "bytes missing or overwritten"
                return self._aside("unreadable", f"a DICOM file with {why} at its start; export or fetch it again")
            return self._aside("not-dicom", self._told(start))
        try:
            syntax = self._pass_meta(start)
            if self.head_size > _MOST_META:
                return self._aside("unreadable", _ENDLESS_META)
            if syntax in INFLATED:
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

    def _told(self, start: bytes) -> str:
        """What is said of a file that is no DICOM; "" when nothing is known. start: how it begins."""
        if is_pointer(start):
            return POINTER
        if _is_icloud(self.file.path, start):
            return ICLOUD
        if is_only_called_encrypted(self.file.path.rpartition("/")[2]) and is_plain_text(start):
            return PLAIN_TEXT
        if any(start) or not start:
            return ""
        return ZEROS if self._is_all_zeros() else BEGINS_WITH_ZEROS

    def _is_all_zeros(self) -> bool:
        """Whether the file is zeros to its end, or far enough: one with a hole may be larger than any disk."""
        self.stream.seek(0)
        return not pass_zeros(cast(BinaryIO, self.stream))[1]

    def _damaged(self, error: Exception, kind: str) -> SetAside:
        # pydicom wraps an error inside a sequence into an OSError of its own.
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
        with suppress(NotWalkable):  # pydicom may still be able to read it
            syntax = skip_meta(source)
            self.head_size, self.data_bytes = source.taken, self.file.size - source.taken
            self.is_explicit = is_explicit(source)
        self.stream.seek(0)
        return syntax

    def _read_inflated(self) -> pydicom.FileDataset:
        """The wanted elements of a deflated data set. It is read to its end, because its length must be known."""
        packed = PeekableStream(blocks_of(cast(BinaryIO, self.stream)))
        syntax = skip_meta(packed)
        begin = packed.taken
        wanted = {CHARACTER_SET, *BASE_TAGS, *self.wanted.values()}
        found = measure_deflated(packed.rest(), wanted, self.stream.check_stop)
        end = begin + found.packed
        self.is_followed = is_followed(self.stream, end, self.file.size)
        self.loses = not is_padded(self.stream, end, self.file.size)
        dataset = self._read(io.BytesIO(file_head("", "", EXPLICIT) + found.elements))
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        self.form, self.data_bytes = "inflated", found.length
        self.inflated_pixels, self.has = found.pixel_bytes, set(found.has)
        self.is_cut_behind = found.is_cut_behind
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
        if any("End of file" in str(w.message) for w in said):  # pydicom's only sign of a truncated header
            if not self.accept_truncated:
                raise EOFError
            self.header_cut = True
        return dataset

    def _pass_over(self, stream: BinaryIO, order: str) -> None:
        """Skips the value at which pydicom stopped. Raises NotWalkable."""
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
        """pydicom calls this before each value. It notes where the value ends.

        It stops at pixel data, at large values that are not needed, and where zeros follow the data set.
        """
        if not self.data_bytes:  # the first call is a guess, and a damaged element may have no VR in any data set
            self.is_explicit = vr is not None
        self.saw_elements = True
        self.has |= DECISIVE & {tag}
        self.saw_uid |= tag in (SOP_CLASS, SOP_UID)
        if tag in PIXEL_TAGS:
            self.pixels = (vr, length)
            return True
        if tag == 0:
            self.zeros = self.stream.tell()
            return True
        if tag < self.last:
            self.descends = min(self.descends, self.stream.tell())
        self.last = tag
        # The library reads character sets, too, and looks each of them up.
        most = _LONGEST_SETS if tag == CHARACTER_SET else LONGEST
        if length > most and (length == UNDEFINED or tag in self.tags or tag == CHARACTER_SET):
            self.unwanted = (self.stream.tell(), vr, length)
            return True
        # For a deflated file pydicom reads another stream, in which these positions mean nothing.
        self.end = self.stream.tell() + length if length != UNDEFINED else 0
        return False

    def _instance(self, dataset: pydicom.FileDataset, kind: str) -> Instance | SetAside:
        syntax = self._syntax(dataset, kind)
        values = _Read(dataset)
        sop_class = values.first(SOP_CLASS)
        if MEDIA_DIRECTORY in (sop_class, raw_text(dataset.file_meta, _MEDIA_SOP_CLASS)):
            return self._aside("dicomdir")
        pixel_bytes, flaw, why = self._completeness(dataset, sop_class, syntax)
        if self.is_followed or self._has_read_on():
            return self._aside("unreadable", _SEVERAL)
        if self.loses:
            return self._aside("unreadable", _NOT_SENT)
        invalid = invalid_uids(values)
        if kind == "bare" and has_no_uid(invalid) and not values.first(MODALITY):
            return self._aside("not-dicom")
        if flaw == "truncated" and not self.accept_truncated:
            return self._aside("truncated", why)
        if not UID.fullmatch(syntax):  # it goes into meta information and associations, which are ASCII
            invalid.append("TransferSyntaxUID")
        if invalid:
            return self._aside("no-uid", f"no valid {', '.join(invalid)}")
        if self.form == "headed" and self._has_damaged_head():
            return self._aside("unreadable", "its meta information is damaged; export or fetch it again")
        if self.form != "file":
            self.head_size = len(file_head(sop_class, values.first(SOP_UID), INFLATED.get(syntax, syntax)))
        return make_instance(
            self.file,
            values,
            self.wanted,
            self.patients,
            syntax=syntax,
            pixel_bytes=pixel_bytes,
            form=self.form,
            head_size=self.head_size,
            data_bytes=self.data_bytes,
            flaw=flaw,
        )

    def _completeness(self, dataset: pydicom.FileDataset, sop_class: str, syntax: str) -> tuple[int, Flaw, str]:
        """(bytes of its pixel data, its flaw, the flaw in words)."""
        pixel_bytes = self.inflated_pixels
        if self.pixels and self.form != "inflated":
            little_endian = dataset.original_encoding[1] is not False
            found = measure_pixels(self.stream, self.pixels, self.file.size, little_endian)
            if not found.is_whole:
                frames = raw_text(dataset, FRAMES)
                whole = _has_all_frames(found, syntax, int(frames) if frames.isdecimal() else 1)
                return (found.bytes, "unended", "") if whole else (0, "truncated", _CUT)
            pixel_bytes = found.bytes
            explicit = self.is_explicit if little_endian else None
            self.is_followed = is_followed(self.stream, found.end, self.file.size, explicit=explicit)
            order = "<" if little_endian else ">"
            if is_cut_behind(self.stream, found.end, self.file.size, explicit=self.is_explicit, order=order):
                return found.bytes, "truncated", _CUT_BEHIND
        elif self.form == "inflated":
            if self.is_cut_behind:
                return pixel_bytes, "truncated", _CUT_BEHIND
        else:
            reads_to_its_end = self._reads_to_its_end()
            # The first bytes of another file may have been taken for elements.
            begin = max(132, min(self.end, self.stream.tell()) - 256)
            self.is_followed = is_followed(self.stream, begin, self.file.size)
            if not reads_to_its_end:
                return 0, "truncated", _CUT
            if self.zeros and not self.has and self._goes_on_behind(self.zeros):
                return 0, "truncated", _OVERWRITTEN
        if absent := lacking(sop_class, self.has):
            return 0, "truncated", f"it has no {absent}: it was truncated, or is only a header"
        return pixel_bytes, "", ""

    def _goes_on_behind(self, zeros: int) -> bool:
        """Whether something other than padding follows zeros that stand in place of an element."""
        self.stream.seek(zeros)
        return bool(pass_zeros(cast(BinaryIO, self.stream), self.stream.check_stop)[1])

    def _has_read_on(self) -> bool:
        """Whether the elements of another file, behind this one, were taken for its own."""
        if self.form == "inflated" or self.descends >= self.file.size:
            return False
        return is_followed(self.stream, max(132, self.descends - 256), self.file.size)

    def _reads_to_its_end(self) -> bool:
        end = max(self.end, self.stream.tell())
        return self.saw_elements and end <= self.file.size and not self.stream.cut and not self.header_cut

    def _syntax(self, dataset: pydicom.FileDataset, kind: str) -> str:
        """The transfer syntax that the file names, or the actual one when it names none or a wrong one."""
        named = raw_text(dataset.file_meta, _TRANSFER_SYNTAX)
        if self.form == "inflated":
            return named
        little_endian = dataset.original_encoding[1] is not False
        actual = IMPLICIT if not self.is_explicit else EXPLICIT if little_endian else BIG_ENDIAN
        is_wrong = not named or (named in (IMPLICIT, EXPLICIT) and named != actual)
        if (kind == "bare" or is_wrong) and self.data_bytes:
            self.form = "headed"
        return actual if is_wrong else named

    def _has_damaged_head(self) -> bool:
        """Whether the data set would begin with a rest of the meta information, since that has a wrong length.

        Its first group is 0008 or a later one, in either byte order.
        """
        at = self.stream.tell()
        self.stream.seek(self.head_size)
        first = self.stream.read(2)
        self.stream.seek(at)
        return min(int.from_bytes(first, "little"), int.from_bytes(first, "big")) < 8

    def _aside(self, reason: str, detail: str = "") -> SetAside:
        return SetAside(self.file.path, reason, detail)


def _has_all_frames(found: PixelData, syntax: str, frames: int) -> bool:
    """Whether only the sequence delimiter is missing, and perhaps the pad byte before it.

    A codestream has an end marker. RLE has none, but exactly one fragment for each frame (PS3.5, A.4.2).
    """
    if syntax == _RLE:
        return found.fragments == frames and not found.lost
    return found.marked == frames and found.lost <= 1
