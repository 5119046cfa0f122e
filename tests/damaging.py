"""Damaged headers full of a patient's words, rewritten: `python -m tests.damaging 20000 [SEED]`. No word may leave.

Every place of tests/planted.py, in three encodings, with one to three changes in the bytes before the pixels: bits,
tags, value representations, lengths, pieces lost, doubled, moved or put in. What is rewritten is searched for the
words, byte by byte. Where the damage itself struck such a word, it does not count: then no element tells it any more.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.dicom_trees import CT, MR, Memory
from tests.planted import PERSON, PLACES, leaks, patient
from xnat_ingest.core.model import Instance, Plan, Session, SetAside
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import READY, load_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.outgoing import Outgoing

KEY = Key(b"a key of tests, of no other use at all")
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_LENGTHS = (0, 1, 2, 4, 8, 16, 40, 64, 200, 1000, 0xFFFF, 0xFFFFFFFF)

Damage = Callable[[bytearray, random.Random], None]
DAMAGES: dict[str, Damage] = {}


def damage(do: Damage) -> Damage:
    DAMAGES[do.__name__] = do
    return do


@damage
def bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


@damage
def byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.choice((0, 1, 0x20, 0x5C, 0x7F, 0x80, 0xFF, chance.randrange(256)))


@damage
def lost(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 2, 4, 8, 12, 64))]


@damage
def doubled(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.choice((1, 2, 8, 12, 20, 64))]


@damage
def moved(data: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(data)), chance.choice((2, 8, 16, 30, 64))
    piece = data[at : at + size]
    del data[at : at + size]
    to = chance.randrange(len(data) + 1)
    data[to:to] = piece


@damage
def put_in(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8)))


def _element(data: bytearray, chance: random.Random) -> int:
    """Where some element seems to begin: damage that knows what a header is goes deeper."""
    for _ in range(200):
        at = chance.randrange(max(1, len(data) - 8))
        if bytes(data[at + 4 : at + 6]) in _VRS:
            return at
    return chance.randrange(max(1, len(data) - 8))


@damage
def length(data: bytearray, chance: random.Random) -> None:
    """Of an element with a short length, or any four bytes."""
    at = _element(data, chance)
    if chance.random() < 0.7:
        data[at + 6 : at + 8] = struct.pack("<H", chance.choice(_LENGTHS) & 0xFFFF)
    else:
        data[at + 4 : at + 8] = struct.pack("<L", chance.choice(_LENGTHS))


@damage
def representation(data: bytearray, chance: random.Random) -> None:
    at = _element(data, chance)
    data[at + 4 : at + 6] = chance.choice(_VRS)


@damage
def tag(data: bytearray, chance: random.Random) -> None:
    at, other = _element(data, chance), _element(data, chance)
    data[at : at + 4] = data[other : other + 4]


@damage
def swallowed(data: bytearray, chance: random.Random) -> None:
    """A length that takes in the elements behind."""
    at = _element(data, chance)
    had = struct.unpack_from("<H", data, at + 6)[0]
    struct.pack_into("<H", data, at + 6, (had + chance.choice((8, 16, 24, 30, 50, 100, 300))) & 0xFFFF)


@dataclass
class Figures:
    """What became of the damaged headers. leaks: (damages, place, syntax, profile, words, the damaged file)."""

    fates: Counter[str] = field(default_factory=Counter)
    leaks: list[tuple[str, str, str, str, list[bytes], bytes]] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        said = ", ".join(f"{number} {fate}" for fate, number in self.fates.most_common())
        return f"{self.fates.total()} damaged headers in {self.seconds:.0f} s: {said}; {len(self.leaks)} leaked"


@cache
def seeds() -> list[tuple[str, str, bytes, bytes]]:
    """(place, name of the syntax, the bytes before the data set, the data set up to its pixels and the pixels)."""
    return list(_seeds())


def _seeds() -> Iterator[tuple[str, str, bytes, bytes]]:
    for number, (name, plant) in enumerate(PLACES.items()):
        for syntax in SYNTAXES:
            dataset = patient(PERSON, MR if number % 2 else CT, number)
            plant(dataset, PERSON)
            dataset.Rows, dataset.Columns, dataset.PixelData = 4, 4, bytes(32)
            try:
                yield name, syntax.name, *_written(dataset, syntax)
            except Exception:  # noqa: BLE001 - the library raises many types
                continue  # a place that only a file made by hand can have


def _written(dataset: Dataset, syntax: UID) -> tuple[bytes, bytes]:
    made = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(
        made, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=False,
    )  # fmt: skip
    whole = made.getvalue()
    start = whole.index(b"\x08\x00\x05\x00" if syntax != ExplicitVRBigEndian else b"\x00\x08\x00\x05", 132)
    return whole[:start], whole[start:]


def fate(data: bytes, how: str) -> tuple[str, bytes]:
    """What becomes of a file: why it does not leave, or "left" and what left of it."""
    source = Memory({"x": data})
    (found,) = scan(source, lambda _: None)
    if isinstance(found, SetAside):
        return f"set aside ({found.reason})", b""
    deidentifier = Deidentifier(load_profile(how), KEY)
    left = deidentifier.examine(source, found)
    if isinstance(left, SetAside):
        return f"set aside ({left.reason})", b""
    return "left", sent(source, left, deidentifier)


def sent(source: Memory, instance: Instance, deidentifier: Deidentifier) -> bytes:
    session = Session("P", "S01", "S01_a", instance.study_uid, "x", (instance,))
    ((member,),) = (s.instances for s in deidentifier.settle(Plan("P", (session,), (), (), 1)).sessions)
    with Outgoing(source, member, deidentifier.rewrite).open() as blocks:
        return b"".join(blocks)


def drive(number: int, seed: int, *, kinds: Sequence[str] = ()) -> Figures:
    """So many damaged headers."""
    chance, figures, begun = random.Random(seed), Figures(), time.monotonic()
    all_seeds, names = seeds(), list(kinds or DAMAGES)
    for count in range(number):
        place, syntax, before, rest = all_seeds[count % len(all_seeds)]
        pixels = max(rest.rfind(mark) for mark in PIXELS)
        header, done = bytearray(rest[:pixels]), []
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            done.append(chance.choice(names))
            DAMAGES[done[-1]](header, chance)
        data, how = before + bytes(header) + rest[pixels:], READY[count % len(READY)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what, out = fate(data, how)
        figures.fates[what] += 1
        if words := [word for word in leaks(out, PERSON) if _is_told(word, before + rest, data)]:
            figures.leaks.append(("+".join(done), place, syntax, how, words, data))
    figures.seconds = time.monotonic() - begun
    return figures


def _is_told(word: bytes, before: bytes, after: bytes) -> bool:
    """Whether the damage spared the word: where it struck the only element that told it, nobody can know it."""
    number = int(PERSON.birth)
    packed = struct.pack("<L", number).lower(), struct.pack("<d", number).lower()
    told = PERSON.birth.encode() if word in (b"1953-04-17", b"17.04.1953", *packed) else word
    return after.lower().count(told) >= before.lower().count(told)


def main(argv: Sequence[str]) -> int:
    seed = int(argv[1]) if len(argv) > 1 else random.SystemRandom().randrange(10**6)
    figures = drive(int(argv[0]) if argv else 20_000, seed)
    print(f"seed {seed}: {figures}")
    for one in figures.leaks[:40]:
        print("  ", *one[:5])
    return 1 if figures.leaks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
