"""Names: how XNAT stores an instance, what a label may be, and how file names look in our output."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.dicom_trees import MR, SAMPLES, encode, read
from tests.standin.namer import make_file_name
from tests.unit.test_plan import dicom, plan_of
from xnat_ingest.core.model import Instance
from xnat_ingest.core.stored_name import base36, java_hash, stored_name, uid_hash
from xnat_ingest.core.text import LABEL, count_of, legal_label, printable, read_as_utf8
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_headers import scan

# Long.toString(Arrays.asList(first, second).hashCode() & 0xffffffffL, 36), as Java 17 prints it.
JAVA = [
    ("1.2.840.10008.5.1.4.1.1.4", "1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457", "p507ya"),
    ("1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "mrsd9d"),
    ("1.2.840.10008.5.1.4.1.1.88.11", "2.25.329800735698586629295641978511506172918", "1wm83gh"),
    ("1.2.840.10008.5.1.4.1.1.7", "9.9.9.9.9.9.9.9", "1jkfg5e"),
    ("", "", "qp"),
    ("", "1", "s2"),
    ("a", "b", "34y"),
    ("polygenelubricants", "", "zik1q9"),
    ("é", "\U0001d518", "125x7"),
]
TEMPLATE = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"


@pytest.mark.parametrize(("sop_class", "sop_uid", "hashed"), JAVA, ids=[f"{a}+{b}" for a, b, _ in JAVA])
def test_the_hash_is_that_of_javas_lists(sop_class: str, sop_uid: str, hashed: str) -> None:
    """The last part of a name is List.hashCode of both UIDs, unsigned, in base 36, negative ones included."""
    assert uid_hash(sop_class, sop_uid) == hashed


@pytest.mark.parametrize("size", [0, 1, 63, 127, 128, 129, 500])
def test_a_hash_of_any_length_is_javas(size: int) -> None:
    text = "1.2.840.10008.5"[: size % 16] + "7" * (size - size % 16)
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) % 2**32
    assert java_hash(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("", 0), ("a", 97), ("polygenelubricants", 0x80000000), ("1.2.840.10008.5.1.4.1.1.4", 1091423266)],
)
def test_the_string_hash_is_that_of_java(text: str, value: int) -> None:
    """String.hashCode over UTF-16 units, as an unsigned number."""
    assert java_hash(text) == value


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (35, "z"), (36, "10"), (0xFFFFFFFF, "1z141z3")],
    ids=["zero", "z", "carry", "largest"],
)
def test_base_36_is_lower_case_without_padding(number: int, text: str) -> None:
    """Digits as Java's Long.toString(n, 36) writes them."""
    assert base36(number) == text
    assert int(text, 36) == number


@pytest.mark.parametrize(
    ("series", "instance", "name"),
    [
        ("3", "17", "1.2.3-3-17-abc.dcm"),
        ("0", "0", "1.2.3-0-0-abc.dcm"),
        ("-5", "70000", "1.2.3--5-70000-abc.dcm"),
        ("", "1", "1.2.3-no-value-for-SeriesNumber-1-abc.dcm"),
        ("1", "", "1.2.3-1-no-value-for-InstanceNumber-abc.dcm"),
        ("", "", "1.2.3-no-value-for-SeriesNumber-no-value-for-InstanceNumber-abc.dcm"),
    ],
    ids=["usual", "zeros", "negative-and-large", "no-series", "no-instance", "neither"],
)
def test_names_are_those_of_the_default_template(series: str, instance: str, name: str) -> None:
    """Numbers stand as written; what is absent is named as XNAT's namer names it."""
    assert stored_name("1.2.3", series, instance, "abc") == name


def test_leading_dots_are_stripped() -> None:
    """XNAT strips them, so the listing shows the name without."""
    assert stored_name("..1.2", "1", "1", "x") == "1.2-1-1-x.dcm"


def test_a_real_file_gets_its_name_from_its_header() -> None:
    """Instance.name of a scanned file is the template filled with that file's values."""
    found = {item.path: item for item in scan(open_source(str(SAMPLES)), lambda path: None if path == MR else "no")}
    instance, header = found[MR], read(MR)
    assert isinstance(instance, Instance)
    assert instance.name == f"{header.StudyInstanceUID}-1-1-p507ya.dcm"
    assert instance.name == make_file_name(TEMPLATE, header)


