"""Drives xnatpy in its own environment: ``TASK ANSWER``, arguments as JSON on stdin, findings as JSON in ANSWER."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

IMPORT = "/data/services/import"
TAR = {"Content-Type": "application/x-tar"}


def connect(given: dict[str, Any], **more: Any) -> Any:
    xnat = importlib.import_module("xnat")
    return xnat.connect(given["url"], user=given["user"], password=given["password"], **more)


def rows(session: Any, path: str, column: str) -> list[str]:
    return [row[column] for row in session.get_json(path)["ResultSet"]["Result"]]


def prearchive(given: dict[str, Any]) -> dict[str, Any]:
    """Imports a tar to the prearchive by the library's own call, and looks at it there."""
    with connect(given, no_parse_model=True) as session:
        row = session.services.import_(
            data=Path(given["tar"]).read_bytes(),
            content_type="application/x-tar",
            project=given["project"],
            subject="S1",
            experiment="E1",
            destination="/prearchive",
            import_handler="DICOM-zip",
        )
        scans = rows(session, row.uri + "/scans", "ID")
        return {
            "user": session.logged_in_user,
            "version": session.xnat_version,
            "uri": row.uri,
            "rows": [found.label for found in session.prearchive.sessions()],
            "status": row.status,
            "subject": row.subject,
            "files": {scan: rows(session, f"{row.uri}/scans/{scan}/resources/DICOM/files", "Name") for scan in scans},
        }


def post(given: dict[str, Any]) -> dict[str, Any]:
    """A tar through the session's own HTTP, streamed from a file, then commit; then every listing."""
    query = {"import-handler": "DICOM-zip", "inbody": "true", "PROJECT_ID": given["project"]}
    query |= {"SUBJECT_ID": "S1", "EXPT_LABEL": "E1", "rename": "true"}
    with connect(given, no_parse_model=True) as session:
        with Path(given["tar"]).open("rb") as stream:
            sent = session.post(IMPORT, query=query, data=stream, headers=TAR)
        uri = sent.text.strip()
        done = session.post(uri, query={"action": "commit", "AA": "true"}, accepted_status=[301])
        project = f"/data/projects/{given['project']}"
        return {
            "sent": uri,
            "archived": done.text,
            "projects": rows(session, "/data/projects", "ID"),
            "subjects": rows(session, project + "/subjects", "label"),
            "experiments": rows(session, project + "/experiments", "label"),
            "scans": rows(session, project + "/subjects/S1/experiments/E1/scans", "ID"),
        }


def model(given: dict[str, Any]) -> dict[str, Any]:
    """The library as it is meant to be used: the object model built from the server's schemas."""
    with connect(given) as session:
        row = session.services.import_(
            data=Path(given["tar"]).read_bytes(),
            content_type="application/x-tar",
            project=given["project"],
            subject="S1",
            experiment="E1",
            destination="/prearchive",
            import_handler="DICOM-zip",
        )
        waiting = {scan.id: sorted(file.id for file in scan.files.values()) for scan in row.scans.values()}
        one = Path(given["folder"]) / "one.dcm"
        row.scans["1"].files["IM000001"].download(str(one))
        experiment = row.archive(project=given["project"], subject="S1", experiment="E1")
        subject = session.projects[given["project"]].subjects["S1"]
        folder = Path(given["folder"]) / "files"
        folder.mkdir()
        digests = {}
        for scan in experiment.scans.values():
            for file in scan.resources["DICOM"].files.values():
                file.download(str(folder / f"{scan.id}-{file.id}"))
                digests[f"{scan.id}-{file.id}"] = file.digest
        return {
            "waiting": waiting,
            "size": one.stat().st_size,
            "projects": [found.id for found in session.projects.values()],
            "subjects": [found.label for found in session.projects[given["project"]].subjects.values()],
            "experiments": {found.label: type(found).__name__ for found in subject.experiments.values()},
            "scans": {scan.id: [scan.type, scan.frames] for scan in experiment.scans.values()},
            "digests": digests,
        }


def subject_of(given: dict[str, Any]) -> dict[str, Any]:
    """From an experiment to its subject, which xnatpy asks for by accession id alone."""
    with connect(given) as session:
        return {"subject": session.projects[given["project"]].experiments["E1"].subject.label}


def download(given: dict[str, Any]) -> dict[str, Any]:
    """All files of an experiment as one zip, unpacked."""
    with connect(given) as session:
        session.projects[given["project"]].experiments["E1"].download_dir(given["folder"], verbose=False)
    return {}


def resource(given: dict[str, Any]) -> dict[str, Any]:
    """The files of a scan's resource, as the object model knows them, each downloaded."""
    with connect(given) as session:
        kept = session.projects[given["project"]].experiments["E1"].scans["3"].resources["NOTES"]
        found = {}
        for number, file in enumerate(kept.files.values()):
            path = Path(given["folder"]) / str(number)
            file.download(str(path), verbose=False)
            found[file.path] = [path.read_text(), file.digest]
        return {"files": found}


def login(given: dict[str, Any]) -> dict[str, Any]:
    """Log in and out; the address that the library settled on after the redirects it met."""
    with connect(given, no_parse_model=True) as session:
        return {"user": session.logged_in_user, "address": session.get("/data/auth").url}


TASKS = {one.__name__: one for one in (prearchive, post, model, subject_of, download, resource, login)}

if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(TASKS[sys.argv[1]](json.load(sys.stdin))))
