"""Thousands of names and thousands of texts in one header: what that may take, and that nothing is missed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.dicom_trees import save
from tests.planted import PERSON, patient
from tests.unit.test_deidentify_objects import sent
from tests.unit.test_deidentify_rewriting import KEY, encoded
from xnat_ingest.core import SetAside
from xnat_ingest.deidentify import rewriting
from xnat_ingest.deidentify.beginnings import Beginnings
from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import load_profile
from xnat_ingest.deidentify.rewriting import Rewriting
from xnat_ingest.deidentify.tokens import NAME, Tokens


def words(number: int, letters: str = "abcdefghijklmnop") -> list[str]:
    chance = random.Random(number)
    return ["".join(chance.choice(letters) for _ in range(chance.randint(6, 7))) for _ in range(number)]


def names(some: list[str]) -> Tokens:
    pairs = zip(some[::2], some[1::2], strict=True)
    return Tokens([(0x00081070, NAME, f"{one}^{other}".encode()) for one, other in pairs], (b"ISO_IR 192",))


def test_short_texts_are_not_looked_through_for_each_name() -> None:
    some = words(4000)
    search, accented = names(some), names(words(1000, "абвгдежзиклмноп"))
    search.in_text("")
    accented.is_spelled_in(b"")
    begun = time.process_time()
    for number in range(2000):
        assert search.in_text(f"ok {number}") is None
        assert not accented.is_spelled_in(f"жё {number}".encode())
    assert time.process_time() - begun < 3
    for one in some[::97]:
        assert search.in_text(f"of {one}") is not None


@pytest.mark.parametrize("letters", ["ab", "abcdef", "aäñ"])
def test_words_are_found_by_their_beginnings(letters: str) -> None:
    chance = random.Random(letters)
    for _ in range(200):
        some = {"".join(chance.choices(letters, k=chance.randint(1, 7))) for _ in range(chance.randint(1, 30))}
        text = "".join(chance.choices(letters, k=chance.randint(0, 12)))
        within = {word for word in some if word in text}
        assert set(Beginnings(some).words_in(text)) == within
        encoded_words = {word.encode() for word in some}
        assert set(Beginnings(encoded_words).words_in(text.encode())) == {word.encode() for word in within}


def test_a_short_text_holds_the_same_as_a_long_one() -> None:
    """The same token is told, the first in order, whichever way is gone."""
    some = words(60, "abc")
    search, chance = names(some), random.Random(1)
    for _ in range(500):
        text = " ".join(chance.choices([*some, "ok", "abc"], k=3))[: chance.randint(3, 20)]
        found = search.in_text(text)
        assert found == search.in_text(text + " ~" * len(search._tokens))
        assert (found is None) == (not any(token.text in text for token in search._tokens.values()))


def of_many(number: int, text: str) -> Dataset:
    """With as many identifiers, and as many texts that are cleaned."""
    dataset = patient(PERSON)
    for keyword, tag in (("OtherPatientIDsSequence", "PatientID"), ("ContentSequence", "TextValue")):
        items = []
        for one in range(number):
            item = Dataset()
            setattr(item, tag, f"ab{one:05d}" if tag == "PatientID" else text)
            items.append(item)
        setattr(dataset, keyword, Sequence(items))
    return dataset


@pytest.mark.parametrize("text", ["ok", "okä"])
def test_too_many_texts_for_too_many_identifiers(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "_MOST_EFFORT", 20_000, raising=False)
    dataset = of_many(30, text)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    profile = load_profile("research-mr")
    save(dataset, tmp_path / "IM1")  # type: ignore[arg-type]
    found = sent(tmp_path, Deidentifier(profile, KEY))
    assert isinstance(found, SetAside)
    assert found.reason == "not-deidentifiable"
    assert "more texts than can be searched" in found.detail
    (tmp_path / "IM1").unlink()
    few = of_many(3, text)
    few.SpecificCharacterSet = "ISO_IR 192"
    save(few, tmp_path / "IM1")  # type: ignore[arg-type]
    assert isinstance(sent(tmp_path, Deidentifier(profile, KEY)), bytes)


def test_many_texts_for_a_few_identifiers_are_searched() -> None:
    data = encoded(of_many(1, "ok"))
    work = Rewriting(data, LITTLE_EXPLICIT, load_profile("research-mr"), KEY)
    for _ in range(3):
        work.rewrite("S", "E")
    assert work.tokens.effort("a report of 100 characters ".ljust(100)) * 100_000 < rewriting._MOST_EFFORT
