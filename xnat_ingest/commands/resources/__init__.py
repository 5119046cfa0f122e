"""Files beside DICOM: what is on disk, what a resource lists, putting it there, whose resource it is."""

from xnat_ingest.commands.resources.listings import Listing, Stored, listing
from xnat_ingest.commands.resources.put import LocalFile, Sent, create, holds, put_text, send

__all__ = ["Listing", "LocalFile", "Sent", "Stored", "create", "holds", "listing", "put_text", "send"]
