"""Secrets in every form, and every character that must not reach a terminal."""

from __future__ import annotations

import html
import io
import json
import threading
import time
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from xnat_ingest.cli.output import Output
from xnat_ingest.core import Event, secrets
from xnat_ingest.core.errors import IngestError, ServerSaid
from xnat_ingest.core.secrets import harmless, redact, remember, remember_login, sayable
from xnat_ingest.core.text import inert_cell, printable
from xnat_ingest.report.reporters import JsonReporter
from xnat_ingest.settings.layers import Credentials
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.cookies import Cookies
from xnat_ingest.xnat.replies import Reply, sentence

# Controls, formats (bidi, zero widths), line and paragraph separators, surrogates, private use.
FORBIDDEN = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp", "Cs")]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", {})
    monkeypatch.setattr(secrets, "_logins", {})


def test_there_are_all_kinds() -> None:
    for character in "\0\x1b\x07\x7f\x80\x9b\x9f\u200b\u200f\u202a\u202e\u2066\u2069\ufeff\u2028\ud800\U000e0001":
        assert character in FORBIDDEN


def test_no_forbidden_character_is_shown() -> None:
    for character in FORBIDDEN:
        for shown in (printable(f"a{character}b"), sayable(f"a{character}b"), str(IngestError(f"a{character}b"))):
            assert shown.isprintable(), repr(character)
            assert shown != "ab"


def test_a_stream_lets_lines_and_tabs_through_alone() -> None:
    stream = io.StringIO()
    Output(stream, quiet=False).write("a\tb\n" + "".join(FORBIDDEN))
    said = stream.getvalue()
    assert said.startswith("a\tb\n")
    assert {c for c in said if not c.isprintable()} == {"\n", "\t"}


def test_json_values_at_any_depth() -> None:
    assert harmless({"a\x1b": ["\x1b", {"b": ("\u202e", 1, None, True)}]}) == {
        "a\\x1b": ["\\x1b", {"b": ["\\u202e", 1, None, True]}]
    }


@pytest.mark.parametrize(
    "form",
    [
        "pa ss/w:ö%&",
        "pa%20ss%2Fw%3A%C3%B6%25%26",
        "pa%20ss%2fw%3a%c3%b6%25%26",
        "pa%20ss/w%3A%C3%B6%25%26",
        "pa+ss%2Fw%3A%C3%B6%25%26",
        "cGEgc3MvdzrDtiUm",
        "pa ss/w:ö%&amp;",
        "pa ss/w:\\u00f6%&",
        "70612073732f773ac3b62526",
        "70612073732F773AC3B62526",
        "cGEgc3Mvdzr2JSY=",
        "cGEgc3Mvdzr2JSY",
        "pa ss/w:o\u0308%&",
        "pa ss/w:Ã¶%&",
        "pa%20ss%2Fw%3A%F6%25%26",
        "pa%20ss%2Fw%3Ao%CC%88%25%26",
        "%70%61%20%73%73%2F%77%3A%C3%B6%25%26",
        "%70%61%20%73%73%2f%77%3a%f6%25%26",
        "70612073732f773af62526",
        "cGEgc3MvdzpvzIglJg==",
        "cGEgc3MvdzpvzIglJg",
        "pa ss/w:\\xf6%&",
        "pa ss/w:\\xc3\\xb6%&",
        "pa ss\\/w:\\u00f6%&",
        "pa ss\\/w:ö%&",
        "pa ss/w:o\\u0308%&",
        "\\x70\\x61\\x20\\x73\\x73\\x2f\\x77\\x3a\\xc3\\xb6\\x25\\x26",
        "\\u0070\\u0061\\u0020\\u0073\\u0073\\u002f\\u0077\\u003a\\u00f6\\u0025\\u0026",
        "\\u0070\\u0061\\u0020\\u0073\\u0073\\u002F\\u0077\\u003A\\u00F6\\u0025\\u0026",
    ],
)
def test_every_form_of_a_secret_is_hidden(form: str) -> None:
    remember("pa ss/w:ö%&")
    assert redact(f"before {form} after") == "before *** after"
    assert form not in str(ServerSaid("POST /x", 500, f"I got {form}"))


def test_a_signal_while_a_secret_is_remembered_is_heard() -> None:
    """Its handler says something, and that is redacted, in the thread that holds the lock."""
    said: list[str] = []

    class Struck(dict[str, None]):
        def pop(self, form: str, *default: Any) -> Any:
            said.append(secrets.redact("a word"))
            return super().pop(form, *default)

    striking = threading.Thread(target=secrets._keep, args=(Struck(), ["a long secret"]), daemon=True)
    striking.start()
    striking.join(5)
    assert not striking.is_alive()
    assert set(said) == {"a word"}


def test_a_login_is_hidden_as_its_header() -> None:
    secrets.remember_login("up", "secret")
    assert redact("Authorization: Basic dXA6c2VjcmV0") == "Authorization: Basic ***"


def test_a_login_in_the_servers_own_charset() -> None:
    secrets.remember_login("up", "söcret")
    assert redact("Basic dXA6c/ZjcmV0 dXA6c8O2Y3JldA==") == "Basic *** ***"


def test_a_secret_as_python_writes_it() -> None:
    remember("a'b\"c\\d")
    assert redact(repr("a'b\"c\\d")) == "'***'"


