"""Uploads DICOM to XNAT, and proves for every instance that it arrived: `plan`, `upload`, `verify`, `put_resource`."""

from __future__ import annotations

# Type checkers treat this name as true. The real one is in a module that is slow to import, and until __main__ runs,
# Ctrl-C causes a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from xnat_ingest.api import as_report, plan, put_resource, upload, verify
    from xnat_ingest.core import (
        Event,
        Exit,
        IngestError,
        Outcome,
        Plan,
        Problem,
        Refused,
        Result,
        ServerSaid,
        Session,
        SetAside,
        Unreachable,
        UsageError,
        Verdict,
    )
    from xnat_ingest.core.about import __version__
    from xnat_ingest.core.stop import Stop

__all__ = [
    "Event",
    "Exit",
    "IngestError",
    "Outcome",
    "Plan",
    "Problem",
    "Refused",
    "Result",
    "ServerSaid",
    "Session",
    "SetAside",
    "Stop",
    "Unreachable",
    "UsageError",
    "Verdict",
    "__version__",
    "as_report",
    "plan",
    "put_resource",
    "upload",
    "verify",
]
_HOMES = {
    "core.about": ("__version__",),
    "api": ("as_report", "plan", "put_resource", "upload", "verify"),
    "core.errors": ("Exit", "IngestError", "Refused", "ServerSaid", "Unreachable", "UsageError"),
    "core.model": ("Event", "Outcome", "Plan", "Problem", "Result", "Session", "SetAside", "Verdict"),
    "core.stop": ("Stop",),
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used, so that `xnat-ingest --help` is fast."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
