"""Small documents and a small site for the tests of this model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.service import Project, Resource, Scan, Session, Site, Subject


def command(line: str = "run", **members: Any) -> dict[str, Any]:
    """A valid document with one wrapper, on a project; members by their names with underscores."""
    made: dict[str, Any] = {
        "name": "probe",
        "image": "example/probe:1",
        "command-line": line,
        "xnat": [wrapper({"name": "project", "type": "Project"})],
    }
    return made | {name.replace("_", "-"): value for name, value in members.items()}


def wrapper(*inputs: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A wrapper called ``w``; an input that says what it is derived from is a derived one."""
    made: dict[str, Any] = {
        "name": "w",
        "contexts": ["xnat:projectData"],
        "external-inputs": [given for given in inputs if "derived-from-wrapper-input" not in given],
        "derived-inputs": [given for given in inputs if "derived-from-wrapper-input" in given],
    }
    return made | members


def derived(name: str, type_: str, parent: str = "project", **members: Any) -> dict[str, Any]:
    made = {"name": name, "type": type_, "derived-from-wrapper-input": parent}
    return made | {member.replace("_", "-"): value for member, value in members.items()}


def site(tmp_path: Path, *labels: str) -> Site:
    """Project P with a resource for each label; subject 001 with session 001_MR, and that with scan 4.

    Subject, session and scan have one resource each: DOCS, NOTES, DICOM. The scan has no directory of its own.
    """
    numbers = iter(range(1, 100))

    def resource(directory: Path, label: str) -> Resource:
        (directory / label).mkdir(parents=True)
        (directory / label / "a.dcm").write_bytes(b"DICOM")
        (directory / label / f"{label}_catalog.xml").write_text("<cat/>")
        return Resource(label, directory / label, next(numbers))

    archive = tmp_path / "archive" / "P"
    folder = archive / "arc001" / "001_MR"
    scan = Scan("4", "T1w", None, (resource(folder / "SCANS" / "4", "DICOM"),))
    notes = resource(folder / "RESOURCES", "NOTES")
    session = Session("X_E00001", "001_MR", folder, (scan,), (notes,))
    subject = Subject("X_S00001", "001", (session,), (resource(archive / "subjects" / "001", "DOCS"),), {"group": "g"})
    own = tuple(resource(archive / "resources", label) for label in labels)
    (tmp_path / "build").mkdir(parents=True)
    return Site(tmp_path / "build", (Project("P", "Pilot", archive / "arc001", (subject,), own),))


# A resource of the project, chosen in the form, that gives its files to /input and its URI to the line.
CHOSEN = derived("r", "Resource", provides_files_for_command_mount="in", provides_value_for_command_input="a")


def mounting(given: dict[str, Any] = CHOSEN, writable: bool = False, root: str = "Project") -> dict[str, Any]:
    """A document with a mount that ``given`` fills and one that nobody fills."""
    return command(
        "#a#",
        inputs=[{"name": "a"}],
        mounts=[{"name": "out", "path": "/output"}, {"name": "in", "path": "/input", "writable": writable}],
        xnat=[wrapper({"name": "project", "type": root}, given)],
    )
