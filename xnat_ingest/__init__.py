"""Bring DICOM into XNAT, and prove for every instance that it is there: `plan`, `upload`, `verify`, `put_resource`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xnat_ingest.core.about import __version__

if TYPE_CHECKING:
    from xnat_ingest.api import as_report, plan, put_resource, upload, verify
    from xnat_ingest.core.errors import IngestError, UsageError
    from xnat_ingest.core.model import Result


__all__ = [
    "IngestError",
    "Result",
    "UsageError",
    "__version__",
    "as_report",
    "plan",
    "put_resource",
    "upload",
    "verify",
]
_HOMES = {"IngestError": "core.errors", "UsageError": "core.errors", "Result": "core.model"}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: `xnat-ingest --help` answers at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
