"""Which experiments the listings show."""

from __future__ import annotations

import pytest
from pydicom import uid

from tests.standin import StandIn
from tests.standin.fixtures import client, site
from tests.standin.samples import Client, dicom

__all__ = ["client", "site"]

LISTINGS = ("/data/projects/DEMO/experiments", "/data/projects/DEMO/subjects/S1/experiments", "/data/experiments")


def archive(client: Client, modality: str, sop_class: str) -> None:
    uri = client.send({"1.dcm": dicom(1, Modality=modality, SOPClassUID=sop_class)}).text.strip()
    assert client("POST", uri, action="commit", AA="true").status == 301


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("US", uid.UltrasoundImageStorage),
        ("XA", uid.XRayAngiographicImageStorage),
        ("DX", uid.DigitalXRayImageStorageForPresentation),
        ("MG", uid.DigitalMammographyXRayImageStorageForPresentation),
        ("NM", uid.NuclearMedicineImageStorage),
        ("RF", uid.XRayRadiofluoroscopicImageStorage),
        ("SR", uid.BasicTextSRStorage),
        ("OT", uid.SecondaryCaptureImageStorage),
    ],
)
def test_types_that_are_not_set_up_are_in_no_listing(client: Client, modality: str, sop_class: str) -> None:
    """They are archived all the same, and who knows the label finds them."""
    archive(client, modality, sop_class)
    for path in LISTINGS:
        for more in ({}, {"xsiType": "xnat:imageSessionData", "columns": "ID,label,xsiType"}):
            assert client("GET", path, format="json", filters=more).rows == []
    for path in LISTINGS[:2]:
        found = client("GET", path + "/E1", format="json")
        assert found.status == 200
    assert client("GET", "/data/experiments/XNAT_E00001/scans", format="json").rows[0]["ID"] == "1"


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("CR", uid.ComputedRadiographyImageStorage),
        ("CT", uid.CTImageStorage),
        ("MR", uid.MRImageStorage),
        ("PT", uid.PositronEmissionTomographyImageStorage),
    ],
)
def test_the_types_of_a_new_site(client: Client, modality: str, sop_class: str) -> None:
    archive(client, modality, sop_class)
    for path in LISTINGS:
        assert [row["label"] for row in client("GET", path, format="json").rows] == ["E1"]


def test_a_site_may_set_up_more_types(site: StandIn, client: Client) -> None:
    site.settings.set_up_types += ("xnat:usSessionData",)
    archive(client, "US", uid.UltrasoundImageStorage)
    assert len(client("GET", LISTINGS[0], format="json").rows) == 1
