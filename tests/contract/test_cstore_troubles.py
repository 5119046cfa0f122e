"""What receivers, networks and files do to C-STORE, and what is told of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from tests.contract.relay import Flood, Relay, Trouble, slow_replies
from tests.dicom_trees import IDENTITY, LITTLE, RLE, SAMPLES, Memory, encode, part10
from tests.dicomscp import ABORT, Scp, accepted, answering, parsed
from tests.dicomscu import MR, TEXT, instances, made, receiver, send, session, some, transport
from xnat_ingest.core.errors import Exit, IngestError, Refused, SessionTrouble, SourceChanged, Unreachable
from xnat_ingest.transports import ask_receiver, cstore, dicom_association
from xnat_ingest.transports.bodies import Part
from xnat_ingest.transports.dicom_association import ECHO, Association
from xnat_ingest.transports.dicom_messages import COMMAND, fragments
from xnat_ingest.transports.dicom_receiver import Receiver


def test_answers_one_by_one() -> None:
    """Warnings are successes with a note. What is refused is refused alone, and the receiver's comment is not told: it
    may quote the patient's name."""
    answers = {1: 0xB000, 2: 0xB007, 3: 0xC000, 4: 0xA900, 5: 0x0122, 6: 0x0107, 7: 0xB000, 8: 0x1234}
    source = some(10)
    with Scp(answer=lambda number, uid: answers.get(number, 0), comment="Doe^Janet unknown") as scp:
        receipt = send(source, scp.port)
    assert [i.sop_uid for i in receipt.instances] == [f"1.2.3.{n}" for n in (1, 2, 6, 7, 9, 10)]
    assert receipt.notes == {
        "accepted with status 0xB000 (Coercion of Data Elements)": 2,
        "accepted with status 0xB007 (Data Set Does Not Match SOP Class)": 1,
        "accepted with status 0x0107 (Attribute List Error)": 1,
    }
    assert set(receipt.refused) == {f"1.2.3.{n}" for n in (3, 4, 5, 8)}
    assert receipt.refused["1.2.3.3"].endswith("status 0xC000 (Cannot Understand); its log says why")
    assert receipt.refused["1.2.3.8"].endswith("status 0x1234 (not a standard one); its log says why")
    assert "Janet" not in str(receipt)
    assert (scp.associations, scp.endings.count("released")) == (1, 1)


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0213])
def test_a_receiver_out_of_resources_is_to_be_asked_later(status: int) -> None:
    with (
        Scp(answer=lambda number, uid: status if number == 2 else 0) as scp,
        pytest.raises(Unreachable, match=f"0x{status:04X}") as caught,
    ):
        send(some(3), scp.port)
    assert not caught.value.maybe_done
    assert caught.value.exit_code == Exit.TEMPORARY
    assert len(scp.got) == 2


@pytest.mark.parametrize("status", [0xFF00, 0xFF01])
def test_an_answer_that_is_pending_is_none(status: int) -> None:
    """The final one may still come, and must not be taken for that to the next object. All goes again."""
    with Scp(answer=lambda number, uid: status if number == 2 else 0) as scp:
        receipt = send(some(3), scp.port)
    assert [i.sop_uid for i in receipt.instances] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert not receipt.refused
    assert receipt.disturbed
    assert len(scp.got) == 4


def test_contexts_that_are_not_accepted() -> None:
    source = Memory(
        {"a": made(1), "b": made(2, sop_class="1.2.3.4.5.6"), "c": (SAMPLES / "MR_small_RLE.dcm").read_bytes()}
    )
    rle = next(i for i in instances(source) if i.path == "c")
    with Scp(syntaxes=[LITTLE]) as scp:
        receipt = send(source, scp.port)
    assert [i.path for i in receipt.instances] == ["a"]
    assert receipt.refused == {
        "1.2.3.2": "the receiver does not accept this kind of object: 1.2.3.4.5.6 in Explicit VR Little Endian "
        f"(1.2.3.4.5.6, {LITTLE})",
        rle.sop_uid: "the receiver does not accept this transfer syntax: "
        f"MR Image Storage in RLE Lossless ({MR}, {RLE})",
    }


def test_uids_that_no_message_can_carry() -> None:
    long = "1." + "2" * 70
    source = Memory(
        {"a": made(1), "b": made(2, sop_class=long), "c": part10({**IDENTITY, 0x00080018: ("UI", long.encode())})}
    )
    with Scp() as scp:
        receipt = send(source, scp.port)
    assert [i.path for i in receipt.instances] == ["a"]
    assert set(receipt.refused) == {"1.2.3.2", long}
    assert all("64 characters" in why for why in receipt.refused.values())


