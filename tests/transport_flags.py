"""The ways of sending that the tests go through. A new transport gets a line here, and most grids then have it."""

from __future__ import annotations

TRANSPORT_FLAGS = {
    "tar": ("--archive-format", "tar"),
    "zip": ("--archive-format", "zip"),
    "gradual": ("--transport", "gradual"),
    "cstore": ("--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port"),
}


def transport_flags(name: str, receiver_port: int) -> tuple[str, ...]:
    """The flags that choose a way. receiver_port: of the DICOM receiver, for those that send to it."""
    flags = TRANSPORT_FLAGS[name]
    return (*flags, str(receiver_port)) if flags[-1] == "--dicom-port" else flags
