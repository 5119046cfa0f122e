"""Text that is packed into other text: base64, hexadecimal digits, percent signs, escapes of single letters."""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterator
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
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def unpacked(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, what it stands for) of every run of characters that may be packed. Where it begins within the run is
    not known, so a run has several readings."""
    for found in _BASE64.finditer(data):
        run = found[0]
        if not run.isdigit():
            run = run.translate(_URL_SAFE, b"\r\n")
            for first in range(4):
                yield found.start(), found.end(), _from_base64(run[first:])
    for found in _HEXADECIMAL.finditer(data):
        for first in range(2):
            run = found[0][first:]
            yield found.start(), found.end(), bytes.fromhex(run[: len(run) // 2 * 2].decode("ascii"))
    if b"%" in data:
        for found in _PRINTED.finditer(data):
            if _PERCENT.search(found[0]):
                yield found.start(), found.end(), unquote_to_bytes(found[0])
    if any(mark in data for mark in _MARKS):
        for found in _LINES.finditer(data):
            if _ESCAPED_BYTES.search(found[0]):
                yield found.start(), found.end(), _unescaped(found[0])


def _from_base64(run: bytes) -> bytes:
    size = len(run) - (len(run) % 4 == 1)  # a single character more holds nothing
    return binascii.a2b_base64(run[:size] + b"=" * (-size % 4))


def _unescaped(run: bytes) -> bytes:
    """In UTF-8, whatever it was written in."""
    try:
        text = run.decode("utf-8")
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
