"""The files that a command on a tree writes, looked at before anything is contacted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xnat_ingest.core.errors import UsageError

if TYPE_CHECKING:
    from xnat_ingest.settings.options import Settings

# Files that a run reads, by the settings that name them, and what a sentence calls them.
_INPUTS = {
    "plan": "the plan file",
    "labels": "the label sheet",
    "config": "the config file",
    "password_file": "the password file",
    "deid_key_file": "the key file",
    "ca_bundle": "the certificate bundle",
    "dicom_tls_ca": "the certificate bundle",
    "dicom_tls_cert": "the certificate",
    "dicom_tls_key": "the key",
    "json": "the plan that is to be written",
    "labels_template": "the label sheet that is to be written",
}


def check_outputs(settings: Settings, root: str) -> None:
    """Raises UsageError when an output would replace something else than an earlier one, or an input, or another."""
    from xnat_ingest.core.output_file import OUTPUTS, check_output_file
    from xnat_ingest.planning.labels import LAYOUTS

    inputs = [(what, getattr(settings, name)) for name, what in _INPUTS.items()] + [("ROOT", root)]
    depth = 0 if settings.experiment else len(LAYOUTS[settings.layout])
    for name in OUTPUTS:
        if path := getattr(settings, name, ""):
            if "\0" in path:
                raise UsageError(f"--{name}: no file has such a name")
            check_output_file(path, name, inputs, root, depth)
            inputs.append((f"the file of --{name}", path))
