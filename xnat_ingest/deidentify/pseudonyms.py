"""New UIDs and shifted dates, made from a key. The same key always gives the same ones; without it nobody can."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

from xnat_ingest.core import UsageError, printable
from xnat_ingest.core.read_small import MEGABYTE, read_small
from xnat_ingest.deidentify.forms import has_form

# The most days that dates move into the past, about ten years; at least one.
MOST_DAYS = 3650
# Below this many characters a key could be guessed.
SHORTEST_KEY = 32
_DATE = re.compile(rb"(\d{4})([.-]?)(\d{2})\2(\d{2})")
_DATETIME = re.compile(rb"(\d{4})(\d{2})(\d{2})((?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?)")


class Key:
    """A secret that UIDs and dates are made with. It is never shown.

    fingerprint: 16 digits that distinguish it from other keys.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.fingerprint = self._digest("fingerprint", b"")[:8].hex()
        self.uid = lru_cache(maxsize=65536)(self._uid)
        self.days = lru_cache(maxsize=4096)(self._days)

    def _digest(self, what: str, value: bytes) -> bytes:
        return hmac.new(self._secret, what.encode() + b"\0" + value, hashlib.sha256).digest()

    def _uid(self, uid: bytes) -> bytes:
        """The UID that replaces another: 2.25. and 128 bits (PS3.5, B.2). uid: without padding."""
        return b"2.25.%d" % int.from_bytes(self._digest("uid", uid)[:16], "big")

    def _days(self, patient: bytes) -> int:
        """By how many days a patient's dates move: a negative number. patient: what identifies the patient."""
        return -1 - int.from_bytes(self._digest("days", patient)[:8], "big") % MOST_DAYS


def read_key(path: str, environ: Mapping[str, str]) -> Key | None:
    """The key in a file, else in XNAT_INGEST_DEID_KEY; None when there is neither. Raises UsageError."""
    where, text = "XNAT_INGEST_DEID_KEY", environ.get("XNAT_INGEST_DEID_KEY", "").strip()
    if path:
        where = f"key file {printable(path)}"
        try:
            text = read_small(path, "key file", MEGABYTE, pipes=True).decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"cannot read {where}: not text") from error
    if not text or (text[0] == text[-1] == "#" and len(text) > 2):  # the container service's "not given"
        if path:
            raise UsageError(f"{where} is empty; make one with xnat-ingest identity new-key FILE")
        return None
    if len(text) < SHORTEST_KEY:
        raise UsageError(
            f"{where} is shorter than {SHORTEST_KEY} characters, so it could be guessed; make one with "
            "xnat-ingest identity new-key FILE"
        )
    return Key(text.encode("utf-8", "surrogateescape"))


def new_key(path: str) -> None:
    """Writes a new key that only its owner can read. An existing one is never replaced. Raises UsageError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{printable(path)} is there; with another key the sessions that were sent with it are strangers. Name "
            "another file"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {printable(path)}: {getattr(error, 'strerror', error)}") from error
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        with suppress(OSError):
            Path(path).unlink()
        raise UsageError(f"cannot write {printable(path)}: {error.strerror}") from error


def moved(vr: str, value: bytes, days: int) -> bytes | None:
    """A DA or DT value, or several, moved by days. TM is not changed. None when there is no whole date to move, or when
    a TM is no time: it may be a date."""
    if vr == "TM":
        return value if has_form(vr, value) else None
    if vr == "AS":
        return None
    out = []
    for text in value.split(b"\\"):
        one = text.strip(b" \0")
        new = _moved_one(vr, one, days) if one else b""
        if new is None:
            return None
        out.append(new)
    return b"\\".join(out)


def _moved_one(vr: str, text: bytes, days: int) -> bytes | None:
    found = (_DATETIME if vr == "DT" else _DATE).fullmatch(text)
    if found is None:
        return None
    if vr == "DT":
        year, month, day, rest = found.groups()
    else:
        year, _, month, day = found.groups()
        rest = b""
    try:
        there = date(int(year), int(month), int(day)) + timedelta(days)
    except (ValueError, OverflowError):
        return None
    return there.strftime("%Y%m%d").rjust(8, "0").encode() + rest


_DUMMIES: dict[str, bytes] = {
    "AE": b"ANONYMIZED",
    "AS": b"000D",
    "CS": b"ANONYMIZED",
    "DA": b"19000101",
    "DS": b"0",
    "DT": b"19000101000000",
    "IS": b"0",
    "TM": b"000000",
    "UI": b"2.25.0",
    "UR": b"urn:anonymized",
    "FD": bytes(8),
    "SV": bytes(8),
    "UV": bytes(8),
    "FL": bytes(4),
    "SL": bytes(4),
    "UL": bytes(4),
    "AT": bytes(4),
    "SS": bytes(2),
    "US": bytes(2),
    "OB": bytes(2),
    "OW": bytes(2),
    "UN": bytes(2),
    "OF": bytes(4),
    "OL": bytes(4),
    "OD": bytes(8),
    "OV": bytes(8),
}


def dummy(vr: str) -> bytes:
    """A dummy that is valid for the VR."""
    return _DUMMIES.get(vr, b"ANONYMIZED")
