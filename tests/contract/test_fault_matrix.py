"""Some cells of the table of troubles; `make faults` runs all of it. And that its judgement can fail."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.contract.fault_matrix import TOTAL, Bench, Cell, Certificates, Way
from tests.standin import Fault

SOME = [
    ("100 Continue for ever", "sending", Way("zip", "prearchive")),
    ("417 before the body", "sending", Way("gradual", "direct-archive")),
    ("length too small", "committing", Way("tar", "archive")),
    ("redirect from https to http", "sending", Way("tar", "prearchive")),
    ("TLS: another's from now on", "sending", Way("cstore", "archive")),
    ("TLS: a forged record", "listing", Way("tar", "archive")),
    ("no DNS for a while", "sending", Way("gradual", "archive")),
    ("server restarted", "sending", Way("cstore", "prearchive")),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"))


def ended(kind: str, moment: str, way: Way, folder: Path, certificates: Certificates, fault: Fault | None) -> Cell:
    bench = Bench(way, kind, moment, folder, certificates)
    if fault:
        bench.site.faults.add(fault)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = bench.cell()
    assert isinstance(cell, Cell)
    return cell


@pytest.mark.wide
@pytest.mark.parametrize(("kind", "moment", "way"), SOME, ids=[f"{k}, {w}" for k, _, w in SOME])
def test_cell(kind: str, moment: str, way: Way, tmp_path: Path, certificates: Certificates) -> None:
    cell = ended(kind, moment, way, tmp_path, certificates, None)
    assert not cell.broken
    assert cell.again == 0
    assert (cell.code == 0) <= (cell.whole == cell.verified == TOTAL)


@pytest.mark.wide
def test_judgement(tmp_path: Path, certificates: Certificates) -> None:
    """A byte that is stored wrong behind a listing that shows nothing of it is called a lie."""
    fault = Fault("flip", name="-1-4-", keep=-100)
    cell = ended("clock a day ahead", "sending", Way("tar", "archive"), tmp_path, certificates, fault)
    assert any("a lie" in one for one in cell.broken)
