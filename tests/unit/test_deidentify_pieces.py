"""Long headers are searched piece by piece: in little memory, with an ear for signals, and as if they were whole."""

from __future__ import annotations

import base64
import time
import tracemalloc
from collections.abc import Callable

import pytest

from xnat_ingest.deidentify import packed, tokens
from xnat_ingest.deidentify.tokens import BIRTH, ID, NAME, Tokens

PATIENT = (
    (0x00100010, NAME, b"Quastenflosser^Hannelore"),
    (0x00100020, ID, b"PX4711815"),
    (0x00100030, BIRTH, b"19530417"),
)
LONG = {
    "percent signs": b"%41b",
    "hexadecimal digits": b"4a6f",
    "base64": b"QUJD",
    "years": b"1953",
    "months": b"apr-",
    "escapes": b"&#65;",
    "zeros": bytes(4),
}


@pytest.mark.wide
@pytest.mark.parametrize("what", LONG)
def test_a_long_value_takes_little_memory_and_hears_signals(what: str) -> None:
    """Of 2 MiB. All readings at once took up to 60 bytes for each of them."""
    data = LONG[what] * ((2 << 20) // len(LONG[what]))
    search, longest, last = Tokens(PATIENT, (b"",)), 0.0, time.process_time()

    def check_stop() -> None:
        nonlocal longest, last
        now = time.process_time()
        longest, last = max(longest, now - last), now

    assert not list(search.in_bytes(data, check_stop))
    check_stop()
    assert longest < 1.5
    tracemalloc.start()
    try:
        assert not list(search.in_bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def with_percents(text: bytes) -> bytes:
    return b"".join(b"%%%02x" % byte if number % 2 else text[number : number + 1] for number, byte in enumerate(text))


def with_escapes(text: bytes) -> bytes:
    return b"".join(b"&#%07d;" % byte if number % 3 else text[number : number + 1] for number, byte in enumerate(text))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "in wide characters": lambda text: text.decode().encode("utf-16-le"),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "hexadecimal": lambda text: text.hex().encode(),
    "percent signs": with_percents,
    "escapes": with_escapes,
}
# Each word, and a longer one that hides it.
WORDS = {"Meier": "Meiersdorf", "Quastenflosser": "Quastenfloss", "471181": "4711815", "17.04.1953": "17.04.19531"}


@pytest.mark.wide
@pytest.mark.parametrize("how", PACKED)
def test_a_word_is_found_wherever_the_pieces_end(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a longer word is not cut into another one there."""
    monkeypatch.setattr(packed, "_PIECE", 512)
    monkeypatch.setattr(tokens, "_PIECE", 512)
    search = Tokens(
        ((0x00100010, NAME, b"Meier^Quastenflosser"), (0x00100020, ID, b"471181"), (0x00100030, BIRTH, b"19530417")),
        (b"",),
    )
    for number, (word, longer) in enumerate(WORDS.items()):
        for before in range(number, 8000, 331):
            for text, is_found in ((word, True), (longer, False)):
                if how == "in wide characters" and not is_found:
                    continue  # there, no edges are looked at
                data = PACKED[how](b"~" * before + f" {text} ".encode() + b"~" * 5000)
                hits = list(search.in_bytes(b"\1" * 16 + data + b"\1" * 16))
                assert bool(hits) == is_found, (word, text, before)
                assert all(16 <= begin < end <= 16 + len(data) for _, begin, end in hits)
                if how == "as it is":
                    assert len(set(hits)) == len(hits)


@pytest.mark.parametrize("how", list(PACKED)[2:])
@pytest.mark.parametrize("overlap", [60, 200])
def test_every_stretch_is_whole_in_some_piece(how: str, overlap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_PIECE", 64)
    text, around = b".".join(b"%d" % number for number in range(1000, 3000)), 20
    length = overlap - 2 * around
    views = list(packed.unpacked(b"\1" + PACKED[how](text) + b"\1", overlap))
    whole = set[bytes]()
    for view in views:
        starts = range(len(view.data) - length + 1)
        whole |= {view.data[at : at + length] for at in starts if view.has_whole(at, at + length, around)}
    assert len(views) > 5
    assert [at for at in range(len(text) - length + 1) if text[at : at + length] not in whole] == []


@pytest.mark.parametrize("how", ["base64", "percent signs", "as it is"])
def test_long_words_are_found_wherever_the_pieces_end(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces have more in common then."""
    monkeypatch.setattr(packed, "_PIECE", 1024)
    monkeypatch.setattr(tokens, "_PIECE", 1024)
    name = b"Quastenflosser" * 80
    search = Tokens(((0x00100010, NAME, name),), (b"",))
    for before in range(0, 24_000, 1999):
        assert list(search.in_bytes(PACKED[how](b"~" * before + name + b"~" * 9000)))
        assert not list(search.in_bytes(PACKED[how](b"~" * before + name[:-1] + b"~" * 9000)))
