"""De-identification: what leaves is as long as was said, the same each time, and names nobody."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from functools import cache

import pydicom

from tests.dicom_trees import CT, MR
from tests.fuzz.dicom import scanned
from tests.fuzz.target import Target, samples
from tests.planted import PERSON, PLACES, leaks, patient
from xnat_ingest.core.model import Plan, Session, SetAside
from xnat_ingest.deidentify.objects import Deidentifier
from xnat_ingest.deidentify.profile import Profile, parse_profile
from xnat_ingest.deidentify.pseudonyms import Key
from xnat_ingest.inputs.outgoing import Outgoing
from xnat_ingest.inputs.same_object import is_planned

_KEY = Key(b"a key of tests, of no other use at all")


@cache
def _profile() -> Profile:
    return parse_profile('{"base": "basic", "burned_in": "allow"}', "fuzz")


def rewriting(data: bytes) -> None:
    source, found = scanned(data)
    if isinstance(found, SetAside):
        return
    deidentifier = Deidentifier(_profile(), _KEY)
    left = deidentifier.examine(source, found, found.tags)
    if isinstance(left, SetAside):
        assert left.detail
        return
    session = Session("P", "S01", "S01_a", left.study_uid, "x", (left,))
    ((instance,),) = (s.instances for s in deidentifier.settle(Plan("P", (session,), (), (), 1)).sessions)
    made = [_sent(Outgoing(source, instance, deidentifier.rewrite)) for _ in range(2)]
    assert made[0] == made[1]
    assert len(made[0]) == instance.length
    assert is_planned(source, instance, made[0], is_rewritten=True)
    _names_nobody(data, made[0])


def _names_nobody(before: bytes, after: bytes) -> None:
    """The invented person's words stood where persons are named: none of them leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            was = pydicom.dcmread(io.BytesIO(before), stop_before_pixels=True, force=True)
            named = (str(was.get("PatientName", "")), str(was.get("PatientID", "")))
        except Exception:  # noqa: BLE001 - the library raises many types
            return  # where pydicom reads nobody's name, none is known
        parsed = pydicom.dcmread(io.BytesIO(after), stop_before_pixels=True)
    assert parsed.PatientIdentityRemoved == "YES"
    assert (str(parsed.PatientName), str(parsed.PatientID)) == ("S01", "S01")
    if named == (PERSON.name, PERSON.patient_id):
        head = after[: len(after) - len(bytes(parsed.get("PixelData", b"")))]
        assert not [word for word in leaks(head, PERSON) if word in (b"quastenflosser", b"px4711-0815")]


def _sent(outgoing: Outgoing) -> bytes:
    with outgoing.open() as blocks:
        return b"".join(blocks)


def _patients() -> Iterator[bytes]:
    for number, plant in enumerate(PLACES.values()):
        dataset = patient(PERSON, MR if number % 2 else CT, number)
        plant(dataset, PERSON)
        if "PixelData" in dataset:
            dataset.Rows, dataset.Columns, dataset.PixelData = 4, 4, bytes(32)
        made = io.BytesIO()
        try:
            dataset.save_as(made, enforce_file_format=True)
        except Exception:  # noqa: BLE001 - the library raises many types
            continue  # a place that only a file made by hand can have
        yield made.getvalue()
    yield from samples(8000)


TARGETS = (Target("deidentify", rewriting, _patients),)
