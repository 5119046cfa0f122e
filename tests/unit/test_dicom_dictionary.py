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
