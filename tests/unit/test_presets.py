"""Presets: what they take of real files and of the names that scanners give, and that they can be printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.test_rules import configured, left_out, unused
from tests.dicom_trees import IDENTITY, PIXELS, SAMPLES, part10
from tests.unit.test_plan import plan_of
from xnat_ingest.core.errors import UsageError
from xnat_ingest.planning.rule_presets import PRESETS, preset_lines

IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def dicom(number: int, sop_class: str = IMAGE, description: str = "", image_type: str = "") -> bytes:
    texts = {0x00080016: ("UI", sop_class), 0x0008103E: ("LO", description), 0x00080008: ("CS", image_type)}
    texts |= {0x00080018: ("UI", f"1.2.{number}"), 0x0020000D: ("UI", "1.2"), 0x0020000E: ("UI", f"1.3.{number}")}
    data = {PIXELS: ("OW", bytes(8)), 0x56000020: ("OF", bytes(8)), 0x00420011: ("OB", b"%PDF")}
    return part10({**IDENTITY, **data, **{tag: (vr, text.encode()) for tag, (vr, text) in texts.items()}})


def taken(preset: str, files: dict[str, bytes]) -> set[str]:
    """Which files of a session, each in a folder of its own, the preset leaves out."""
    plan = plan_of({f"S/E/{name}/1": data for name, data in files.items()}, exclude=[f"preset:{preset}"])
    return left_out(plan)


LOCALIZERS = [
    "localizer", "Localizers", "localizer_32ch", "3-plane localizer", "FAST LOCALIZER", "Localiser", "AAHead_Scout",
    "AAHead_Scout_32ch-head-coil_MPR_sag", "AAHScout", "AASpine_Scout", "SCOUT", "Scout", "Survey", "WIP SURVEY_32ch",
    "SmartSurvey", "Surview", "Topogram  0.6  T20f", "3-Plane Loc SSFSE", "3 PLANE LOC", "3-pl Loc", "LOC", "Ax Loc",
    "loc_3pl", "T/S/C RF FAST PILOT", "Locator", "Scanogram", "brain localizer",
]  # fmt: skip
OTHERS = [
    "T1_MPRAGE_sag", "face_localizer_run1", "fMRI localizer", "ep2d_bold_localizer", "language localizer", "fLoc_task",
    "LOC_faces", "pilot_T1", "Pilot study DWI", "velocity_loc1", "localized shimming", "MRS_single_voxel_localized",
    "ASSET calibration", "Dose surveyed", "3-plane DWI", "block design", "allocate", "t2_locked", "SmartBrain", "",
]  # fmt: skip


def test_localizers_by_name() -> None:
    """Planning scans of all makers; not what localizes a function of the brain, nor words that hold the letters."""
    files = {f"{n:03}": dicom(n, description=name) for n, name in enumerate(LOCALIZERS + OTHERS)}
    assert taken("localizers", files) == {f"{n:03}" for n in range(len(LOCALIZERS))}


def test_localizers_by_content() -> None:
    """A scout says so in its ImageType, whatever its series is called; other letters are another value."""
    files = {
        "ct": dicom(1, image_type="ORIGINAL\\PRIMARY\\LOCALIZER\\CT_SOM5 TOP"),
        "axial": dicom(2, image_type="ORIGINAL\\PRIMARY\\AXIAL"),
        "other": dicom(3, image_type="ORIGINAL\\PRIMARY\\LOCALIZERS"),
        "case": dicom(4, image_type="ORIGINAL\\PRIMARY\\Localizer"),
    }
    assert taken("localizers", files) == {"ct"}


@pytest.mark.parametrize(
    ("preset", "names", "others"),
    [
        (
            "secondary-capture",
            {"SC_rgb_rle.dcm", "SC_rgb_small_odd_big_endian.dcm", "image_dfl.dcm", "JPEG-lossy.dcm"},
            {"MR_small.dcm", "CT_small.dcm", "examples_overlay.dcm", "test-SR.dcm", "liver_1frame.dcm", "rtplan.dcm"},
        ),
        (
            "no-pixels",
            {"test-SR.dcm", "reportsi.dcm"},
            {"MR_small.dcm", "liver_1frame.dcm", "rtplan.dcm", "waveform_ecg.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm"},
        ),
        ("localizers", set(), {"MR_small.dcm", "CT_small.dcm", "693_J2KI.dcm", "test-SR.dcm", "examples_overlay.dcm"}),
    ],
)
def test_presets_on_real_files(preset: str, names: set[str], others: set[str]) -> None:
    """Each file its own session, since they are of different studies."""
    files = {f"S/{name}/x/1": (SAMPLES / name).read_bytes() for name in names | others}
    plan = plan_of(files, exclude=[f"preset:{preset}"])
    assert {aside.path.split("/")[1] for aside in plan.set_aside} == names
    assert {aside.reason for aside in plan.set_aside} <= {f"excluded:preset:{preset}"}


def test_planning_scans_of_a_real_medium() -> None:
    """GE's CT scouts, which ImageType tells, and MR localizers and pilots, which only their names tell."""
    paths = [path for path in (SAMPLES / "dicomdirtests").rglob("*") if path.name.isdecimal() and path.is_file()]
    plan = plan_of(
        {f"x/{path.name}": path.read_bytes() for path in paths}, exclude=["preset:localizers"], layout="headers"
    )
    gone = {aside.path.removeprefix("x/") for aside in plan.set_aside if aside.reason == "excluded:preset:localizers"}
    scouts, localizers = {"6293", "6924"}, {"15820", "4919", "5641", "15970"}
    pilots = {"4950", "4981", "5011", "6273", "6605", "6935"}
    assert gone == scouts | localizers | pilots
    assert {i.path.removeprefix("x/") for s in plan.sessions for i in s.instances} >= {"17106", "2062", "4467", "6154"}


