"""Text that is packed into other text: base64, hexadecimal digits, percent signs, escapes of single letters."""

from __future__ import annotations

import binascii
import html
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

# As long as a short name makes.
_SHORTEST = 12
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\r\n-]{%d,}" % _SHORTEST)
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{%d,}" % _SHORTEST)
_PRINTED = re.compile(rb"[!-~]{%d,}" % len("%41"))
_PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
# One letter as XML and HTML, RTF, JSON and many languages write it: &#252; or &uuml;, \'fc or \u252?, \u00fc, \xfc.
_ESCAPED = (
    r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});|\\u(?P<number>\d{1,5}) ?\?"
    r"|\\['x](?P<byte>[0-9A-Fa-f]{2})|(?P<units>(?:\\u[0-9A-Fa-f]{4})+)"
)
_MARKS = (b"&", rb"\u", rb"\x", rb"\'")
_ESCAPED_LETTER, _ESCAPED_BYTES = re.compile(_ESCAPED), re.compile(_ESCAPED.encode())
_LINES = re.compile(rb"[^\x00-\x08\x0b\x0c\x0e-\x1f]{%d,}" % len("&#1;"))
# Characters of a run that are read at once, and the most that stand for one byte: &#0000252;
_PIECE, _MOST_FOR_ONE = 256 * 1024, 10
# What a character of UTF-8 does not begin with.
_CONTINUED = bytes(range(0x80, 0xC0))
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class View(NamedTuple):
    """One reading of a piece of a run.

    begin, end: of the run.
    data: what the piece stands for.
    is_first, is_last: of the run's pieces. Elsewhere a piece may begin and end within a letter or a word.
    """

    begin: int
    end: int
    data: bytes
    is_first: bool
    is_last: bool

    def has_whole(self, begin: int, end: int, around: int) -> bool:
        """Whether this stretch of data is read as it is in the run, and so much on either side of it."""
        return (self.is_first or begin >= around) and (self.is_last or end <= len(self.data) - around)


def unpacked(data: bytes, overlap: int) -> Iterator[View]:
    """The readings of every run of characters that may be packed. Where it begins within the run is not known, so a run
    has several. Long runs are read in pieces, so that they take little memory.

    overlap: how many bytes two pieces have in common, once they are read.
    """
    for marks, runs, drop, read in _PACKINGS:
        for found in runs.finditer(data) if any(mark in data for mark in marks) else ():
            for piece in _pieces(data, *found.span(), overlap * _MOST_FOR_ONE + _MOST_FOR_ONE, drop):
                for view in read(piece):
                    yield View(*found.span(), view, piece.is_first, piece.is_last)


class _Piece(NamedTuple):
    data: bytes
    is_first: bool
    is_last: bool


def _pieces(data: bytes, begin: int, end: int, overlap: int, drop: bytes) -> Iterator[_Piece]:
    held, step = b"", max(_PIECE, overlap)
    for at in range(begin, end, step):
        until = min(at + step, end)
        held = held[-overlap:] + data[at:until].translate(None, drop)
        yield _Piece(held, at == begin, until == end)


def _base64(piece: _Piece) -> Iterator[bytes]:
    run = piece.data
    if not run.isdigit():
        run = run.translate(_URL_SAFE)
        yield from (_from_base64(run[first:]) for first in range(4))


def _hexadecimal(piece: _Piece) -> Iterator[bytes]:
    for first in range(2):
        run = piece.data[first:]
        yield bytes.fromhex(run[: len(run) // 2 * 2].decode("ascii"))


def _percent(piece: _Piece) -> Iterator[bytes]:
    if _PERCENT.search(piece.data):
        yield unquote_to_bytes(piece.data)


def _escaped(piece: _Piece) -> Iterator[bytes]:
    if any(mark in piece.data for mark in _MARKS) and _ESCAPED_BYTES.search(piece.data):
        yield _unescaped(piece)


def _from_base64(run: bytes) -> bytes:
    size = len(run) - (len(run) % 4 == 1)  # a single character more holds nothing
    return binascii.a2b_base64(run[:size] + b"=" * (-size % 4))


def _unescaped(piece: _Piece) -> bytes:
    """In UTF-8, whatever it was written in."""
    run = piece.data if piece.is_first else piece.data.lstrip(_CONTINUED)
    try:
        text = getincrementaldecoder("utf-8")().decode(run, piece.is_last)
    except UnicodeDecodeError:
        text = run.decode("latin-1")
    return _ESCAPED_LETTER.sub(_letter, text).encode("utf-8", "replace")


def _letter(escaped: re.Match[str]) -> str:
    if number := escaped["number"]:
        return chr(int(number))
    if byte := escaped["byte"]:
        return chr(int(byte, 16))
    if units := escaped["units"]:
        return bytes.fromhex(units.replace("\\u", "")).decode("utf-16-be", "replace")
    return html.unescape(escaped[0])


# Of each packing: marks, one of which it has; the runs that may be it; what is left out of them; how they are read.
_PACKINGS = (
    ((b"",), _BASE64, b"\r\n", _base64),
    ((b"",), _HEXADECIMAL, b"", _hexadecimal),
    ((b"%",), _PRINTED, b"", _percent),
    (_MARKS, _LINES, b"", _escaped),
)
