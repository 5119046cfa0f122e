"""What scans a build makes: the label ``secondary``, and several series of one number."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydicom import uid

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.model import Row
from tests.standin.primary import PRIMARY as ALL_PRIMARY
from tests.standin.samples import STUDY, Client, dicom, series

__all__ = ["client", "site"]

CAPTURE: dict[str, Any] = {"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "OT"}
MIXED = {"1.dcm": dicom(1), "2.dcm": dicom(2), "9.dcm": dicom(9, **CAPTURE)}


def send(client: Client, members: dict[str, bytes], **query: Any) -> str:
    reply = client.send(members, **query)
    assert reply.status == 200
    return reply.text.strip()


def built(client: Client, members: dict[str, bytes]) -> str:
    uri = send(client, members)
    assert client("POST", uri, action="build").status == 200
    return uri


def labels(client: Client, base: str, scan: str) -> list[tuple[str, str]]:
    rows = client("GET", f"{base}/scans/{scan}/resources", format="json").rows
    return [(row["label"], row["file_count"]) for row in rows]


def folders(row: Row) -> dict[str, int]:
    """Folder below SCANS -> files in it."""
    found: dict[str, int] = {}
    for path in sorted(row.directory.glob("SCANS/**/*")):
        if path.is_file():
            key = path.parent.relative_to(row.directory / "SCANS").as_posix()
            found[key] = found.get(key, 0) + 1
    return found


# -- secondary


def test_a_build_moves_what_is_no_primary_image(site: StandIn, client: Client) -> None:
    uri = send(client, MIXED)
    assert folders(site.rows("DEMO")[0]) == {"1/DICOM": 3}
    client("POST", uri, action="build")
    assert folders(site.rows("DEMO")[0]) == {"1/DICOM": 2, "1/secondary": 1}
    listed = client("GET", uri + "/scans/1/resources", format="json").rows
    assert [list(row) for row in listed] == [["label", "file_count", "file_size"]] * 2
    assert [(row["label"], row["file_count"]) for row in listed] == [("DICOM", "2"), ("secondary", "1")]
    (second,) = client("GET", uri + "/scans/1/resources/secondary/files", format="json").rows
    assert second["Name"].startswith(f"{STUDY}-1-9-")
    assert client("GET", second["URI"]).data == dicom(9, **CAPTURE)
    assert listed[1]["file_size"] == second["Size"] == str(len(dicom(9, **CAPTURE)))


def test_a_series_without_primary_images_has_no_label_dicom(client: Client) -> None:
    uri = built(client, {"1.dcm": dicom(1, **CAPTURE), "2.dcm": dicom(2, **CAPTURE)})
    assert labels(client, uri, "1") == [("secondary", "2")]
    assert client("GET", uri + "/scans/1/resources/DICOM/files", format="json").status == 404
    assert client("GET", uri + "/scans/1/resources/secondary/files", format="json").status == 200


PRIMARY = [
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.RTDoseStorage,
    uid.RTImageStorage,
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.VLWholeSlideMicroscopyImageStorage,
    uid.BreastTomosynthesisImageStorage,
]
OTHER = [
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.ComprehensiveSRStorage,
    uid.XRayRadiationDoseSRStorage,
    uid.KeyObjectSelectionDocumentStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.RawDataStorage,
    "1.3.12.2.1107.5.9.1",  # Siemens CSA non-image
    uid.MRSpectroscopyStorage,
    uid.SegmentationStorage,
    uid.RTStructureSetStorage,
    uid.RTPlanStorage,
    uid.EncapsulatedPDFStorage,
]


@pytest.mark.parametrize(
    ("sop_class", "label"), [*((one, "DICOM") for one in PRIMARY), *((one, "secondary") for one in OTHER)]
)
def test_which_sop_classes_are_primary(client: Client, sop_class: str, label: str) -> None:
    uri = built(client, {"1.dcm": dicom(1, SOPClassUID=sop_class, ImageType=["DERIVED", "SECONDARY"])})
    assert labels(client, uri, "1") == [(label, "1")]


NAMES = """
    AmbulatoryECGWaveform BasicTextSR BodyPositionWaveform BreastTomosynthesisImage CTImage
    CardiacElectrophysiologyWaveform ComputedRadiographyImage ConfocalMicroscopyImage DermoscopicPhotographyImage
    DigitalIntraOralXRayImage:ForPresentation DigitalIntraOralXRayImage:ForProcessing
    DigitalMammographyXRayImage:ForPresentation DigitalMammographyXRayImage:ForProcessing
    DigitalXRayImage:ForPresentation DigitalXRayImage:ForProcessing ElectromyogramWaveform ElectrooculogramWaveform
    EncapsulatedOBJ EnhancedCTImage EnhancedMRImage EnhancedPETImage EnhancedSR HemodynamicWaveform MRImage
    EncapsulatedMTL MicroscopyBulkSimpleAnnotations NuclearMedicineImage OphthalmicPhotography16BitImage
    OphthalmicPhotography8BitImage OphthalmicTomographyImage PhotoacousticImage PositronEmissionTomographyImage RTDose
    RTImage RespiratoryWaveform TwelveLeadECGWaveform UltrasoundImage UltrasoundMultiFrameImage VLMicroscopicImage
    VLWholeSlideMicroscopyImage VideoEndoscopicImage VideoMicroscopicImage VideoPhotographicImage
    XRay3DAngiographicImage XRay3DCraniofacialImage XRayAngiographicImage XRayRadiofluoroscopicImage
