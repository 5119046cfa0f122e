"""Where a value ends, a word ends: what stands beside it in the encoded header is no part of it."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.planted import PERSON, patient
from tests.unit.test_deidentify_rewriting import ENCODINGS, KEY, encoded
from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT, Encoding
from xnat_ingest.deidentify.profile import Profile, load_profile, parse_profile
from xnat_ingest.deidentify.rewriting import Residue, Rewriting

# Words so short that they count only where they stand alone.
SHORT = replace(PERSON, family="Meier", given="Anna", patient_id="4711815", street="Auf 7", phone="555019")
BASIC = load_profile("basic")
NAME = Residue("CodeMeaning", "PatientName")


def found(dataset: Dataset, how: Profile = BASIC, form: Encoding = LITTLE_EXPLICIT) -> Residue | None:
    work = Rewriting(encoded(dataset, form), form, how, KEY)
    return work.residue(work.rewrite("S01", "S01_a").data)


def of_short_words() -> Dataset:
    dataset = patient(SHORT)
    for element in [e for e in dataset if 0x00280100 < e.tag < 0x7FE00000]:
        del dataset[element.tag]
    return dataset


def with_codes(*meanings: str, undefined: bool = False) -> Dataset:
    dataset = of_short_words()
    items = []
    for meaning in meanings:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", meaning
        item.is_undefined_length_sequence_item = undefined
        items.append(item)
    dataset.AnatomicRegionSequence = Sequence(items)
    dataset["AnatomicRegionSequence"].is_undefined_length = undefined
    return dataset


def with_neighbour(text: str, tag: int, vr: str, value: object) -> Dataset:
    """The text stands right before an element of this tag."""
    dataset = of_short_words()
    dataset.WindowCenterWidthExplanation = text
    dataset.add_new(tag, vr, value)
    return dataset


@pytest.mark.parametrize("form", ENCODINGS)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(
    "text", ["seen by Dr Meier", "Meier in room 12", "id 4711815", "4711815 is it", "b. 17.04.53", "17.04.53 is it"]
)
def test_words_at_the_edge_of_a_value_in_an_item(form: str, undefined: bool, text: str) -> None:
    """With an even number of characters no blank is added to them. The next tag begins with a letter of ISO 8859-1."""
    place = found(with_codes(text, "brain", undefined=undefined), form=ENCODINGS[form])
    assert place is not None
    assert place.place == "CodeMeaning"


@pytest.mark.parametrize("form", ENCODINGS)
@pytest.mark.parametrize("text", ["by Meier", "b:-4711815", "b.17.04.1953", "call +555019"])
@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [(0x00321060, "LO", "HEAD"), (0x00541000, "CS", ["DYNAMIC"]), (0x00620001, "CS", ["BINARY"])],
)
def test_words_before_a_group_that_begins_like_a_letter_or_digit(
    form: str, text: str, tag: int, vr: str, value: object
) -> None:
    dataset = with_neighbour(text, tag, vr, value)
    assert found(dataset, load_profile("research-mr"), ENCODINGS[form]) is not None


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize("form", ENCODINGS)
@pytest.mark.parametrize("word", ["Meier", "4711815", "17.04.1953", "1953-04-17", "555019"])
@pytest.mark.parametrize("size", [46, 48, 50, 56, 60, 66, 90, 98, 122])
def test_words_at_the_beginning_of_values_of_any_length(form: str, word: str, size: int) -> None:
    """The length stands right before the value, and looks like a letter or digit."""
    dataset = with_neighbour(f"{word} {'x' * (size - len(word) - 1)}", 0x00281056, "CS", "LINEAR")
    assert found(dataset, form=ENCODINGS[form]) is not None


def test_a_date_behind_its_length_within_bytes() -> None:
    """As vendors write texts into blocks of their own."""
    text = b"17.04.1953 is when this patient was born, it says"
    dataset = of_short_words()
    dataset.ICCProfile = b"\0\1" + len(text).to_bytes(4, "little") + text
    assert 48 <= len(text) <= 57
    assert found(dataset) is not None


@pytest.mark.parametrize("form", ENCODINGS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seen by Dr Mei", "er in room 1"),
        ("id 4711", "815 is it"),
        ("born 17.04.", "1953 is it"),
        ("call 555", "019 there"),
        ("Meiering", "xMeier"),
        ("an Annaberg ", "Susanna"),
        ("id 14711815", "47118152"),
        ("on 117.04.1953", "19530417000"),
        (base64.b64encode(b"x of Meier and y").decode()[:8], base64.b64encode(b"x of Meier and y").decode()[8:]),
        (b"x of Meier ".hex()[:14], b"x of Meier ".hex()[14:]),
    ],
)
def test_words_side_by_side_make_no_third(form: str, one: str, other: str) -> None:
    """Neither in two items, nor in neighbouring elements, nor in two values of one."""
    how = parse_profile('{"base": "basic", "rules": [{"keyword": "ImageComments", "action": "K"}]}', "test")
    assert found(with_codes(one, other), form=ENCODINGS[form]) is None
    assert found(with_neighbour(one, 0x00281056, "CS", "LINEAR"), form=ENCODINGS[form]) is None
    dataset = of_short_words()
    dataset.SoftwareVersions, dataset.ProtocolName = [one, "a"], other
    dataset.ImageComments = other
    assert found(dataset, how, ENCODINGS[form]) is None