@pytest.mark.parametrize("with_abort", [False, True])
def test_a_lost_association_is_rebuilt_and_the_rest_sent(with_abort: bool) -> None:
    """It breaks in the middle of an object, twice."""
    source = some(6, size=50_000)
    with Scp(break_after=80_000, breaks=2, with_abort=with_abort) as scp:
        receipt = send(source, scp.port)
    assert len(receipt.instances) == 6
    assert receipt.disturbed
    assert {one.sop_uid for one in scp.got} == {f"1.2.3.{n}" for n in range(1, 7)}
    assert all(parsed(one.data, one.syntax).PatientComments == TEXT for one in scp.got)
    assert scp.associations == 3


def test_an_abort_is_survived_by_what_is_left() -> None:
    with Scp(answer=lambda number, uid: ABORT if number == 3 else 0) as scp:
        receipt = send(some(5), scp.port)
    assert (len(receipt.instances), receipt.refused, receipt.disturbed) == (5, {}, True)
    assert [one.number for one in scp.got] == [1, 1, 1, 2, 2, 2]


def test_an_instance_that_always_brings_an_abort_is_refused_alone() -> None:
    with Scp(answer=lambda number, uid: ABORT if uid == "1.2.3.3" else 0) as scp:
        receipt = send(some(5), scp.port)
    assert len(receipt.instances) == 4
    assert receipt.refused == {
        "1.2.3.3": f"XNAT@127.0.0.1:{scp.port} aborts the association each time it gets this instance"
    }


def test_a_receiver_that_aborts_always_is_in_trouble_itself() -> None:
    with Scp(answer=lambda number, uid: ABORT) as scp, pytest.raises(Unreachable, match="aborts") as caught:
        send(some(5), scp.port)
    assert caught.value.maybe_done
    assert len(scp.got) == 3


def test_a_connection_that_breaks_without_progress() -> None:
    with Scp(break_after=1000, breaks=9) as scp, pytest.raises(Unreachable, match=r"breaks|closes"):
        send(some(2, size=50_000), scp.port)
    assert scp.associations == 1


def test_a_wrong_called_title() -> None:
    with Scp(title="ARCHIVE") as scp, pytest.raises(Refused, match=r"Called AE title not recognised.*-aec"):
        send(some(1), scp.port)
    with Scp(title="ARCHIVE") as scp:
        assert send(some(1), scp.port, called="ARCHIVE").instances


def test_a_sender_that_is_not_known() -> None:
    with Scp(callers=["MODALITY"]) as scp:
        with pytest.raises(Refused, match=r"Calling AE title not recognised.*XNAT_INGEST.*-aet"):
            send(some(1), scp.port)
        assert send(some(1), scp.port, calling="MODALITY").instances


@pytest.mark.parametrize(
    ("result", "source", "reason", "kind", "text"),
    [
        (1, 1, 1, Refused, "No reason given"),
        (2, 3, 1, Unreachable, "Temporary congestion"),
        (2, 3, 2, Unreachable, "Local limit exceeded"),
        (1, 2, 2, Refused, "Protocol version"),
        (1, 9, 9, Refused, "source 9, reason 9"),
    ],
)
def test_rejections(result: int, source: int, reason: int, kind: type[IngestError], text: str) -> None:
    reply = bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason])
    with answering(reply) as port, pytest.raises(kind, match=text) as caught:
        send(some(1), port)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak DICOM"),
        (b"\x15\x03\x03\0\x02\x02\x0a", "expects TLS"),
        (b"", "closes the connection|breaks the connection"),
        (b"\x07\0\0\0\0\x04\0\0\0\0", "aborts"),
        (b"\x05\0\0\0\0\x04\0\0\0\0", "releases"),
        (b"\x04\0\0\0\0\x04\0\0\0\0", "something other"),
        (b"\x02\0\0\0\0\x04\0\0\0\0", "not C-ECHO"),
        (b"\x02\0\0\0\0\x4c" + bytes(68) + b"\x50\0\0\x04\x51\0\0\x01", "with an invalid answer"),
        (b"\x02\0\0\0\0\x50\0\0", "closes the connection"),
        (b"\x02\0" + (65_531).to_bytes(4, "big") + bytes(65_531), "with an endless answer"),
        (b"\x02\0" + (65_530).to_bytes(4, "big") + bytes(65_530), "with an invalid answer"),
        (b"\x03\0\0\0\0\0", "rejects the association with an invalid answer"),
        (b"\x03\0\0\0\0\x02\0\1", "rejects the association with an invalid answer"),
    ],
)
def test_what_is_no_dicom_receiver(reply: bytes, text: str) -> None:
    with answering(reply) as port, pytest.raises(IngestError, match=text):
        ask_receiver(receiver(port))