def test_the_password_outlives_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of days logs in again and again."""
    monkeypatch.setattr(XnatClient, "_once", lambda *_: Reply(200, "A" * 32, {}))
    client = XnatClient(Credentials("http://localhost", "up", "secret-word"))
    for number in range(600):
        remember(f"session-{number:08d}")
        if number % 10 == 0:
            client._login()
    assert redact("secret-word") == "***"


def test_a_login_is_not_pushed_out_by_sessions() -> None:
    """A server may set a new session with every answer."""
    secrets.remember_login("up", "secret-word")
    for number in range(2000):
        remember(f"session-{number:08d}")
    assert redact("secret-word") == "***"


def test_a_session_is_hidden_as_soon_as_it_comes() -> None:
    Cookies().take(["JSESSIONID=FEEDFACE0123; Path=/"])
    assert redact("I got FEEDFACE0123") == "I got ***"


def test_a_session_that_nobody_remembered() -> None:
    assert redact("Cookie: JSESSIONID=0123ABC.node1; x=1") == "Cookie: JSESSIONID=***; x=1"


def test_short_words_are_no_secrets() -> None:
    remember("abcde", "")
    assert redact("abcdef") == "abcdef"
    remember("abcdef")
    assert redact("abcdef") == "***"


def test_a_secret_inside_of_another_one() -> None:
    remember("sword-")
    remember("password-long")
    assert redact("password-long") == "***"


def test_sessions_of_long_ago_are_forgotten() -> None:
    for number in range(2000):
        remember(f"session-{number:08d}")
    assert len(secrets._known) <= 1000
    assert redact("session-00001999") == "***"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_cells_that_a_spreadsheet_would_run(text: str) -> None:
    assert inert_cell(text) == f"'{text}"
    assert inert_cell(f"x{text}") == f"x{text}"
    assert inert_cell("007") == "007"


@pytest.mark.parametrize("password", ["Abc&defg12", "pa=ss<word>", "it'sSecret9"])
@pytest.mark.parametrize(
    ("signs", "letter"), [("<>&='", "x"), ("<>&", "x"), ("<>&'", "X")], ids=["Gson", "Go", "PHP with JSON_HEX"]
)
def test_json_for_web_pages(password: str, signs: str, letter: str) -> None:
    """Some writers of JSON give the signs of HTML as numbers."""
    remember_login("up", password)
    escaped = "".join(f"\\u{ord(one):04{letter}}" if one in signs else one for one in password)
    assert redact(f"Error for {escaped} here") == "Error for *** here"


ODD = ["ab  cd  efgh12", "tab\tSecretQQ1", "a\u00a0bSecret77", " x&amp;y<b>\u2003\n'Sécr%41t😀", "it's (Secret)! ~*"]
ESCAPES: dict[str, Callable[[str], str]] = {
    "decimal": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "hex": lambda text: "".join(f"&#x{ord(one):x};" for one in text),
    "hex in capitals, with zeros": lambda text: "".join(f"&#X{ord(one):08X};" for one in text),
    "without semicolons": lambda text: "".join(f"&#{ord(one)}" for one in text if one.isalpha()),
    "each second one": lambda text: "".join(
        f"&#{ord(one)};" if n % 2 else html.escape(one) for n, one in enumerate(text)
    ),
    "all but letters": lambda text: "".join(one if one.isalpha() else f"&#{ord(one)};" for one in text),
    "twice": lambda text: html.escape("".join(f"&#{ord(one)};" for one in text)),
    "a script's address": lambda text: quote(text, safe="!'()*~"),
    "Java's address": lambda text: quote_plus(text, safe="*").replace("~", "%7E"),
    "an address in a page": lambda text: html.escape(quote(text, safe="&'")),
    "letters as JSON": lambda text: "".join(
        json.dumps(one)[1:-1] if n % 3 else f"\\u{ord(one):04x}" for n, one in enumerate(text) if ord(one) < 0x10000
    ),
    "blanks joined": lambda text: " ".join(text.split()),
}


@pytest.mark.parametrize("password", ODD)
@pytest.mark.parametrize("name", ESCAPES)
def test_letters_that_are_escaped_one_by_one(name: str, password: str) -> None:
    """Any of them, and blanks that are shown as one."""
    if name == "without semicolons":
        password = "".join(filter(str.isalpha, password))
    if name == "letters as JSON":
        password = password.replace("😀", "")
    remember_login("up", password)
    answer = f"before {ESCAPES[name](password)} after"
    for said in (
        redact(answer),
        sentence(f"<html><body><h3>{answer}</h3></body></html>"),
        str(ServerSaid("x", 400, sentence(answer))),
    ):
        assert "before *** after" in said
    log = f"<p>{'x' * 290} {ESCAPES[name](password)}</p>"
    assert sentence(log) == f"{'x' * 290} ***"  # and not the half of it that would be shown


def test_escapes_stay_where_no_secret_is() -> None:
    remember("a secret word")
    text = "/data/a%20b?x=1&amp;y=&#97; \\u0061 100%zz &#999999999999; &#xffffffffffff;"
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece", ["&#", "&#9", "&#x", "&amp;", "&amp", "%", "%25", "\\u", "\\u0061", "&#0000000000", "\\", "&"]
)
def test_escapes_without_end_take_little_time(piece: str) -> None:
    remember("a secret word")
    before = time.process_time()
    redact(piece * 200_000)
    assert time.process_time() - before < 3


def test_a_login_header_without_its_padding() -> None:
    remember_login("up", "basicpass77")
    header = b64encode(b"up:basicpass77").decode()
    assert header.endswith("=")
    assert redact(f"Basic {header.rstrip('=')} refused") == "Basic *** refused"


def test_what_is_unescaped_to_hide_a_password_stays_harmless_in_the_log() -> None:
    remember("correct horse")
    log = io.StringIO()
    text = "&#99;orrect horse, and &#27;]0;title&#7; &#x202e;"
    JsonReporter(log, io.StringIO()).emit(Event("warning", {"text": text}))
    said = json.loads(log.getvalue())["text"]
    assert said == printable(said)
    assert ("orrect" in said, "title" in said) == (False, True)
