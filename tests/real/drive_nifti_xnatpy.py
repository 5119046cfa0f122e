"""Drives xnatpy in its own environment: reads what `xnat-ingest nifti` made by the library's object model."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def read(given: dict[str, Any]) -> dict[str, Any]:
    """Subjects -> experiments -> scans -> resources -> files, each file downloaded."""
    xnat = importlib.import_module("xnat")
    folder = Path(given["folder"])
    found: dict[str, Any] = {}
    with xnat.connect(given["url"], user=given["user"], password=given["password"]) as session:
        for subject in session.projects[given["project"]].subjects.values():
            for experiment in subject.experiments.values():
                scans = {}
                for scan in experiment.scans.values():
                    files = {}
                    for resource in scan.resources.values():
                        for file in resource.files.values():
                            target = folder / f"{experiment.label}-{scan.id}-{resource.label}-{file.id}"
                            file.download(str(target), verbose=False)
                            files[f"{resource.label}/{file.id}"] = [target.name, file.digest]
                    scans[scan.id] = {
                        "class": type(scan).__name__,
                        "type": scan.type,
                        "quality": scan.quality,
                        "description": scan.series_description,
                        "files": files,
                    }
                found.setdefault(subject.label, {})[experiment.label] = [type(experiment).__name__, scans]
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(read(json.load(sys.stdin))))