@pytest.mark.parametrize(
    "number",
    [b"", b"  ", b"7", b" 7 ", b"007 ", b"+3", b"-1", b"70000 ", b"4\\5 ", b"1.5 ", b"a/b ", b"../x ", b"\xe97"],
    ids=[
        "empty",
        "blank",
        "plain",
        "padded",
        "zeros",
        "plus",
        "negative",
        "large",
        "two",
        "point",
        "slash",
        "up",
        "latin",
    ],
)
def test_names_agree_with_the_servers_namer(number: bytes, tmp_path: Path) -> None:
    """Whatever stands in SeriesNumber, the plan expects the name that a server with the default template stores."""
    header = read(MR)
    del header.SeriesNumber
    path = tmp_path / "file"
    header.save_as(path, enforce_file_format=True)
    raw = path.read_bytes()
    at = raw.index(b"\x20\x00\x13\x00IS")
    path.write_bytes(raw[:at] + encode({0x00200011: ("IS", number)}) + raw[at:])
    (instance,) = scan(open_source(str(tmp_path)), lambda path: None)
    assert isinstance(instance, Instance)
    import pydicom

    # A slash makes the server store into a folder; what it lists is the last part.
    assert instance.name == make_file_name(TEMPLATE, pydicom.dcmread(path)).rpartition("/")[2]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A-b_9", "A-b_9"),
        ("a b", "a_b"),
        ("***", "___"),
        ("a@b.c", "a_b_c"),
        ("é", "_"),
        ("\u0661", "_"),
        ("x\n", "x_"),
        ("\udcff", "_"),
        ("", ""),
    ],
)
def test_illegal_characters_of_labels_become_underscores(text: str, label: str) -> None:
    """One character for one; digits and letters beyond ASCII are illegal too."""
    assert legal_label(text) == label
    assert bool(LABEL.fullmatch(label)) == bool(label)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain/é 日本 T1.dcm", "plain/é 日本 T1.dcm"),
        ("a'b\"c", "a'b\"c"),
        ("100%d %s", "100%d %s"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b31m\x7f\0", r"\x9b31m\x7f\x00"),
        ("a\u202eb\u2028c", r"a\u202eb\u2028c"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        (os.fsdecode(b"\xff\n\xc3\xa9"), r"\xff\né"),
    ],
    ids=["text", "quotes", "percent", "lines", "colour", "c1", "direction", "latin-1", "mixed"],
)
def test_file_names_are_shown_in_one_harmless_line(text: str, shown: str) -> None:
    """Control characters, escape sequences and bytes that are no UTF-8 are shown, not sent to the terminal."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 scans"), (1, "1 scan"), (1.0, "1 scan"), (999_999, "999999 scans"), (10**6, "1000000 scans")],
)
def test_a_number_with_its_word(number: float, text: str) -> None:
    """In digits, however large."""
    assert count_of(number, "scan") == text


def test_whatever_the_name_printable_gives_valid_unicode() -> None:
    """Random bytes, and lone surrogates (a JSON config can hold them), give one line that UTF-8 can hold."""
    draw = random.Random(3)
    names = [os.fsdecode(draw.randbytes(20)) for _ in range(200)]
    names += [json.loads('"\\ud800"'), json.loads('"a\\udfffb"')]
    for name in names:
        shown = printable(name)
        assert shown.encode("utf-8")
        assert shown.isprintable()


def test_half_a_pair_has_a_hash_as_in_java() -> None:
    """A JSON document can hold one. Java's strings can, too."""
    assert java_hash("\ud800") == 0xD800


@pytest.mark.parametrize(
    ("name", "encoding", "read"),
    [
        ("M\u00c3\u00bcller", "iso8859-1", "Müller"),
        ("M\udcc3\udcbcller", "ascii", "Müller"),
        ("Müller", "utf-8", "Müller"),
        ("Müller", "iso8859-1", "Müller"),  # no UTF-8 on the disk
        ("M\udcfcller", "utf-8", "M\udcfcller"),
        ("王", "iso8859-1", "王"),  # a name in an archive
        ("Meier", "iso8859-1", "Meier"),
    ],
)
def test_names_are_utf8_whatever_the_locale(name: str, encoding: str, read: str) -> None:
    assert read_as_utf8(name, encoding) == read


def test_a_label_does_not_depend_on_the_locale(tmp_path: Path) -> None:
    """LC_ALL=C reads the bytes of a name one by one. The label would get two underscores."""
    plan = plan_of({"M\udcc3\udcbcller/pre/1": dicom("1")})
    assert [session.subject for session in plan.sessions] == ["M_ller"]
