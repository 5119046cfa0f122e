"""Drives pyxnat in its own environment: ``TASK ANSWER``, arguments as JSON on stdin, findings as JSON in ANSWER."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

IMPORT = "/data/services/import"


def connect(given: dict[str, Any]) -> Any:
    pyxnat = importlib.import_module("pyxnat")
    return pyxnat.Interface(given["url"], user=given["user"], password=given["password"])


def send(interface: Any, given: dict[str, Any]) -> str:
    """The row that a tar went to: pyxnat has no call for imports, its users post by hand."""
    query = {"import-handler": "DICOM-zip", "inbody": "true", "PROJECT_ID": given["project"]}
    query |= {"SUBJECT_ID": "S1", "EXPT_LABEL": "E1"}
    with Path(given["tar"]).open("rb") as stream:
        sent = interface.post(IMPORT, params=query, data=stream, headers={"Content-Type": "application/x-tar"})
    sent.raise_for_status()
    return str(sent.text.strip())


def archive(given: dict[str, Any]) -> dict[str, Any]:
    """Sends, commits, lists by every way of asking, and reads one file back."""
    interface = connect(given)
    uri = send(interface, given)
    done = interface.post(uri, params={"action": "commit", "AA": "true"})
    project = interface.select.project(given["project"])
    experiment = project.subject("S1").experiment("E1")
    files = experiment.scan("1").resource("DICOM").files()
    names = files.get()
    one = Path(given["folder"]) / "one.dcm"
    experiment.scan("1").resource("DICOM").file(names[0]).get(str(one))
    found = {
        "sent": uri,
        "status": done.status_code,
        "archived": done.text,
        "version": interface.version().decode(),
        "projects": interface.select.projects().get(),
        "exists": [project.exists(), experiment.exists(), interface.select.project("NONE").exists()],
        "subjects": [subject.label() for subject in project.subjects()],
        "experiments": [[one.id(), one.label(), one.datatype()] for one in project.subject("S1").experiments()],
        "array": [row["ID"] for row in interface.array.experiments(project_id=given["project"]).data],
        "uid": experiment.attrs.get("UID"),
        "scans": [[scan.id(), scan.attrs.get("type"), scan.datatype()] for scan in experiment.scans()],
        "files": names,
        "size": experiment.scan("1").resource("DICOM").file(names[0]).size(),
        "read": one.stat().st_size,
        "code": project.prearchive_code(),
    }
    interface.disconnect()
    return found


def prearchive(given: dict[str, Any]) -> dict[str, Any]:
    """Sends, builds, and lists through pyxnat's own view of the prearchive, which asks for CSV."""
    interface = connect(given)
    uri = send(interface, given)
    triple = tuple(uri.split("/")[-3:])
    manage = interface.manage.prearchive
    before = manage.status(triple)
    interface.post(uri, params={"action": "build"}).raise_for_status()
    found = {
        "rows": manage.get(),
        "before": before,
        "after": manage.status(triple),
        "uri": manage.get_uri(triple),
        "scans": manage.get_scans(triple),
        "resources": manage.get_resources(triple, "1"),
        "files": manage.get_files(triple, "1", "DICOM"),
    }
    interface.disconnect()
    return found


def download(given: dict[str, Any]) -> dict[str, Any]:
    """All files of an experiment as one zip, unpacked."""
    interface = connect(given)
    experiment = interface.select.project(given["project"]).subject("S1").experiment("E1")
    experiment.scans().download(given["folder"], type="ALL", extract=True)
    interface.disconnect()
    return {}


def accessibility(given: dict[str, Any]) -> dict[str, Any]:
    interface = connect(given)
    found = interface.select.project(given["project"]).accessibility()
    interface.disconnect()
    return {"accessibility": found.decode() if isinstance(found, bytes) else found}


def login(given: dict[str, Any]) -> dict[str, Any]:
    interface = connect(given)
    answer = interface.get("/data/auth")
    interface.disconnect()
    return {"status": answer.status_code, "text": answer.text}


TASKS = {one.__name__: one for one in (archive, prearchive, download, accessibility, login)}

if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(TASKS[sys.argv[1]](json.load(sys.stdin))))