@pytest.mark.wide
def test_odd_uids_of_a_receiver_are_not_printed() -> None:
    """The DICOM library warns of each, with the text itself and a path of this machine."""

    def odd(request: bytes) -> bytes:
        return accepted(request).replace(b"1.2.840.10008.1.2", b"1.2.840.\x1b[2J8.1.2")

    with answering(odd) as port:
        words = ["ping", "--transport", "cstore", "--dicom-host", "127.0.0.1", "--dicom-port", str(port)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("XNAT_")}
        command = [sys.executable, "-m", "xnat_ingest", *words]
        ended = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"xnat-ingest: XNAT@127.0.0.1:{port} accepts associations, but not C-ECHO\n"


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unreachable, match="--dicom-port") as caught:
        send(some(1), port)
    assert not caught.value.maybe_done
    with pytest.raises(Unreachable, match="--dicom-host"):
        ask_receiver(Receiver("no.such.host.invalid", 1))


def test_a_receiver_that_does_not_answer() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(Unreachable, match=r"no whole answer within 0\.1 s"),
    ):
        ask_receiver(receiver(server.getsockname()[1], timeout=0.1))


@pytest.mark.wide
def test_a_receiver_that_hangs_in_the_middle_is_not_asked_again_at_once() -> None:
    """It may still be at work, so whoever repeats the part is to wait for it."""
    done = threading.Event()
    with Scp(answer=lambda number, uid: 0 if number < 3 else int(done.wait(5))) as scp:
        with pytest.raises(Unreachable, match="no whole answer within 1 s") as caught:
            send(some(4), scp.port, timeout=1.0)
        done.set()
    assert caught.value.timed_out
    assert scp.associations == 1


@pytest.mark.wide
@pytest.mark.parametrize("pdu", [1, 4], ids=["at the beginning", "in the middle"])
def test_a_receiver_that_speaks_drop_by_drop(pdu: int) -> None:
    """Every byte comes in time, and an answer never."""
    with Scp() as scp, Relay(scp.port, Trouble(slow_replies, f"DICOM {pdu}"), raw=True) as relay:
        begun = time.monotonic()
        with suppress(Unreachable):  # the next association is as it should be, in the middle
            send(some(2), relay.port, timeout=1.5)
        assert time.monotonic() - begun < 8
        assert relay.trouble is not None
        assert relay.trouble.hits


@pytest.mark.wide
@pytest.mark.parametrize("control", [COMMAND, 0], ids=["commands", "data"])
def test_a_receiver_that_answers_without_end(control: int) -> None:
    """Fragments, none of which is the last: neither held in memory nor waited for."""
    flood = Flood(fragments(1, control, bytes(60_000), 60_000) * 4)
    with Scp() as scp, Relay(scp.port, Trouble(flood, "DICOM 4", times=9), raw=True) as relay:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=r"no whole answer|without end"):
            send(some(2), relay.port, timeout=1.5)
        assert time.monotonic() - begun < 8


EMPTY = b"\x04\0\0\0\0\0" * 20_000


@contextmanager
def flooding(**more: float) -> Iterator[Association]:
    """An association whose receiver sends 36 MB, whatever it is asked. There is always something to read, so no wait
    ever ends by itself."""
    with answering(lambda request: accepted(request) + EMPTY * 300) as port:
        yield Association(receiver(port, **more), None, [ECHO])


def test_an_answer_of_too_many_bytes() -> None:
    with flooding() as association, pytest.raises(Unreachable, match="answers without end"):
        association.echo()


@pytest.mark.parametrize(("number", "said"), [(10_922, "closes the connection"), (10_923, "answers without end")])
def test_of_an_answer_64_kb_are_read(number: int, said: str) -> None:
    """PDUs of six bytes. Nothing is sent, since the other side has closed by then, and a reset would lose them."""
    with answering(lambda request: accepted(request) + EMPTY[: 6 * number]) as port:
        association = Association(receiver(port), None, [ECHO])
        with pytest.raises(Unreachable, match=said):
            association._answer()