"""


def test_the_whole_list_of_primary_classes() -> None:
    """By their names, as XNAT's list has them."""
    keywords = [name.partition(":") for name in NAMES.split()]
    assert {str(getattr(uid, one + "Storage" + more)) for one, _, more in keywords} == ALL_PRIMARY
    assert len(ALL_PRIMARY) == 47


def test_a_site_may_keep_everything_together(site: StandIn, client: Client) -> None:
    site.settings.separate_secondary = False
    uri = built(client, MIXED)
    assert labels(client, uri, "1") == [("DICOM", "3")]


def test_the_archive_keeps_both_labels(site: StandIn, client: Client) -> None:
    uri = send(client, MIXED)
    assert client("POST", uri, action="commit", AA="true").status == 301
    base = "/data/experiments/XNAT_E00001"
    assert labels(client, base, "1") == [("DICOM", "2"), ("secondary", "1")]
    rows = client("GET", base + "/scans/1/resources", format="json").rows
    assert [(row["format"], row["content"]) for row in rows] == [("DICOM", "RAW"), ("DICOM", "secondary")]
    files = client("GET", base + "/scans/ALL/files", format="json").rows
    assert sorted(row["collection"] for row in files) == ["DICOM", "DICOM", "secondary"]
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert len(session.files) == 3
    assert {path.parent.name for path in session.files.values()} == {"DICOM", "secondary"}
    for row in files:
        assert client("GET", row["URI"]).status == 200


@pytest.mark.parametrize("members", [MIXED, {"9.dcm": dicom(9, **CAPTURE)}])
def test_sending_again_after_a_build_overwrites_nothing(
    site: StandIn, client: Client, members: dict[str, bytes]
) -> None:
    """The new copy comes to DICOM, the build cannot move it over the old one, and archiving stops."""
    uri = built(client, members)
    assert send(client, {"9.dcm": dicom(9, PatientID="new", **CAPTURE)}) == uri
    client("POST", uri, action="build")
    row = site.rows("DEMO")[0]
    assert row.status == "READY"
    assert folders(row)["1/secondary"] == 1
    assert folders(row)["1/DICOM"] == len(members)
    (old,) = client("GET", uri + "/scans/1/resources/secondary/files", format="json").rows
    assert client("GET", old["URI"]).data == dicom(9, **CAPTURE)
    refused = client("POST", uri, action="commit", AA="true")
    assert (refused.status, row.status) == (500, "ERROR")
    label = "DICOM" if "1.dcm" in members else "secondary"
    assert f"Scan 1 has 1 non-{label} (or non-parsable {label}) files" in (refused.reason or "")


def test_an_inline_commit_says_400_to_that(site: StandIn, client: Client) -> None:
    built(client, MIXED)
    refused = client.send({"9.dcm": dicom(9, **CAPTURE)}, action="commit", AA="true")
    assert (refused.status, refused.reason) == (400, "unable to archive for the Prearchive session")
    assert site.rows("DEMO")[0].status == "ERROR"


def test_sending_again_before_a_build_overwrites(client: Client) -> None:
    send(client, MIXED)
    uri = built(client, {"9.dcm": dicom(9, PatientID="new", **CAPTURE)})
    (row,) = client("GET", uri + "/scans/1/resources/secondary/files", format="json").rows
    assert client("GET", row["URI"]).data == dicom(9, PatientID="new", **CAPTURE)
    assert client("POST", uri, action="commit", AA="true").status == 301


def test_another_secondary_object_after_a_build_joins_the_others(client: Client) -> None:
    uri = built(client, MIXED)
    send(client, {"8.dcm": dicom(8, **CAPTURE)})
    client("POST", uri, action="build")
    assert labels(client, uri, "1") == [("DICOM", "2"), ("secondary", "2")]
    assert client("POST", uri, action="commit", AA="true").status == 301


# -- two series of one number

