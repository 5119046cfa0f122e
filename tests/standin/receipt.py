"""What the importer makes of an object's head before the rest of the stream is copied behind it.

XNAT 1.8 and 1.9 parse the header, write it anew and copy the rest of the raw stream (GradualDicomImporter with
dcm4che2). For two kinds of objects that does not fit together:

- *deflated*: the parser inflates behind the buffer that is reset later. The header is written deflated, a whole deflate
  stream; the object's own, whole deflate stream is copied behind it. A reader finds a header and no pixels.
- *bare* (no file meta information): the transfer syntax is taken to be explicit VR little endian. The header is written
  so, the rest is copied as it came. A bare data set of any other encoding becomes half one, half the other.

XNAT 1.10 (dcm4che3) refuses deflated objects, and takes bare ones for what they are.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import JPEG2000Lossless

from tests.standin.dicomhead import EXPLICIT_LITTLE, Head, NotDicomError

if TYPE_CHECKING:
    from tests.standin.server import StandIn

_TRANSFER_SYNTAX = 0x00020010


def received(site: StandIn, head: Head) -> Head:
    """The head as it will be stored."""
    if head.encoding.deflated:
        if site.settings.at_least("1.10"):
            raise NotDicomError("deflated transfer syntax")
        head.raw = head.raw[: head.begin] + _deflated(head.parsed) + head.raw[head.begin :]
    elif torn(site, head):
        begin, rest = head.raw[: head.begin], head.raw[head.begin + len(head.parsed) :]
        head.raw = _as_explicit(begin, head.transfer_syntax) + _explicit(head) + rest
        head.meta.values[_TRANSFER_SYNTAX] = ("UI", EXPLICIT_LITTLE.encode())
    return head


def torn(site: StandIn, head: Head) -> bool:
    """Whether the stored object is of two encodings, which no strict reader can read, the anonymiser included."""
    plain = head.encoding.explicit and head.encoding.little
    return head.bare and not plain and not site.settings.at_least("1.10")


def pre_compress(site: StandIn, path: Path) -> None:
    """What 1.10 may do to a large file once it is stored: its pixels become JPEG 2000, and fewer bytes.

    The codestream here is none that could be decoded: what a client can notice is the syntax and the size.
    """
    limit = site.settings.pre_compression
    if limit is None or not site.settings.at_least("1.10") or path.stat().st_size < limit:
        return
    data = pydicom.dcmread(path)
    if data.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in data:
        return
    shrunk = b"\xff\x4f\xff\x51" + data.PixelData[: len(data.PixelData) // 2 & ~1] + b"\xff\xd9"
    data.PixelData = encapsulate([shrunk])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data.save_as(path)


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _explicit(head: Head) -> bytes:
    """The parsed part once more, as explicit VR little endian."""
    data = read_dataset(io.BytesIO(head.parsed), not head.encoding.explicit, head.encoding.little)
    _settle(data)
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, data)
    return out.getvalue()


def _settle(data: Dataset) -> None:
    """An element that may be of two value representations is of the first, as in the receiver's dictionary."""
    for element in data:
        if element.VR == "SQ":
            for item in element.value:
                _settle(item)
        element.VR = element.VR.split(" ")[0]


def _as_explicit(begin: bytes, syntax: str) -> bytes:
    """The made-up file meta information, with the syntax that the importer takes for granted."""
    old, new = (_element(value) for value in (syntax, EXPLICIT_LITTLE))
    at = begin.index(old)
    length = struct.unpack("<I", begin[140:144])[0] + len(new) - len(old)
    return begin[:140] + struct.pack("<I", length) + begin[144:at] + new + begin[at + len(old) :]


def _element(syntax: str) -> bytes:
    raw = syntax.encode() + b"\0" * (len(syntax) % 2)
    return struct.pack("<HH2sH", 2, 0x10, b"UI", len(raw)) + raw
