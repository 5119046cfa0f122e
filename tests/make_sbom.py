"""`make sbom`: what the image's own layer holds, as a CycloneDX document on stdout.

Names, versions and hashes are those of the lock file, from which the image is installed with --require-hashes; licences
and who needs whom are what the installed packages say of themselves. Equal sources give an equal document.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from xnat_ingest.core.about import __version__

ROOT = Path(__file__).parent.parent
OURS = "xnat-ingest-container"
_ENTRY = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; ([^\\\n]+?))? \\\n((?:    --hash=sha256:\S+(?: \\)?\n)+)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def document() -> dict[str, Any]:
    """The whole document; SOURCE_DATE_EPOCH is its time."""
    locked = _ENTRY.findall((ROOT / "requirements.txt").read_text("utf-8"))
    known = {name: f"pkg:pypi/{name}@{version}" for name, version, _, _ in locked}
    components = [_component(name, version, marker.strip(), hashes) for name, version, marker, hashes in locked]
    ours = f"pkg:pypi/{OURS}@{__version__}"
    graph = [_dependency(name, reference, known) for name, reference in {OURS: ours, **known}.items()]
    base = os.environ.get("BASE_IMAGE", "")
    body = {
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC).isoformat(),
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": OURS,
                "version": __version__,
                "purl": ours,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
            **({"properties": [{"name": "xnat-ingest:base-image", "value": base}]} if base else {}),
        },
        "components": components,
        "dependencies": graph,
    }
    number = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(body, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{number}", "version": 1, **body}


def _component(name: str, version: str, marker: str, hashes: str) -> dict[str, Any]:
    """A locked package. The hashes are of the files that may be installed, one for each platform."""
    reference = f"pkg:pypi/{name}@{version}"
    digests = [{"alg": "SHA-256", "content": one} for one in re.findall(r"sha256:([0-9a-f]{64})", hashes)]
    only = {"scope": "optional", "properties": [{"name": "xnat-ingest:only-where", "value": marker}]} if marker else {}
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
        **_licences(name),
        "externalReferences": [{"type": "distribution", "url": reference, "hashes": digests}],
        **only,
    }


def _licences(name: str) -> dict[str, Any]:
    """What the package says; nothing for one that is not installed here."""
    try:
        said = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return {}
    fields: dict[str, Any] = said.json
    if expression := fields.get("license_expression"):
        return {"licenses": [{"expression": expression}]}
    classified = [one.rpartition(" :: ")[2] for one in fields.get("classifier", ()) if one.startswith("License")]
    names = classified or [one for one in (fields.get("license"),) if one]
    return {"licenses": [{"license": {"name": one}} for one in names]} if names else {}


def _dependency(name: str, reference: str, known: dict[str, str]) -> dict[str, Any]:
    """Whom a package needs, extras left aside."""
    try:
        wanted = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        wanted = ()
    found = [_NAME.match(text) for text in wanted if "extra ==" not in text]
    names = {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}
    return {"ref": reference, "dependsOn": sorted(known[one] for one in names & known.keys())}


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
    print()