@pytest.mark.parametrize(
    ("sop_class", "goes"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", True),  # text report
        ("1.2.840.10008.5.1.4.1.1.88.59", True),  # key objects
        ("1.2.840.10008.5.1.4.1.1.88.67", True),  # dose report
        ("1.2.840.10008.5.1.4.1.1.11.1", True),  # presentation state
        ("1.2.840.10008.5.1.4.1.1.66", True),  # raw data
        ("1.2.840.10008.5.1.4.1.1.104.1", True),  # PDF
        ("1.3.46.670589.11.0.0.12.4", True),  # Philips' exam card
        ("1.2.840.10008.5.1.4.1.1.66.4", False),  # segmentation
        ("1.2.840.10008.5.1.4.1.1.4.2", False),  # spectra
        ("1.3.46.670589.11.0.0.12.1", False),  # Philips' spectra
        ("1.3.12.2.1107.5.9.1", False),  # Siemens' non-images, spectra among them
        ("1.2.840.10008.5.1.4.1.1.481.3", False),  # structures of radiotherapy
        ("1.2.840.10008.5.1.4.1.1.4", False),
    ],
)
def test_what_counts_as_without_pixels(sop_class: str, goes: bool) -> None:
    assert taken("no-pixels", {"x": dicom(1, sop_class), "y": dicom(2)}) == ({"x"} if goes else set())


def test_several_presets_and_words_in_one_flag() -> None:
    files = {"007/pre/a/1": dicom(1, description="localizer"), "007/pre/b/1": dicom(2, f"{IMAGE[:-1]}88.11"),
             "007/pre/moco/1": dicom(3), "007/pre/c/1": dicom(4)}  # fmt: skip
    plan = plan_of(files, exclude=["preset:localizers,preset:no-pixels,moco"])
    assert left_out(plan) == {"a", "b", "moco"}
    assert unused(plan) == []


def test_preset_as_include_and_in_a_config_file(tmp_path: Path) -> None:
    files = {"S/E/a/1": dicom(1, description="localizer"), "S/E/b/1": dicom(2, description="T1")}
    assert left_out(configured(tmp_path, {"exclude": [{"preset": "localizers"}]}, files)) == {"a"}
    assert left_out(configured(tmp_path, {"exclude": ["preset:localizers"]}, files)) == {"a"}
    assert left_out(configured(tmp_path, {"include": [{"preset": "localizers"}]}, files)) == {"b"}


def test_unused_preset_is_told_once() -> None:
    assert unused(plan_of({"S/E/b/1": dicom(2)}, exclude=["preset:localizers"])) == [
        "the rule preset:localizers matched nothing"
    ]


@pytest.mark.parametrize("given", ["preset:localizer", "preset:", {"preset": "Localizers"}])
def test_unknown_preset(given: object) -> None:
    with pytest.raises(UsageError, match=r"is not a preset; (did you mean localizers|there are localizers, )"):
        plan_of({"S/E/b/1": dicom(2)}, exclude=[given])


@pytest.mark.parametrize("name", PRESETS)
def test_printed_preset_is_a_config_file_of_the_same_rules(name: str, tmp_path: Path) -> None:
    """Written down, it leaves out what the preset leaves out."""
    config = json.loads(preset_lines(name))
    files = {f"S/E/{n:03}/1": dicom(n, description=text) for n, text in enumerate(LOCALIZERS + OTHERS)}
    files |= {
        "S/E/sc/1": dicom(800, "1.2.840.10008.5.1.4.1.1.7"),
        "S/E/sr/1": dicom(801, "1.2.840.10008.5.1.4.1.1.88.11"),
    }
    whole = left_out(configured(tmp_path, config, files))
    assert whole == left_out(plan_of(files, exclude=[f"preset:{name}"]))
    assert whole
    assert preset_lines(f"preset:{name}") == preset_lines(name)


def test_list_of_presets() -> None:
    lines = preset_lines().splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS) == ["localizers", "secondary-capture", "no-pixels"]
    with pytest.raises(UsageError, match="did you mean no-pixels"):
        preset_lines("no-pixel")
