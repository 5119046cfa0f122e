"""Sends sessions with xnatpy's import, over one login: SUBJECT=PATH ...; run in its environment."""

import os
import sys

import xnat

given = {"project": "DEMO", "destination": "/prearchive", "import_handler": "DICOM-zip"}
with xnat.connect(os.environ["XNAT_HOST"], user="up", password=os.environ["XNAT_PASS"], no_parse_model=True) as server:
    for word in sys.argv[1:]:
        subject, path = word.split("=", 1)
        label = f"{subject}_MR1"
        if os.path.isdir(path):
            server.services.import_dir(path, subject=subject, experiment=label, **given)
        else:
            server.services.import_(path, subject=subject, experiment=label, content_type="application/zip", **given)
