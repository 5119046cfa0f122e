"""Single compressed files such as IM1.dcm.gz, read as the file inside: some data sets are published this way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from xnat_ingest.core import SetAside, SourceFile
from xnat_ingest.inputs.archive_kinds import archive_kind_of
from xnat_ingest.inputs.archive_members import TOO_LARGE, DecompressionGuard
from xnat_ingest.inputs.dicom_file import START, sniff
from xnat_ingest.inputs.source import Source
from xnat_ingest.inputs.unpacking import BLOCK, CORRUPT, PACKINGS, Packing, unpacked

# The suffixes of files that are read. DICOM in a compressed file of another name is reported as a problem.
SUFFIXES = (".gz", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class _Compressed:
    """size: unpacked, in bytes.
    status: of the compressed file when that was counted.
    """

    packing: Packing
    size: int
    status: tuple[int, int]


class CompressedFiles:
    """A source in which compressed DICOM files appear uncompressed. Everything else, such as .nii.gz, is unchanged."""

    def __init__(self, source: Source, check_stop: Callable[[], None]) -> None:
        self._source = source
        self._check_stop = check_stop
        self._found: dict[str, _Compressed] = {}

    def files(self) -> Iterator[SourceFile | SetAside]:
        for found in self._source.files():
            if isinstance(found, SourceFile) and found.path.lower().endswith(SUFFIXES):
                yield self._look(found)
            else:
                yield found

    def open(self, path: str) -> BinaryIO:
        stream = self._source.open(path)
        known = self._found.get(path)
        return cast(BinaryIO, unpacked(stream, known.packing)) if known else stream

    def stat(self, path: str) -> tuple[int, int]:
        """Size and time. A compressed file that has changed gets its own size, which differs from the planned one."""
        status = self._source.stat(path)
        known = self._found.get(path)
        return (known.size, status[1]) if known and known.status == status else status

    def changed_ns(self, path: str) -> int:
        return self._source.changed_ns(path)

    def in_order(self, path: str) -> bool:
        return self._source.in_order(path)

    def name_of(self, folder: str) -> str:
        return self._source.name_of(folder)

    def _look(self, file: SourceFile) -> SourceFile | SetAside:
        """A compressed file as the file inside it, when that is DICOM."""
        holds_dicom = False
        try:
            with self._source.open(file.path) as stream:
                kind = archive_kind_of(stream)
                if kind not in PACKINGS:
                    return file
                stream.seek(0)
                packing = cast(Packing, kind)
                inside = unpacked(stream, packing)
                size = len(start := inside.read(START))
                holds_dicom = sniff(start) != "other"
                if not holds_dicom:
                    return file
                bombs = DecompressionGuard(file.size)
                while block := inside.read(BLOCK):
                    self._check_stop()
                    size += len(block)
                    if bombs.adds(len(block)):
                        return SetAside(file.path, "too-large", TOO_LARGE)
        except OSError as error:
            if not holds_dicom:
                return file  # reading its header will show what is wrong
            if error.strerror != CORRUPT:
                return SetAside(file.path, "unreadable", error.strerror or "cannot be read")
            return SetAside(file.path, "truncated", f"a {kind} file that is truncated or corrupt; fetch it again")
        self._found[file.path] = _Compressed(packing, size, (file.size, file.mtime_ns))
        return SourceFile(file.path, size, file.mtime_ns)
