"""Recognises encrypted content, and content that was made text of, by how a file begins."""

from __future__ import annotations

import base64
import binascii
import io
import re

from xnat_ingest.inputs.archive_kinds import archive_kind_of
from xnat_ingest.inputs.dicom_file import sniff

ENCODED_START = 8192  # bytes that tell
_PGP = "a message of PGP"
_AGE = "a file encrypted with age"
_OPENSSL = "a file encrypted with openssl"
_CMS = "an encrypted or signed message (CMS)"
_SCRYPT = "a file encrypted with scrypt"
_AES_CRYPT = "a file encrypted with AES Crypt"
_CRYPT4GH = "a file encrypted with crypt4gh"
_LUKS = "an encrypted disk (LUKS)"
_TEXTS = {
    b"-----BEGIN PGP MESSAGE": _PGP,
    b"-----BEGIN AGE ENCRYPTED FILE": _AGE,
    b"-----BEGIN PKCS7": _CMS,
    b"-----BEGIN CMS": _CMS,
    b"U2FsdGVkX1": _OPENSSL,  # its mark as base64
}
_BYTES = {
    b"age-encryption.org/v": _AGE,
    b"Salted__": _OPENSSL,
    b"scrypt\0": _SCRYPT,
    b"AES\2\0": _AES_CRYPT,
    b"AES\3\0": _AES_CRYPT,
    b"crypt4gh\1\0\0\0": _CRYPT4GH,
    b"LUKS\xba\xbe\0": _LUKS,
}
_HEADERS = (b"MIME-Version:", b"Content-", b"To:", b"From:", b"Subject:")  # openssl writes a mail
# A CMS message in binary: a sequence, and the number of its type, enveloped or authenticated and enveloped data.
_TYPES = rb"\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03|\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17"
_ENVELOPED = re.compile(rb"0(?:\x80|[\x81-\x84].{1,4})\x06(?:%s)" % _TYPES, re.DOTALL)
ENCRYPTED_KINDS = frozenset({*_TEXTS.values(), *_BYTES.values()})

_UU = "a uuencoded file"
_BASE64 = "an archive or an image as text (base64)"
_ASCII85 = "an archive or an image as text (ascii85)"
_SHAR = "a shell archive (shar)"
ENCODED_KINDS = frozenset({_UU, _BASE64, _ASCII85, _SHAR})
_SHAR_SAYS = b"This is a shell archive"
_SHAR_MARK = re.compile(rb"^[#:]+ *%s" % _SHAR_SAYS, re.MULTILINE)
_UU_BEGIN = re.compile(rb"^begin(-base64)? [0-7]{3,4} [^\r\n]+\r?\n([^\r\n]+)", re.MULTILINE)
_LETTERS = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_BLOCK = re.compile(rb"[A-Za-z0-9+/]{60,}(?:\r?\n[A-Za-z0-9+/]+)*")
_BLANKS = b" \t\r\n\f\v"
_WEAK = frozenset({"compress", "lzma"})  # two or three bytes tell them, which letters may hold by chance
_MOST_BLOCKS = 100


def encoded_kind(start: bytes) -> str:
    """Which of ENCRYPTED_KINDS or ENCODED_KINDS begins with these ENCODED_START bytes; "" for none."""
    text = start[:ENCODED_START].removeprefix(b"\xef\xbb\xbf").lstrip(_BLANKS)
    return _begun(start, _BYTES) or _begun(text, _TEXTS) or _told_by_structure(start, text)


def holds_encoded(text: bytes) -> bool:
    """Whether a script has content in it that is uuencoded, or that is an archive or an image as base64."""
    if any(map(_is_uu, _UU_BEGIN.finditer(text))):
        return True
    blocks = (found for found, _ in zip(_BLOCK.finditer(text), range(_MOST_BLOCKS), strict=False))
    return any(_is_content(_from_base64(found[0][: 2 * ENCODED_START]), compressed=False) for found in blocks)


def _begun(start: bytes, marks: dict[bytes, str]) -> str:
    return next((marks[mark] for mark in marks if start.startswith(mark)), "")


