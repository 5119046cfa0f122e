"""Small files to send by C-STORE, and the transport to send them with."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any, cast

from tests.dicom_trees import DEFLATED, IDENTITY, LITTLE, Memory, encode, implicit, part10
from xnat_ingest.core.model import Instance, Receipt, Session
from xnat_ingest.inputs import Source
from xnat_ingest.inputs.dicom_dataset import PeekableStream, blocks_of, skip_meta
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.transports.bodies import Part
from xnat_ingest.transports.cstore import CStore
from xnat_ingest.transports.dicom_receiver import Receiver

MR = "1.2.840.10008.5.1.4.1.1.4"
TEXT = "Project:DEMO Subject:007 Session:007_pre"


def made(number: int, *, sop_class: str = MR, syntax: str = LITTLE, size: int = 10) -> bytes:
    """A small file of its own instance."""
    uids = {0x00080016: sop_class, 0x00080018: f"1.2.3.{number}"}
    values = {tag: ("UI", uid.encode() + b"\0" * (len(uid) % 2)) for tag, uid in uids.items()}
    write = implicit if syntax == "1.2.840.10008.1.2" else encode
    more = {0x00204000: ("LT", b"x" * 10), 0x7FE00010: ("OW", bytes(size))}
    return part10({}, syntax) + write({**IDENTITY, **values, **more})


def some(count: int, **more: Any) -> Memory:
    return Memory({f"{number:04}": made(number, **more) for number in range(1, count + 1)})


def instances(source: Source) -> tuple[Instance, ...]:
    found = tuple(scan(source, lambda _: None))
    assert all(isinstance(one, Instance) for one in found), found
    return cast("tuple[Instance, ...]", found)


def session(members: Sequence[Instance]) -> Session:
    return Session("DEMO", "007", "007_pre", "1.2.3.4", "007/pre", tuple(members))


def receiver(port: int, **more: Any) -> Receiver:
    """On this machine. The timeout is for a busy one."""
    return Receiver("127.0.0.1", port, **{"timeout": 10.0, **more})


def transport(source: Source, port: int, **more: Any) -> CStore:
    return CStore(receiver(port, **more), source, 1 << 27, 4)


def send(source: Source, port: int, **more: Any) -> Receipt:
    """All of the source in one part."""
    members = instances(source)
    return transport(source, port, **more).send(session(members), Part(members), lambda _: None)


def behind_meta(raw: bytes) -> bytes:
    """A file's data set."""
    start = PeekableStream(blocks_of(io.BytesIO(raw)))
    skip_meta(start)
    return b"".join(start.rest())


def plain(source: Memory, instance: Instance) -> bytes:
    """What of a file is to arrive: its data set, inflated."""
    data = behind_meta(source.contents[instance.path])
    return zlib.decompressobj(wbits=-15).decompress(data) if instance.transfer_syntax == DEFLATED else data