def test_a_receiver_that_does_not_answer_a_release_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the connection open, too."""
    monkeypatch.setattr(dicom_association, "RELEASE_LIMIT", 0.5)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.sendall(accepted(connection.recv(65536)))
                done.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        association = Association(receiver(server.getsockname()[1], timeout=60.0), None, [ECHO])
        begun = time.monotonic()
        association.release()
        assert time.monotonic() - begun < 20
        done.set()
        thread.join()


def test_a_receiver_that_never_stops_sending_is_let_go() -> None:
    with flooding(timeout=1.0) as association:
        begun = time.process_time()
        association.release()
        assert time.process_time() - begun < 3


@pytest.mark.parametrize("limit", [1, 7, 1023])
def test_a_receiver_that_takes_a_few_bytes_at_a_time(limit: int) -> None:
    with (
        answering(lambda request: accepted(request, limit)) as port,
        pytest.raises(IngestError, match=f"takes {limit} bytes at a time.* 1024 at least"),
    ):
        send(some(1), port)


@pytest.mark.wide
def test_a_receiver_that_does_not_let_go() -> None:
    """It answers a release with anything else, for ever; all is stored by then."""
    flood = Flood(fragments(1, 0, bytes(10), 100))
    with Scp() as scp, Relay(scp.port, Trouble(flood, "DICOM 5"), raw=True) as relay:
        begun = time.monotonic()
        assert len(send(some(1), relay.port, timeout=1.5).instances) == 1
        assert time.monotonic() - begun < 8
        assert relay.trouble is not None
        assert relay.trouble.hits


def test_echo() -> None:
    with Scp(classes=[]) as scp:
        said = ask_receiver(receiver(scp.port))
    assert said == f"XNAT@127.0.0.1:{scp.port} answers C-ECHO from XNAT_INGEST (DICOM without TLS)"
    assert "released" in scp.endings


def test_a_file_that_changed_before_is_refused_alone() -> None:
    source = some(3)
    members = instances(source)
    source.contents["0001"] += b"more"
    del source.contents["0002"]
    with Scp() as scp:
        receipt = transport(source, scp.port).send(session(members), Part(members), lambda _: None)
    assert [i.path for i in receipt.instances] == ["0003"]
    assert "changed since" in receipt.refused["1.2.3.1"]
    assert "No such file" in receipt.refused["1.2.3.2"]


def test_a_file_that_holds_another_object_now_is_refused_alone() -> None:
    """Its size and its time are those of the planned one."""
    source = some(3, size=2_000)
    members = instances(source)
    source.contents["0002"] = (made(1) + bytes(700) + source.contents["0002"])[: members[1].size]
    with Scp() as scp:
        receipt = transport(source, scp.port).send(session(members), Part(members), lambda _: None)
        assert [one.sop_uid for one in scp.got] == ["1.2.3.1", "1.2.3.3"]
    assert "another object" in receipt.refused["1.2.3.2"]


def test_a_file_that_changes_on_the_way_is_never_finished() -> None:
    """Its last fragment is not sent, so that the receiver has no whole object of two halves."""
    source = some(2, size=600_000)
    members = instances(source)

    def sent(number: int) -> None:
        source.contents["0001"] = source.contents["0001"] + b"more"

    with Scp() as scp, pytest.raises(SourceChanged, match="changed since") as caught:
        transport(source, scp.port).send(session(members), Part(members), sent)
    assert caught.value.dirty
    assert scp.got == []


def test_a_stop_aborts_the_association() -> None:
    class StopError(Exception):
        pass

    told: list[int] = []

    def sent(number: int) -> None:
        told.append(number)
        if len(told) > 2:
            raise StopError

    source = some(1, size=5_000_000)
    members = instances(source)
    with Scp() as scp, pytest.raises(StopError):
        transport(source, scp.port).send(session(members), Part(members), sent)
    assert scp.got == []
    assert "aborted" in scp.endings


def test_what_cannot_be_stamped_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set that no reader would get through either, found on the way."""
    monkeypatch.setattr(cstore, "is_another", lambda *_: False)
    study = encode({0x0020000D: IDENTITY[0x0020000D]})
    broken = made(2).replace(study, b"\x08\0\x20\0\x01\x02\x03\x04" + study)
    source = some(3)
    members = instances(source)
    source.contents["0002"] = broken
    members = tuple(replace(i, size=len(source.contents[i.path])) for i in members)
    with Scp() as scp:
        receipt = transport(source, scp.port).send(session(members), Part(members), lambda _: None)
        assert [i.path for i in receipt.instances] == ["0001", "0003"]
        assert "value representation" in receipt.refused["1.2.3.2"]
        assert "--route none" in receipt.refused["1.2.3.2"]
        assert [one.sop_uid for one in scp.got] == ["1.2.3.1", "1.2.3.3"]


def test_labels_that_cannot_be_told() -> None:
    members = instances(some(1))
    with pytest.raises(SessionTrouble):
        transport(some(1), 1).send(replace(session(members), label="a b"), Part(members), lambda _: None)
