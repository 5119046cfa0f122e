"""Whether what is about to be sent is the object that was planned.

A file can be replaced by another one of the same size and time. So the UIDs that were planned must stand in what is
sent. Nearly always they stand in its first block, which is at hand: to look for them costs two microseconds. Where one
does not, the header is read again.
"""

from __future__ import annotations

from xnat_ingest.core import Instance, SourceFile
from xnat_ingest.inputs.source import Source

# A UID that goes on is another one.
_GOES_ON = frozenset(b"0123456789.")


def holds_planned(start: bytes, instance: Instance) -> bool:
    """Whether the UIDs of the instance, its series and its study stand in the first bytes of an object."""
    return (
        _stands(instance.sop_uid, start, instance.head_size)
        and _stands(instance.study_uid, start, 0)
        and _stands(instance.series_uid, start, 0)
    )


def _stands(uid: str, data: bytes, at: int) -> bool:
    """Whether a UID stands in the bytes from a place on, and ends there."""
    value = uid.encode("ascii", "replace")
    while (at := data.find(value, at)) >= 0:
        at += len(value)
        if at < len(data) and data[at] not in _GOES_ON:
            return True
    return False


def is_planned(source: Source, instance: Instance) -> bool:
    """Whether a file has the planned UIDs, by its whole header. Raises OSError."""
    from xnat_ingest.inputs.dicom_headers import read_again  # late: it loads pydicom for unusual files

    found = read_again(source, SourceFile(instance.path, instance.size, instance.mtime_ns))
    return isinstance(found, Instance) and _uids(found) == _uids(instance)


def _uids(instance: Instance) -> tuple[str, ...]:
    return instance.sop_uid, instance.study_uid, instance.series_uid
