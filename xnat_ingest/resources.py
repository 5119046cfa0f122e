"""Files beside DICOM: one file into a resource, and the listing that shows that it is there."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from xnat_ingest.errors import ServerSaid, Unreachable
from xnat_ingest.pack import TextBody
from xnat_ingest.patience import Patience
from xnat_ingest.rest import Rest

# The catalog of a resource is one file: of two writers at once, one is refused (500) and has to come again.
ATTEMPTS = 3


def put_text(
    rest: Rest, parent: str, label: str, name: str, text: str, *, patience: Patience, query: Mapping[str, str]
) -> None:
    """Stores a file of this run's own, so that overwriting it can only complete what was begun.

    parent: address of the project, subject or session, from `/data` on; name: may have folders. Raises IngestError;
    returns also when the server, which answers 200 to a user without the right, has stored nothing: see holds.
    """
    path = f"{parent}/resources/{label}/files/{name}"
    wanted = {"inbody": "true", **query}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            rest.request("PUT", path, wanted, body=TextBody(text, "application/octet-stream"), accept=(200, 201))
            return
        except (ServerSaid, Unreachable) as error:
            if attempt == ATTEMPTS or 0 < error.status < 500:
                raise
            patience.wait(error, attempt)
            wanted["overwrite"] = "true"


def holds(rest: Rest, parent: str, label: str, names: set[str]) -> bool:
    """Whether all of these files, folders included, are in the resource's listing."""
    base = f"{parent}/resources/{label}/files"
    try:
        uris = rest.rows(base, lambda row: unquote(row["URI"]))
    except ServerSaid as error:
        if error.status == 404:
            return False
        raise
    return names <= {uri.partition("/files/")[2] for uri in uris}
