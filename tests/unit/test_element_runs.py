"""A reader that has learnt from other files says the same of a file as one that has not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import product

import pytest

from tests import dicom_trees as trees
from tests.dicom_trees import IDENTITY, PIXELS, implicit, part10
from tests.unit.test_quick_header import DESCRIPTION, ODD, SOUND
from xnat_ingest.core.model import Instance, SourceFile
from xnat_ingest.inputs.element_runs import MOST_RUNS, Element, KnownRuns
from xnat_ingest.inputs.instances import BASE_TAGS
from xnat_ingest.inputs.quick_header import WINDOW, QuickReader

NUMBER, UID = 0x00200013, 0x00080018


def read(reader: QuickReader, data: bytes) -> Instance | None:
    return reader.instance(SourceFile("x", len(data), 1), io.BytesIO(data))


def fresh(data: bytes) -> Instance | None:
    return read(QuickReader({}, {}), data)


def series() -> list[bytes]:
    """Files whose values have several lengths, in every combination."""
    lengths = product((b"7 ", b"17", b"1007"), (b"1.2.3\0", b"1.2.33"), (b"", b"words ", b"more words"))
    return [
        part10(
            {
                **IDENTITY,
                0x00080008: ("UT", b"x" * len(number)),
                NUMBER: ("IS", number),
                UID: ("UI", uid),
                DESCRIPTION: ("LO", words),
                PIXELS: ("OW", bytes(len(words))),
            }
        )
        for number, uid, words in lengths
    ]


def test_values_of_other_lengths_are_found_in_their_places() -> None:
    reader = QuickReader({}, {})
    for data in (*series(), *series()):
        expected = fresh(data)
        assert expected is not None
        assert read(reader, data) == expected


def test_implicit_files_beside_explicit_ones() -> None:
    reader = QuickReader({}, {})
    plain = part10({}, "1.2.840.10008.1.2") + implicit(IDENTITY)
    for data in (plain, part10(IDENTITY), plain):
        assert read(reader, data) == fresh(data) is not None


def test_real_files_in_any_order() -> None:
    reader = QuickReader({}, {})
    found = [p.read_bytes() for p in sorted(trees.SAMPLES.rglob("*.dcm")) if p.stat().st_size]
    for data in (*found, *reversed(found)):
        one, other = read(reader, data), fresh(data)
        assert (one is None) == (other is None)
        assert one is None or other is None or one.sop_uid == other.sop_uid


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_stays_the_librarys(name: str) -> None:
    reader = QuickReader({}, {})
    for data in (*SOUND.values(), part10({**IDENTITY, PIXELS: ("OW", bytes(64))}), *series()):
        assert read(reader, data) is not None
    assert read(reader, ODD[name]) is None


def test_windows_that_end_anywhere() -> None:
    reader = QuickReader({}, {})
    for pad in range(WINDOW - 420, WINDOW - 180, 2):
        data = part10({0x00080006: ("UT", bytes(pad)), **IDENTITY, PIXELS: ("OW", bytes(8))})
        assert read(reader, data) == fresh(data) is not None, pad


def test_a_known_run_across_the_end_of_the_window_is_not_learnt_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning costs more than reading the elements one by one."""
    reader = QuickReader({}, {})
    near, far = (
        part10({0x00080006: ("UT", bytes(pad)), **IDENTITY, PIXELS: ("OW", bytes(8))}) for pad in (8, WINDOW - 224)
    )
    assert read(reader, near) is not None
    expected = fresh(far)
    assert expected is not None
    learnt: list[str] = []
    note = KnownRuns.note

    def noted(runs: KnownRuns, elements: Sequence[Element]) -> list[Element]:
        learnt.extend(f"{one.tag:08X}" for one in elements)
        return note(runs, elements)

    monkeypatch.setattr(KnownRuns, "note", noted)
    assert read(reader, far) == expected
    assert learnt == ["00080006"]  # its head tells its length


def test_a_file_that_ends_inside_a_known_run_is_the_librarys() -> None:
    reader = QuickReader({}, {})
    whole = part10({**IDENTITY, 0x00204000: ("LT", bytes(60))})
    assert read(reader, whole) is not None
    assert read(reader, whole[:-2]) is None


def test_files_alike_share_what_they_have_in_common() -> None:
    """It saves the conversion of each value, and the memory."""
    reader = QuickReader({"Modality": 0x00080060}, {})
    one, other = (
        read(reader, part10({**IDENTITY, 0x00080060: ("CS", b"MR"), NUMBER: ("IS", number)}))
        for number in (b"1 ", b"2 ")
    )
    assert one
    assert other
    assert (one.instance_number, other.instance_number) == ("1", "2")
    assert one.tags is other.tags
    apart = read(reader, part10({**IDENTITY, 0x00080060: ("CS", b"CT")}))
    assert apart
    assert apart.tags == {"Modality": "CT"}


def test_what_tells_instances_apart_is_kept_when_a_rule_asks_for_it() -> None:
    reader = QuickReader({"InstanceNumber": NUMBER}, {})
    numbers = (b"1 ", b"2 ")
    found = [read(reader, part10({**IDENTITY, NUMBER: ("IS", number)})) for number in numbers]
    assert [one and one.tags for one in found] == [{"InstanceNumber": "1"}, {"InstanceNumber": "2"}]


def elements(*lengths: int, long: bool = False) -> list[Element]:
    return [
        Element(b"%06d%02d" % (number, length) + b"wide" * long, number, b"LO", length)
        for number, length in enumerate(lengths)
    ]


def test_a_run_is_divided_at_the_element_that_differs() -> None:
    runs = KnownRuns(frozenset(BASE_TAGS))
    first, other = elements(2, 4, 6), elements(2, 5, 6)
    runs.note(first)
    run = runs[first[0].head]
    assert run.size == 2 + 4 + 6 + 3 * 8
    runs.divide(run, tuple(one.head for one in other))
    assert {one: list(run.elements) for one, run in runs.items()} == {
        first[0].head: first[:1],
        first[1].head: first[1:],
    }


def test_a_run_does_not_begin_with_a_long_head() -> None:
    """Eight bytes of it do not tell its length."""
    runs = KnownRuns(frozenset(BASE_TAGS))
    runs.note(elements(2, long=True))
    assert not runs
    runs.note([*elements(2, long=True), *elements(4)])
    assert [run.size for run in runs.values()] == [12]


def test_the_number_of_runs_is_bounded() -> None:
    runs = KnownRuns(frozenset(BASE_TAGS))
    for number in range(MOST_RUNS + 5):
        runs.note([Element(b"%08d" % number, number, b"LO", 2)])
    assert len(runs) == 5
