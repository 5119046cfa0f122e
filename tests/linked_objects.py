"""A segmentation, structures and a report that point to the images of a study in all the ways that such objects do."""

from __future__ import annotations

from collections.abc import Iterable

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.dicom_trees import SAMPLES, read, uid

SEGMENTATION, STRUCTURES = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
# What points to an instance, a series, a study, a frame of reference, an organisation of dimensions.
POINTS_TO = {
    "ReferencedSOPInstanceUID": "SOPInstanceUID",
    "SeriesInstanceUID": "SeriesInstanceUID",
    "StudyInstanceUID": "StudyInstanceUID",
    "FrameOfReferenceUID": "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceUID": "FrameOfReferenceUID",
    "UID": "SOPInstanceUID",
}


def _made(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(
            dataset, keyword, Sequence(value) if isinstance(value, list) and keyword.endswith("Sequence") else value
        )
    return dataset


def _reference(image: Dataset) -> Dataset:
    return _made(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _made(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _joined(dataset: Dataset, image: Dataset, name: str, number: int) -> None:
    """Makes it an object of the image's patient and study."""
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        if keyword in image:
            setattr(dataset, keyword, image[keyword].value)
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid(name, number), uid(name, number, 1)
    dataset.SeriesNumber, dataset.InstanceNumber = number, 1


def segmentation(images: Iterable[Dataset]) -> FileDataset:
    """Of two frames at least: one segment, each frame derived from an image (PS3.3, A.51)."""
    images = list(images)
    dataset = read("MR_small.dcm")
    dataset.remove_private_tags()
    _joined(dataset, images[0], "segmentation", 71)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality, dataset.SegmentationType = SEGMENTATION, "SEG", "BINARY"
    dataset.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    organisation = uid("dimensions", images[0].StudyInstanceUID)
    dataset.DimensionOrganizationSequence = Sequence([_made(DimensionOrganizationUID=organisation)])
    dataset.DimensionIndexSequence = Sequence(
        [_made(DimensionOrganizationUID=organisation, DimensionIndexPointer=0x00200032)]
    )
    dataset.SegmentSequence = Sequence([_made(SegmentNumber=1, SegmentLabel="tumour", SegmentAlgorithmType="MANUAL")])
    dataset.ReferencedSeriesSequence = Sequence(
        [
            _made(
                SeriesInstanceUID=images[0].SeriesInstanceUID,
                ReferencedInstanceSequence=[_reference(image) for image in images],
            )
        ]
    )
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_frame(number, one) for number, one in enumerate(images, 1)])
    dataset.NumberOfFrames, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = len(images), 1, 1, 0
    dataset.Rows, dataset.Columns, dataset.PixelRepresentation = 64, 64, 0
    dataset.PixelData = bytes(64 * 64 // 8 * len(images))
    dataset["PixelData"].VR = "OB"
    return dataset


def _frame(number: int, image: Dataset) -> Dataset:
    purpose = _code("121322", "DCM", "Source image for image processing operation")
    source = _reference(image)
    source.PurposeOfReferenceCodeSequence = Sequence([purpose])
    derivation = _made(SourceImageSequence=[source], DerivationCodeSequence=[_code("113076", "DCM", "Segmentation")])
    return _made(
        DerivationImageSequence=[derivation],
        FrameContentSequence=[_made(DimensionIndexValues=[number])],
        PlanePositionSequence=[_made(ImagePositionPatient=[0, 0, number])],
        SegmentIdentificationSequence=[_made(ReferencedSegmentNumber=1)],
    )


def structures(images: Iterable[Dataset]) -> FileDataset:
    """Contours on each image, and the frame of reference with its study and series (PS3.3, A.19)."""
    images = list(images)
    dataset = pydicom.dcmread(SAMPLES / "rtstruct.dcm", force=True)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    _joined(dataset, images[0], "structures", 72)
    first = images[0]
    series = _made(
        SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=[_reference(image) for image in images]
    )
    study = _made(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    dataset.ReferencedFrameOfReferenceSequence = Sequence(
        [_made(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])]
    )
    for item in dataset.StructureSetROISequence:
        item.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
    for item in dataset.ROIContourSequence:
        item.ContourSequence = Sequence(
            [
                _made(
                    ContourImageSequence=[_reference(image)],
                    ContourGeometricType="POINT",
                    NumberOfContourPoints=1,
                    ContourData=[0, 0, 1],
                )
                for image in images
            ]
        )
    dataset.pop("FrameOfReferenceUID", None)
    dataset.pop("ReferencedStudySequence", None)
    return dataset


def report(images: Iterable[Dataset], others: Iterable[Dataset] = ()) -> FileDataset:
    """Evidence by study and series, and a tree with images, a point on one of them, and a UID (PS3.3, A.35).

    others: images of another study of the patient, as evidence too.
    """
    images, others = list(images), list(others)
    dataset = read("test-SR.dcm")
    for keyword in ("ReferencedPerformedProcedureStepSequence", "PredecessorDocumentsSequence"):
        dataset.pop(keyword, None)
    _joined(dataset, images[0], "report", 73)
    dataset.CurrentRequestedProcedureEvidenceSequence = Sequence([_evidence(images)])
    if others:
        dataset.PertinentOtherEvidenceSequence = Sequence([_evidence(others)])
    shown = [
        _made(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[_reference(image)])
        for image in (*images, *others)
    ]
    point = _made(
        RelationshipType="CONTAINS",
        ValueType="SCOORD",
        GraphicType="POINT",
        GraphicData=[1.0, 2.0],
        ContentSequence=[
            _made(RelationshipType="SELECTED FROM", ValueType="IMAGE", ReferencedSOPSequence=[_reference(images[0])])
        ],
    )
    told = _made(RelationshipType="CONTAINS", ValueType="UIDREF", UID=images[0].SOPInstanceUID)
    inner = _made(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE",
        ContentSequence=[point, told],
    )
    dataset.ContentSequence = Sequence([*shown, inner])
    return dataset


def _evidence(images: list[Dataset]) -> Dataset:
    series = _made(
        SeriesInstanceUID=images[0].SeriesInstanceUID, ReferencedSOPSequence=[_reference(image) for image in images]
    )
    return _made(StudyInstanceUID=images[0].StudyInstanceUID, ReferencedSeriesSequence=[series])


def unresolved(datasets: Iterable[Dataset]) -> tuple[list[str], int]:
    """References, at any depth, to what is not among these objects; and how many references there are."""
    datasets = list(datasets)
    known = {keyword: {str(dataset.get(keyword, "")) for dataset in datasets} for keyword in set(POINTS_TO.values())}
    known["SOPInstanceUID"] |= known["StudyInstanceUID"]  # structures call a study an instance
    lost, number = [], 0
    for dataset in datasets:
        for element in dataset.iterall():
            if target := POINTS_TO.get(element.keyword):
                number += 1
                if str(element.value) not in known[target]:
                    lost.append(f"{dataset.Modality}: {element.keyword} {element.value}")
    return lost, number