TWO = {"a.dcm": dicom(1), "b.dcm": dicom(1, series=2, SeriesNumber=1), "c.dcm": dicom(2, series=2, SeriesNumber=1)}


def test_each_of_two_series_of_one_number_gets_an_id_of_its_own(site: StandIn, client: Client) -> None:
    uri = built(client, TWO | {"z.dcm": dicom(1, series=5)})
    assert [row["ID"] for row in client("GET", uri + "/scans", format="json").rows] == ["1-MR1", "1-MR2", "5"]
    assert folders(site.rows("DEMO")[0]) == {"1-MR1/DICOM": 1, "1-MR2/DICOM": 2, "5/DICOM": 1}
    assert client("POST", uri, action="commit", AA="true").status == 301
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert {key: (one.series_uid, len(one.files)) for key, one in session.scans.items()} == {
        "1-MR1": (STUDY + ".1", 1),
        "1-MR2": (STUDY + ".2", 2),
        "5": (STUDY + ".5", 1),
    }


def test_ids_count_by_modality_in_the_order_of_the_uids(client: Client) -> None:
    members = {
        "a": dicom(1, series=4, SeriesNumber=3),
        "b": dicom(1, series=3, SeriesNumber=3, Modality="PT", SOPClassUID=uid.PositronEmissionTomographyImageStorage),
        "c": dicom(1, series=2, SeriesNumber=3),
        "d": dicom(1, series=1, SeriesNumber=3, Modality="XX"),
    }
    uri = built(client, members)
    document = client("GET", uri).text
    found = dict(re.findall(r'<xnat:scan ID="([^"]+)" UID="([^"]+)"', document))
    assert found == {
        "3-OT1": STUDY + ".1",
        "3-MR1": STUDY + ".2",
        "3-PT1": STUDY + ".3",
        "3-MR2": STUDY + ".4",
    }


def test_a_merge_of_a_later_series_numbers_otherwise(site: StandIn, client: Client) -> None:
    """The first keeps its number; the later one is ``1-MR1``."""
    for members in ({"a": dicom(1)}, {"b": dicom(1, series=2, SeriesNumber=1)}):
        assert client("POST", send(client, members), action="commit", AA="true").status == 301
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert {key: one.series_uid for key, one in session.scans.items()} == {"1": STUDY + ".1", "1-MR1": STUDY + ".2"}


def test_a_later_part_of_one_of_them_is_a_conflict(site: StandIn, client: Client) -> None:
    """Alone, the series is built as ``1``, and the archive has it as ``1-MR2``. A commit does not override that."""
    client("POST", send(client, TWO), action="commit", AA="true")
    uri = send(client, {"d.dcm": dicom(3, series=2, SeriesNumber=1)})
    refused = client("POST", uri, action="commit", AA="true", overwrite="delete")
    assert refused.status == 500
    why = "Session already contains a scan with the same UID, but a different number (1-MR2)."
    assert why in (refused.reason or "")
    assert site.rows("DEMO")[0].status == "CONFLICT"


def test_a_later_part_with_one_instance_of_each_is_merged(site: StandIn, client: Client) -> None:
    client("POST", send(client, TWO), action="commit", AA="true")
    uri = send(client, {"d": dicom(9), "e": dicom(3, series=2, SeriesNumber=1)})
    assert client("POST", uri, action="commit", AA="true").status == 301
    session = site.archived("DEMO", "S1", "E1")
    assert session is not None
    assert {key: len(one.files) for key, one in session.scans.items()} == {"1-MR1": 2, "1-MR2": 3}


@pytest.mark.parametrize("number", [2, 3])
def test_what_comes_after_the_build_stays_apart_from_its_series(site: StandIn, client: Client, number: int) -> None:
    """Whether it was there before or not: the builder moves no file of a series that lies in two scans' folders.

    Its catalogue then lies above both, and the files of all other scans are strangers to it.
    """
    uri = built(client, TWO)
    send(client, {"d.dcm": dicom(number, series=2, SeriesNumber=1)})
    client("POST", uri, action="build")
    assert folders(site.rows("DEMO")[0]) == {"1-MR1/DICOM": 1, "1-MR2/DICOM": 2, "1/DICOM": 1}
    refused = client("POST", uri, action="commit", AA="true")
    assert refused.status == 500
    assert "Scan 1-MR2 has 1 non-DICOM (or non-parsable DICOM) files" in (refused.reason or "")


def test_a_series_without_a_number_is_named_by_its_uid(client: Client) -> None:
    """The folder keeps the dots, the scan's id does not; the build moves the files."""
    uri = built(client, series([1], SeriesNumber=None))
    (row,) = client("GET", uri + "/scans", format="json").rows
    assert row["ID"] == (STUDY + ".1").replace(".", "_")
