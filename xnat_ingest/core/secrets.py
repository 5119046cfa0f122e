"""Secrets that must never be shown, in every form a server may echo, and how text from outside is shown."""

from __future__ import annotations

import html
import json
import re
import threading
import unicodedata
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from xnat_ingest.core.text import printable

HIDDEN = "***"
# Shorter words turn up in too many texts by chance: with the password `xnat`, every address would be hidden. Server
# answers are still searched for short ones (client.py).
_SHORTEST = 6
_MOST = 500
_SESSION = re.compile(r"(JSESSIONID=)[\w.!~-]+")

_known: dict[str, None] = {}
_lock = threading.Lock()


def remember(*secrets: str) -> None:
    """From now on these are never shown. When there are too many, the oldest are dropped: login sessions expire."""
    with _lock:
        for secret in secrets:
            for form in _forms(secret):
                _known.pop(form, None)
                _known[form] = None
        for form in list(_known)[:-_MOST]:
            del _known[form]


def remember_login(user: str, password: str) -> None:
    """The password, and the value of the header that carries it, as we write it and as a server may."""
    login = f"{user}:{password}"
    remember(password, *(b64encode(login.encode(charset, "replace")).decode() for charset in ("utf-8", "latin-1")))


def redact(text: str) -> str:
    """The text without secrets."""
    with _lock:
        known = sorted(_known, key=len, reverse=True)
    for form in known:
        if form in text:
            text = text.replace(form, HIDDEN)
    return _SESSION.sub(rf"\g<1>{HIDDEN}", text)


def sayable(text: str) -> str:
    """Text that may include foreign text, made safe to show: one line, no control characters, no secrets."""
    return printable(redact(text))


def harmless(value: Any) -> Any:
    """JSON values without anything that a terminal would act on, at any depth."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {harmless(key): harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(inner) for inner in value]
    return value


def _forms(secret: str) -> list[str]:
    if len(secret) < _SHORTEST:
        return []
    quoted = quote(secret, safe="", errors="replace")
    lower = re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
    raw, western = secret.encode("utf-8", "replace"), secret.encode("latin-1", "replace")
    escaped = "".join(f"\\u{ord(sign):04x}" for sign in secret)
    forms = [
        secret,
        secret.strip(),
        quoted,
        lower,
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
        html.escape(secret),
        json.dumps(secret)[1:-1],
        printable(secret),
        repr(secret)[1:-1],
        unicodedata.normalize("NFC", secret),
        unicodedata.normalize("NFD", secret),
        raw.decode("latin-1"),  # UTF-8 that was taken for Latin-1
        escaped,
        re.sub(r"[0-9a-f]{4}", lambda found: found[0].upper(), escaped),
        b64encode(raw).decode(),
        b64encode(raw).decode().rstrip("="),
        b64encode(western).decode(),
        b64encode(western).decode().rstrip("="),
        raw.hex(),
        raw.hex().upper(),
    ]
    return [form for form in forms if len(form) >= _SHORTEST]
