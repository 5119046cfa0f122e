# ruff: noqa: RUF001
"""Names and identifiers in letters and digits that are not ASCII, and with signs that are no letters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xnat_ingest.deidentify.tokens import ID, NAME, Tokens, fold

PATIENT_ID = 0x00100020


def _tokens(kind: str, value: str, encoding: str = "utf-8", sets: bytes = b"ISO_IR 192") -> Tokens:
    return Tokens([(PATIENT_ID, kind, value.encode(encoding))], (sets,))


# (identifier, texts that repeat it)
IN_OTHER_SCRIPTS = (
    ("ИВАНОВАПЕТРОВ", "ИВАНОВАПЕТРОВ x", "ивановапетров", "id_ИвановаПетров"),
    ("患者番号四七一一八", "患者番号四七一一八", "この患者番号四七一一八は"),
    ("患者一", "患者一", "の患者一は"),
    ("МРТ-4711", "карта МРТ-4711", "МРТ4711", "мрт 4711", "МРТ – 4711", "МРТ: 4711", "xxx-4711 МРТ_4711"),
    ("ИВАН/77123", "ИВАН 77123", "иван.77123", "???? 77123"),
    ("Müller-12", "Müller-12", "MUELLER 12", "muller12"),
    ("ÄÖÜ1", "ÄÖÜ1 x", "äöü1", "AEOEUE1"),
    ("４７１１８１５", "４７１１８１５", "4711815", "٤٧١١٨١٥"),
    ("٤٧١١٨١٥", "٤٧١١٨١٥", "4711815", "۴۷۱۱۸۱۵"),
    ("4711815", "４７１１８１５", "٤٧١١٨١٥", "০০৪৭১১৮১৫", "๔๗๑๑๘๑๕", "४७११८१५"),
    ("PX4711-0815", "ＰＸ４７１１－０８１５", "ｐｘ４７１１０８１５"),
    ("ผู้ป่วย-4711", "ผู้ป่วย-4711", "ผู้ป่วย 4711"),
)


@pytest.mark.parametrize(("value", "text"), [(value, text) for value, *texts in IN_OTHER_SCRIPTS for text in texts])
def test_identifiers_in_other_letters_and_digits(value: str, text: str) -> None:
    assert _tokens(ID, value).in_text(text)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *(("ИВАНОВАПЕТРОВ", code) for code in ("cp1251", "cp866", "koi8-r", "iso8859-5", "utf-8", "utf-16-le")),
        *(("МРТ-4711", code) for code in ("cp1251", "cp866", "koi8-r", "iso8859-5", "utf-8", "utf-16-be")),
        *(("患者番号四七一一八", code) for code in ("shift_jis", "euc_jp", "gb18030", "utf-8", "utf-16-le")),
        *(("４７１１８１５", code) for code in ("shift_jis", "gb18030", "euc_kr", "utf-8", "ascii")),
        *(("٤٧١١٨١٥", code) for code in ("utf-8", "utf-16-le", "ascii")),
        *(("ÄÖÜ1", code) for code in ("latin-1", "cp437", "mac-roman", "utf-8")),
    ],
)
@pytest.mark.parametrize("sets", [b"ISO_IR 192", b"GB18030"])
def test_identifiers_in_other_letters_are_found_in_any_encoding(value: str, code: str, sets: bytes) -> None:
    written = (value if code != "ascii" else fold(value)).encode(code)
    search = _tokens(ID, value, encoding="gb18030" if sets == b"GB18030" else "utf-8", sets=sets)
    assert list(search.in_bytes(b"\0\1" + written + b"\1"))
    assert list(_tokens(ID, value).in_bytes(b"\0\1" + written.lower() + b"\1"))


@pytest.mark.filterwarnings("ignore:Failed to decode")
@pytest.mark.parametrize("code", ["cp1251", "cp866", "koi8-r"])
@pytest.mark.parametrize(("sets", "others"), [(b"ISO_IR 192", ("utf-8", "utf-16-be")), (b"", ())])
def test_an_identifier_in_an_encoding_that_the_header_does_not_name(
    code: str, sets: bytes, others: Sequence[str]
) -> None:
    search = Tokens([(PATIENT_ID, ID, "МРТ-КАРТА".encode(code))], (sets,))
    assert not search.weak
    for text in ("МРТ-КАРТА", "мрт-карта"):
        for other in (code, *others):
            assert list(search.in_bytes(b"\0\1" + text.encode(other) + b"\1")), other


@pytest.mark.parametrize(
    ("value", "text", "why"),
    [
        ("МРТ", "МРТ", "too short"),
        ("МР-1", "МР-1", "too short"),
        ("患", "患", "too short"),
        ("患1", "患1", "too short"),
        ("４７１１", "４７１１", "too short"),
        ("１１１１１１", "111111", "too common"),
        ("МРТ-47", "МРТ-478", "of fewer than 8"),
        ("ИВАНОВ", "ИВАНОВА", "of fewer than 8"),
    ],
)
def test_what_is_no_identifier_in_other_letters(value: str, text: str, why: str) -> None:
    search = _tokens(ID, value)
    assert search.in_text(text) is None
    assert [said[: len(why)] for _, said in search.weak] == [why]


@pytest.mark.parametrize("value", ["ИВАНОВАПЕТРОВ", "患者一", "МРТ-47118", "４７１１８１５９"])
def test_long_identifiers_in_other_letters_are_not_called_weak(value: str) -> None:
    assert _tokens(ID, value).weak == ()


# Between the parts of a name: dashes, dots, brackets, quotation marks and other signs.
BETWEEN = "-\u2010\u2011\u2012\u2013\u2014\u2212\u00b7\u2022\u2027\u30fb\uff65_+:&;/|,.#~=\uff1d\u00a0\u3000"


@pytest.mark.parametrize("sign", BETWEEN, ids=ascii)
def test_each_part_of_a_name_is_found(sign: str) -> None:
    for name, other in (("Quastenflosser", "Zwergwels"), ("买买提", "艾力江"), ("マイケル", "ジャクソン")):
        search = _tokens(NAME, sign.join((name, other)))
        assert search.in_text(f"x {name} y"), name
        assert search.in_text(f"x {other} y"), other


@pytest.mark.parametrize(
    "written", ["[Quastenflosser]^Anna", '"Quastenflosser" Anna', "{Quastenflosser}", "«Quastenflosser»"]
)
def test_brackets_around_a_part_of_a_name(written: str) -> None:
    assert _tokens(NAME, written).in_text("of Quastenflosser x")


@pytest.mark.parametrize(
    "sign", "'`\u00b4\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c0\u055a\u2032\ua78c\uff07"
)
def test_apostrophes_are_within_a_part_of_a_name(sign: str) -> None:
    search = _tokens(NAME, f"Abd al{sign}Azizquast")
    for text in ("of Azizquast x", "alAzizquast", f"al{sign}Azizquast", "al'azizquast"):
        assert search.in_text(text), text


def test_letters_that_were_lost_are_part_of_a_name() -> None:
    """Its rest alone is no name."""
    for sign in "?*":
        search = _tokens(NAME, f"M{sign}llerquast")
        assert search.in_text(f"of M{sign}llerquast x")
        assert search.in_text("Wellerquast") is None


@pytest.mark.parametrize("group", ["王1", "a-1-", "МР-7-"])
@pytest.mark.parametrize(("characters", "is_grouped"), [(128, True), (130, False)])
def test_very_long_identifiers_are_found_as_they_are_written(group: str, characters: int, is_grouped: bool) -> None:
    """With other signs between their parts, each place of a long text would be compared with all of them."""
    value = (group * characters)[: characters * len(group) // len(group.replace("-", ""))]
    search = _tokens(ID, value)
    assert search.in_text(f"x {value} y")
    assert bool(search.in_text(f"x {value.replace('-', ' : ').replace('王', ' : 王')} y")) == is_grouped
    assert any("of more than 128 characters" in why for _, why in search.weak) != is_grouped


@pytest.mark.parametrize(
    "name",
    [
        *("*Quastenflosser^Anna", "Quastenflosser*^Anna", "Quastenflosser?^Anna", "??Quastenflosser**^Anna"),
        *("Anna Muller?Quastenflosser", "Quastenflosser*Zwergwels", "Quastenflosser¿"),
        *("Quastenflosser§Anna", "§Quastenflosser", "Müller·Quastenflosser^A", "Müller§Quastenflosser"),
        *("Quastenflosser2^Anna", "2Quastenflosser", "QUASTENFLOSSER1965^H", "Quastenflosser02*", "Quastenflosser²^A"),
        *("Quastenflosser٢^A", "?1Quastenflosser", "Quastenflosser^2", "Müller·Quastenflosser2"),
    ],
)
def test_signs_that_may_be_letters_and_numbers_beside_a_part_of_a_name(name: str) -> None:
    search = _tokens(NAME, name)
    assert search.in_text("of Quastenflosser x")
    assert list(search.in_bytes(b"\0\1of Quastenflosser x\1"))


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        ("Meier2^Anna", "Dr. Meier", True),
        ("Meier2^Anna", "Meiers", False),
        ("Quasten2^Anna", "xxQuastenxx", True),  # six letters count inside a word, too
        ("Meier?^Anna", "Dr. Meier", True),
        ("Li2^Bo*", "Li Bo", True),
        ("买买提?艾力江", "of 买买提 x", True),
        ("买买?艾力江", "of 买买 x", False),
        ("Hern?ndez^Jo", "hern ndez", False),  # pieces of a word
        ("Sch?nemann^Jo", "of nemann x", True),
        ("?stermann^Jo", "Westermann", False),
        ("?stermann^Jo", "?stermann", True),
        ("Lia1^Meier", "Lia", False),
        ("Ann?^Meier", "Ann", False),
        ("A1^B2", "A B", False),  # initials
        ("A?^B*", "AB A B", False),
        ("a3f9c2e1", "a3f9c2e", False),  # a code
        *(("Subject01", text, False) for text in ("Subject", "subject 2")),
        *((f"{word}12", word, False) for word in ("Pilot", "Proband", "Volunteer", "HEAD", "TEST")),
    ],
)
def test_what_is_left_of_a_part_of_a_name(name: str, text: str, is_found: bool) -> None:
    search = _tokens(NAME, name)
    assert bool(search.in_text(text)) == is_found
    assert bool(list(search.in_bytes(b"\0\1" + text.encode() + b"\1"))) == is_found


@pytest.mark.parametrize("name", ["Quasten*^Anna=Quasten^Anna", "Quasten^Anna=Quasten*^Anna"])
def test_a_name_that_is_also_written_whole_is_found_in_longer_words(name: str) -> None:
    search = _tokens(NAME, name)
    assert search.in_text("xxQuastenxx")
    assert list(search.in_bytes(b"\0\1xxQuastenxx\1"))
