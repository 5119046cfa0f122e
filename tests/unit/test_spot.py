"""Which instances a spot check reads, and what it leaves out: a promise of docs/guarantees.md, section 7."""

from __future__ import annotations

from collections.abc import Sequence

from xnat_ingest.core.model import Instance
from xnat_ingest.delivery.read_back import SPOT_LEAST, SPOT_SHARE, choose_spot, transfer_kind_of

MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
PLAIN, JPEG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99"
MIB = 1 << 20


def instance(
    uid: str, size: int, sop_class: str = MR, syntax: str = PLAIN, scan: str = "T1", modality: str = "MR", sent: int = 0
) -> Instance:
    return Instance(
        path=uid, size=size, mtime_ns=0, sop_class=sop_class, sop_uid=uid, study_uid="1", series_uid="2",
        series_number="1", instance_number="1", modality=modality, series_description=scan, transfer_syntax=syntax,
        pixel_bytes=0, tags={}, sent_size=sent,
    )  # fmt: skip


def chosen(instances: Sequence[Instance]) -> tuple[list[str], list[str], int]:
    spot = choose_spot(instances, sum(i.length for i in instances))
    return [i.sop_uid for i in spot.whole], [i.sop_uid for i in spot.begun], spot.left_out


def test_the_numbers_that_are_promised() -> None:
    assert (SPOT_SHARE, SPOT_LEAST) == (0.02, 16 * MIB)


def test_the_smallest_of_each_form() -> None:
    """SOP class in transfer syntax as sent: read whatever it costs."""
    found = chosen([
        instance("big", 900), instance("small", 300), instance("ct", 5000, CT), instance("jpeg", 70, MR, JPEG),
    ])  # fmt: skip
    assert found == (["jpeg", "small", "ct"], [], 0)


def test_by_what_is_sent() -> None:
    """A deflated file is of the same form as a plain one, and as long as it is inflated."""
    found = chosen([instance("deflated", 100, syntax=DEFLATED, sent=900), instance("plain", 500)])
    assert found == (["plain"], [], 0)


def test_what_makes_a_kind() -> None:
    one = instance("a", 1)
    assert transfer_kind_of(one) == transfer_kind_of(instance("b", 2))
    for other in (
        instance("b", 1, CT),
        instance("b", 1, syntax=JPEG),
        instance("b", 1, scan="T2"),
        instance("b", 1, modality="PT"),
    ):
        assert transfer_kind_of(one) != transfer_kind_of(other)


def test_scan_types_as_far_as_two_per_cent_go() -> None:
    """10,000 bytes in all: 200 may be read, the smallest first; what does not fit is counted."""
    rest = [instance(f"x{n}", 960, scan="T1") for n in range(10)]
    found = chosen([*rest, instance("a", 60), *(instance(f"s{n}", 70 + n, scan=f"S{n}") for n in range(4))])
    total = 9600 + 60 + 70 + 71 + 72 + 73
    assert 60 + 70 <= 0.02 * total < 60 + 70 + 71
    assert found == (["a", "s0"], [], 3)


def test_of_a_large_instance_the_beginning() -> None:
    whole, begun = instance("whole", 16 * MIB), instance("begun", 16 * MIB + 1, CT)
    assert chosen([whole, begun]) == (["whole"], ["begun"], 0)
    many = [instance(f"m{n}", 40 * MIB, scan=f"S{n}") for n in range(51)]
    assert chosen(many) == (["m0"], [], 50)  # 40 MiB are below two per cent of 2040 MiB
    assert chosen(many[:49]) == ([], ["m0"], 48)


def test_nothing_to_read() -> None:
    assert chosen([]) == ([], [], 0)