def _told_by_structure(start: bytes, text: bytes) -> str:
    if _ENVELOPED.match(start) or (text.startswith(_HEADERS) and b"pkcs7-mime" in text[:1024]):
        return _CMS
    if _is_openpgp(start):
        return _PGP
    if text.startswith((b"#", b":")) and _SHAR_SAYS in text and _SHAR_MARK.search(text):
        return _SHAR
    if (found := _UU_BEGIN.match(text)) and _is_uu(found):
        return _UU
    if text.startswith(b"<~") and _is_content(_from_ascii85(text[2:])):
        return _ASCII85
    packed = text[:1024].translate(None, _BLANKS)
    if _LETTERS.fullmatch(packed) and _is_content(_from_base64(text)):
        return _BASE64
    return ""


def _is_content(data: bytes, *, compressed: bool = True) -> bool:
    """Whether bytes are the start of an archive or of an image. compressed: a compressed file counts, too."""
    kind = archive_kind_of(io.BytesIO(data))
    if kind in ("gzip", "damaged gzip"):
        return compressed
    return sniff(data) != "other" or (kind is not None and kind not in _WEAK)


def _from_base64(text: bytes) -> bytes:
    letters = text.translate(None, _BLANKS).partition(b"=")[0]
    with_whole_groups = letters[: len(letters) // 4 * 4]
    try:
        return binascii.a2b_base64(with_whole_groups)
    except ValueError:
        return b""


def _from_ascii85(text: bytes) -> bytes:
    letters = text.partition(b"~")[0].translate(None, _BLANKS).replace(b"z", b"!!!!!")
    try:
        return base64.a85decode(letters[: len(letters) // 5 * 5])
    except ValueError:
        return b""


def _is_uu(found: re.Match[bytes]) -> bool:
    """Whether the line behind `begin 644 name` is one: its first character gives the length. shar puts an X before."""
    if found[1]:
        return bool(_LETTERS.fullmatch(found[2]))
    return _is_uu_line(found[2]) or _is_uu_line(found[2].removeprefix(b"X"))


def _is_uu_line(line: bytes) -> bool:
    """Spaces at the end of a line may have been lost, and a character for a checksum may have been added."""
    if not line or not all(32 <= letter <= 96 for letter in line):
        return False
    letters = ((line[0] - 32 & 63) + 2) // 3 * 4
    return letters > 0 and letters // 2 <= len(line) - 1 <= letters + 1


_SESSION_KEYS = {1: (3, 6), 3: (4, 5, 6)}  # the tag of a packet of OpenPGP -> its versions
_ENCRYPTED_DATA = {18: (1, 2), 20: (1,)}


def _is_openpgp(start: bytes) -> bool:
    """Whether packets with the keys of a message come first, and then its encrypted data (RFC 9580, section 4)."""
    at = keys = 0
    while packet := _packet(start, at):
        tag, body, size = packet
        version = start[body : body + 1]
        if tag in _ENCRYPTED_DATA:
            return keys > 0 and bool(version) and version[0] in _ENCRYPTED_DATA[tag]
        if tag not in _SESSION_KEYS or not version or version[0] not in _SESSION_KEYS[tag] or not size:
            return False
        keys += 1
        at = body + size
    return False


def _packet(data: bytes, at: int) -> tuple[int, int, int] | None:
    """A packet's tag, where its body begins, and the body's length; 0 for one that is not told at once."""
    if len(data) < at + 6 or not data[at] & 0x80:
        return None
    first = data[at + 1]
    if not data[at] & 0x40:
        width = (1, 2, 4, 0)[data[at] & 3]
        return data[at] >> 2 & 15, at + 1 + width, int.from_bytes(data[at + 1 : at + 1 + width], "big")
    tag = data[at] & 63
    if first < 192:
        return tag, at + 2, first
    if first < 224:
        return tag, at + 3, (first - 192 << 8) + data[at + 2] + 192
    return (tag, at + 6, int.from_bytes(data[at + 2 : at + 6], "big")) if first == 255 else (tag, at + 2, 0)
