"""Resources, which store files that are not DICOM: local files, listings, uploading, and the resource's owner."""

from xnat_ingest.commands.resources.files import digest_of
from xnat_ingest.commands.resources.listings import Listing, Stored, stored_files
from xnat_ingest.commands.resources.put import LocalFile, PutOutcome, create, holds, put_text, send

__all__ = [
    "Listing",
    "LocalFile",
    "PutOutcome",
    "Stored",
    "create",
    "digest_of",
    "holds",
    "put_text",
    "send",
    "stored_files",
]
