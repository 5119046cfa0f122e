"""Secrets that must never be shown, in every form a server may echo, and how text from outside is shown."""

from __future__ import annotations

import html
import json
import re
import threading
import unicodedata
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from xnat_ingest.core.text import printable

HIDDEN = "***"
# Shorter words turn up in too many texts by chance: with the password `xnat`, every address would be hidden. Server
# answers are still searched for short ones (client.py).
_SHORTEST = 6
_MOST = 1000
# The name of an alias token, unlike any user name: half of a login that is good for two days.
_ALIAS = re.compile(r"([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SESSION = re.compile(r"(JSESSIONID=)[\w.!~-]+", re.IGNORECASE)  # Java writes it in small letters into addresses

# Forms of sessions, which expire, and of logins, which a server must not be able to push out by new sessions.
_known: dict[str, None] = {}
_logins: dict[str, None] = {}
# A signal may come while the lock is held, and what its handler says passes the redaction, too.
_lock = threading.RLock()


def remember(*secrets: str) -> None:
    """From now on these are never shown. When there are too many, the oldest are dropped: login sessions expire."""
    _keep(_known, secrets)


def remember_login(user: str, password: str) -> None:
    """The password, the name of an alias token, and the value of the header that carries them, as we write it and as a
    server may."""
    login = f"{user}:{password}"
    headers = (b64encode(login.encode(charset, "replace")).decode() for charset in ("utf-8", "latin-1"))
    packed = [form for header in headers for form in (header, header.rstrip("="))]
    _keep(_logins, (password, *([user] if _ALIAS.fullmatch(user) else []), *packed))


def called(user: str) -> str:
    """A user name as messages show it. Of the name of an alias token they show enough to find it in XNAT's list."""
    alias = _ALIAS.fullmatch(user)
    return f"{alias[1]}-{HIDDEN}" if alias else user


def _keep(place: dict[str, None], secrets: Iterable[str]) -> None:
    forms = [form for secret in secrets for form in _forms(secret)]
    with _lock:
        for form in forms:
            place.pop(form, None)
            place[form] = None
        for form in list(place)[:-_MOST]:
            del place[form]


def redact(text: str) -> str:
    """The text without secrets. Where some letters of one are escaped, the text is returned without its escapes."""
    with _lock:
        known = sorted({*_known, *_logins}, key=len, reverse=True)
    text = plain = _without(text, known)
    for undo in _UNDO * _DEEPEST if any(sign in text for sign in "&%\\") else ():
        plain = undo(plain)
        if (hidden := _without(plain, known)) != plain:
            text = plain = hidden
    return _SESSION.sub(rf"\g<1>{HIDDEN}", text)


def _without(text: str, forms: Iterable[str]) -> str:
    for form in forms:
        if form in text:
            text = text.replace(form, HIDDEN)
    return text


# Letters as HTML, addresses and JSON write them. Any of a secret's letters may be written so, and the others plain.
_ENTITY = re.compile(r"&(?:#[0-9]{1,12}|#[xX][0-9a-fA-F]{1,12}|[A-Za-z][A-Za-z0-9]{1,31});?")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_JSON = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
# How often the same text may have been escaped.
_DEEPEST = 3


def _from_html(text: str) -> str:
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text)


def _from_address(text: str) -> str:
    return _PERCENT.sub(lambda found: _decoded(found[0].replace("%", "")), text)


def _from_json(text: str) -> str:
    return _JSON.sub(lambda found: bytes.fromhex(found[0].replace("\\u", "")).decode("utf-16-be", "replace"), text)


_UNDO = (_from_html, _from_address, _from_json)


def _decoded(digits: str) -> str:
    raw = bytes.fromhex(digits)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


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
    # Of several blanks in a row one is shown.
    spellings = (
        *(secret, secret.strip(), " ".join(secret.split())),
        *(unicodedata.normalize(form, secret) for form in ("NFC", "NFD")),
    )
    forms = dict.fromkeys(form for one in dict.fromkeys(spellings) for form in _ways_to_write(one))
    return [form for form in forms if len(form) >= _SHORTEST]


# Signs that writers of JSON for web pages give as numbers: Gson, Go, PHP.
_HTML_SAFE = (("<>&='", "x"), ("<>&", "x"), ("<>&'", "X"))


def _html_safe(as_json: str, signs: str, letter: str) -> str:
    return re.sub(f"[{signs}]", lambda found: f"\\u{ord(found[0]):04{letter}}", as_json)


def _by_java(raw: bytes) -> str:
    """As URLEncoder writes it."""
    return quote_plus(raw, safe="*").replace("~", "%7E")


def _ways_to_write(text: str) -> Iterator[str]:
    yield from (text, printable(text), html.escape(text), repr(text)[1:-1], ascii(text)[1:-1])
    for as_json in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield from (as_json, as_json.replace("/", "\\/"))  # as Java and PHP write it
        yield from (_html_safe(as_json, signs, letter) for signs, letter in _HTML_SAFE)
    for digits in (f"{{:04{letter}}}" for letter in "xX"):
        yield "".join(f"\\u{digits.format(ord(sign))}" for sign in text)
    for raw in {text.encode(charset, "replace"): None for charset in ("utf-8", "latin-1")}:
        yield raw.decode("latin-1")  # UTF-8 that was taken for Latin-1
        yield repr(raw)[2:-1]
        for quoted in (
            quote(raw, safe=""),
            quote(raw),
            quote_plus(raw),
            _by_java(raw),
            "".join(f"%{byte:02X}" for byte in raw),
        ):
            yield from (quoted, re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quoted))
        yield "".join(f"\\x{byte:02x}" for byte in raw)
        for packed in (b64encode(raw).decode(), urlsafe_b64encode(raw).decode()):
            yield from (packed, packed.rstrip("="))
        yield from (raw.hex(), raw.hex().upper())
