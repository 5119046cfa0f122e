"""The frame of a tar's members: headers, padding and the end. All tars that are sent are made of them.

tarfile cannot write a tar in pieces with a length that is known before.
"""

from __future__ import annotations

import tarfile

END = b"\0" * (2 * tarfile.BLOCKSIZE)

# A header without name and size, and the sum of its bytes but for those: its own sum counts as blanks.
_BARE = tarfile.TarInfo().tobuf(tarfile.PAX_FORMAT)
_BARE_SUM = sum(_BARE[:124]) + sum(_BARE[136:148]) + 8 * ord(" ") + sum(_BARE[156:])


def header(name: str, size: int) -> bytes:
    """The header of a member with this name and this many bytes: what tarfile writes, which takes ten times as long.

    Names that are not ASCII get a PAX header, so that they do not depend on the server's locale. What UTF-8 cannot
    encode is written with a backslash. There are no times in it, so the same files give the same tar.
    """
    if not _is_plain(name, size):
        return _with_pax(name, size)
    encoded = name.encode("ascii")
    octal = b"%011o" % size
    total = _BARE_SUM + sum(encoded) + sum(octal)
    return b"".join((encoded.ljust(100, b"\0"), _BARE[100:124], octal, _BARE[135:148], b"%06o" % total, _BARE[154:]))


def padding(size: int) -> bytes:
    """What follows a member's bytes."""
    return bytes(-size % tarfile.BLOCKSIZE)


def member_size(name: str, size: int) -> int:
    """Bytes of a member in the tar: its header, its own bytes, the padding."""
    head = tarfile.BLOCKSIZE if _is_plain(name, size) else len(_with_pax(name, size))
    return head + size + -size % tarfile.BLOCKSIZE


def _is_plain(name: str, size: int) -> bool:
    """Whether a plain header can hold the name and the size."""
    return len(name) <= tarfile.LENGTH_NAME and name.isascii() and size < 8**11


def _with_pax(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "backslashreplace")
