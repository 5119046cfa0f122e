"""Text in DICOM's character sets, and in those that are none."""

from __future__ import annotations

import encodings
import pkgutil
import warnings

import pydicom.charset
import pytest

from xnat_ingest.inputs.dicom_dictionary import decoded, knows_character_sets

CODECS = [module.name for module in pkgutil.iter_modules(encodings.__path__)]


def test_no_name_of_a_codec_makes_an_error() -> None:
    """Python has codecs that are no character set, and raise errors of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in CODECS:
            for value in (b"a\xff\xe4b", b"\x1b", b"\x1b$B\xff", b"\xfe\xff-", bytes(range(128, 256))):
                assert isinstance(decoded(value, name.encode()), str)


@pytest.mark.parametrize("name", [*pydicom.charset.python_encoding, "ISO IR 192", "utf8", "windows-1252", "cp1250"])
def test_what_devices_write_is_known(name: str) -> None:
    assert knows_character_sets(name.encode())


@pytest.mark.parametrize("name", ["punycode", "idna", "undefined", "rot13", "hex", "utf-7", "unicode_escape", "MUSIC"])
def test_what_is_no_character_set_is_not_known(name: str) -> None:
    assert not knows_character_sets(name.encode())


# As in the annexes of PS3.5: what changes the set is no part of a name.
ESCAPED = {
    "\\ISO 2022 IR 87": ("\x1b$B", "iso2022_jp", "山田"),
    "\\ISO 2022 IR 149": ("\x1b$)C", "euc_kr", "洪吉洞"),
    "\\ISO 2022 IR 58": ("\x1b$)A", "gb2312", "小东"),
    "ISO 2022 IR 6\\ISO 2022 IR 58": ("\x1b$)A", "gb2312", "欧阳"),
    "\\ISO 2022 IR 144": ("\x1b-L", "iso8859_5", "Яшин"),
    "\\ISO 2022 IR 101": ("\x1b-B", "iso8859_2", "Wałęsa"),
}


@pytest.mark.parametrize("sets", ESCAPED)
@pytest.mark.parametrize("before", ["", "Hong^Gildong=", "a "])
def test_escape_sequences_are_no_text(sets: str, before: str) -> None:
    escape, codec, text = ESCAPED[sets]
    raw = text.encode(codec) if codec == "iso2022_jp" else escape.encode() + text.encode(codec)
    assert decoded(before.encode() + raw, sets.encode()) == before + text
