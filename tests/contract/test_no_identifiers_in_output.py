"""Nothing that the program says, writes or raises holds the password, a session cookie, or who the patients are."""

from __future__ import annotations

import json
import re
import shutil
import struct
import traceback
from base64 import b64encode
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from urllib.parse import quote, quote_plus

import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.conftest import PASSWORD, Ingest
from tests.dicom_trees import CT, Series, make_session
from tests.standin import Fault, StandIn
from xnat_ingest.cli import main
from xnat_ingest.core.errors import IngestError
from xnat_ingest.core.model import Plan
from xnat_ingest.xnat import prearchive

PERSON: dict[str, object] = {
    "PatientName": "Quixote^Zebulon^Xaver",
    "PatientID": "ZX-471199",
    "PatientBirthDate": "19570403",
    "OtherPatientIDs": "INS-883311",
    "PatientAddress": "17 Windmill Lane",
    "PatientComments": "has a cousin Aldonza",
    "ReferringPhysicianName": "Panza^Sancho",
    "AccessionNumber": "ACC-552200",
}
WHO = ("Quixote", "Zebulon", "Xaver", "ZX-471199", "ZX_471199", "19570403", "1957-04-03", "INS-883311", "Windmill",
       "Aldonza", "Panza", "Sancho", "ACC-552200")  # fmt: skip
BASIC = b64encode(f"up:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, BASIC, b64encode(PASSWORD.encode()).decode().rstrip("="), quote(PASSWORD), quote(PASSWORD, ""),
           quote_plus(PASSWORD), json.dumps(PASSWORD)[1:-1])  # fmt: skip
FORMATS = [("-vv",), ("--log-format", "json", "-vv")]
PARTS = "POST /data/services/import"
COMMIT = "action=commit"


def series(*samples: str) -> list[Series]:
    return [Series(f"T{n}_{n:04d}", 4, sample, tags=PERSON) for n, sample in enumerate(samples, 1)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Six sessions of one person, and files with every kind of defect among them."""
    root = tmp_path / "tree"
    for name in ("a", "b", "c", "d", "e", "f"):
        make_session(root / "S" / name, series("MR_small.dcm", CT, "test-SR.dcm"))
    first, second, third, *_ = sorted((root / "S/a").rglob("IM*"))
    first.write_bytes(first.read_bytes()[:-500])  # truncated
    third.write_bytes(third.read_bytes()[:700])  # within the header
    shutil.copy(second, root / "S/a/copy")
    (root / "S/a/other").write_bytes(second.read_bytes()[:-2] + b"\1\2")  # the same object, other bytes
    shutil.copy(second, root / "above")
    (root / "S/a/gone").symlink_to("nowhere")
    (root / "S/a/notes.txt").write_text("no image")
    make_session(root / "S/twice", series(CT), str(root / "S/b"))  # the study of another folder
    return root


def cookies(site: StandIn) -> set[str]:
    """Every session that was ever begun."""
    replies = (r.reply.decode() for r in site.requests if r.path == "/data/JSESSION" and r.method == "POST")
    return {reply for reply in replies if re.fullmatch(r"\w{16,}", reply)}


def search(said: str, site: StandIn | None = None) -> None:
    """Whole and in the case it was in; both as text and as JSON escapes it."""
    for secret in (*SECRETS, *WHO, *(cookies(site) if site else ())):
        assert secret not in said, f"{secret} is told: ...{said[max(0, said.index(secret) - 200) :][:400]}"


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text of every error of ours, as it is raised, whether it is shown or not."""
    texts: list[str] = []
    original = IngestError.__init__

    def note(self: IngestError, *args: str) -> None:
        original(self, *args)
        texts.append(str(self))

    monkeypatch.setattr(IngestError, "__init__", note)
    return texts


def everything(site: StandIn) -> None:
    """One run's worth of trouble: of the network, of a proxy, of the login, of the disk, of archiving."""
    for fault in (
        Fault("status", "POST /data/JSESSION", status=503),
        Fault("reset", PARTS, after=20_000, skip=1),
        Fault("reset-reply", PARTS, skip=3),
        Fault("status", PARTS, status=401, skip=5),
        Fault("status", PARTS, status=502, work=True, skip=7),
        Fault("login-page", PARTS, skip=9),
        Fault("poison", "S_b", name="-2-3-", times=None),
        Fault("lose", "S_c", name="-1-4-"),
        Fault("cut", "S_d", name="-1-4-", keep=3000),
        Fault("archive-fails", "S_e", status=409, message="Session already contains a scan with the same UID"),
        Fault("disk-full", "S_f", after=3000, times=None),
        Fault("status", "GET /data/experiments", status=503),
        Fault("locked", COMMIT),
    ):
        site.faults.add(fault)


@pytest.mark.wide
@pytest.mark.parametrize("flags", FORMATS, ids=["text", "json"])
def test_a_run_full_of_faults(
    ingest: Ingest, site: StandIn, tree: Path, raised: list[str], flags: tuple[str, ...]
) -> None:
    """Failures of every kind at once, then a rerun, a plan, a verification: not a word too many anywhere."""
    everything(site)
    ended = ingest(
        "upload", tree, *flags, "--part-size", "40K", "--exclude", "PatientName=nobody", "--include", "PatientID=."
    )
    assert ended.code == 3, ended.err
    # Which sessions the counted faults strike differs: sometimes none is left that is verified.
    assert {"failed", "conflict"} <= {s["verdict"] for s in ended.report["sessions"]}
    assert len({a["reason"] for a in ended.report["set_aside"]}) >= 5
    assert len(cookies(site)) > 1
    search(ended.out + ended.err + json.dumps(ended.report), site)
    assert raised
    search("\n".join(raised), site)
    site.faults.clear()
    for command, more in (("upload", ()), ("verify", ()), ("plan", ("--online",)), ("plan", ())):
        ended = ingest(command, tree, *flags, *more)
        search(ended.out + ended.err + json.dumps(ended.report), site)


@pytest.mark.wide
def test_the_password_is_searched_for_as_it_would_be_found(site: StandIn, ingest: Ingest, tree: Path) -> None:
    """The search itself finds what it looks for: the requests hold the password, the files the person."""
    ingest("upload", tree)
    assert cookies(site)
    with pytest.raises(AssertionError, match="Quixote is told"):
        search(next(tree.rglob("IM*")).read_bytes().decode("latin-1"))
    with pytest.raises(AssertionError, match="is told"):
        search(f"Authorization: Basic {BASIC}")


def refused(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    site.user("up").enabled = False


def away(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_HOST", "http://127.0.0.1:1")


def in_address(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_HOST", site.url.replace("//", f"//up:{quote(PASSWORD, '')}@"))


def raw_in_address(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_HOST", site.url.replace("//", f"//up:{PASSWORD}@"))


def odd_netrc(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XNAT_PASS")
    monkeypatch.delenv("XNAT_USER")
    Path("~/.netrc").expanduser().write_text(f"machine 127.0.0.1 login up passwort {quote(PASSWORD)}\n")
    Path("~/.netrc").expanduser().chmod(0o600)


def odd_file(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XNAT_PASS")
    path = Path("~/password").expanduser()
    path.write_bytes(PASSWORD.encode() + b"\xff\n")
    monkeypatch.setenv("XNAT_INGEST_PASSWORD_FILE", str(path))


def in_config(site: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("~/config.json").expanduser()
    path.write_text(json.dumps({"password": PASSWORD, "password_file": [PASSWORD], "exclude": {"pass": PASSWORD}}))
    monkeypatch.setenv("XNAT_INGEST_CONFIG", str(path))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("flags", FORMATS, ids=["text", "json"])
@pytest.mark.parametrize(
    "prepare", [refused, away, in_address, raw_in_address, odd_netrc, odd_file, in_config], ids=lambda f: f.__name__
)
def test_runs_that_come_to_nothing(
    ingest: Ingest,
    site: StandIn,
    tree: Path,
    raised: list[str],
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[StandIn, pytest.MonkeyPatch], None],
    flags: tuple[str, ...],
) -> None:
    """Wrong, misplaced and malformed credentials are complained about without being repeated."""
    prepare(site, monkeypatch)
    ended = ingest("upload", tree, *flags, "--retry-budget", "1")
    assert ended.code in (1, 2, 5, 6), ended.err
    search(ended.out + ended.err + json.dumps(ended.report) + "\n".join(raised), site)


@pytest.mark.wide
def test_the_drop_in_has_the_password_in_its_arguments(
    ingest: Ingest, site: StandIn, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dicomUpload` takes it there, warns, and does not repeat it, neither in its report nor when words are lacking."""
    words = ["dicomUpload", site.url, "up", PASSWORD, "DEMO"]
    assert main([*words, str(tree), "--workdir", str(tmp_path)]) == 3
    assert main(words) == 2
    assert main([*words, str(tmp_path / "nothing-there")]) == 2
    said = capsys.readouterr()
    search(said.out + said.err + (tmp_path / "xnat-ingest-report.json").read_text(), site)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("flags", FORMATS, ids=["text", "json"])
@pytest.mark.parametrize("where", ["in a session", "outside of sessions"])
def test_a_bug(
    ingest: Ingest,
    site: StandIn,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    where: str,
) -> None:
    """The traceback of a bug helps whoever mends it; the text of a foreign error may hold header values, and does
    not belong into a log."""

    def fail(*args: object) -> int:
        return int(str(PERSON["PatientName"]))  # as a library does with a value it does not understand

    if where == "in a session":
        monkeypatch.setattr(prearchive, "list_sessions", fail)
    else:
        monkeypatch.setattr(Plan, "planned", property(fail))
    ended = ingest("upload", tree, *flags)
    assert ended.code == 70
    assert "ValueError" in ended.err
    assert "fail" in ended.err  # the frames are told
    search(ended.out + ended.err + json.dumps(ended.report), site)


def test_exceptions_hold_no_credentials(site: StandIn, tree: Path) -> None:
    """What a debugger or a crash reporter would show of our own errors, causes included."""
    from xnat_ingest.settings.layers import Credentials
    from xnat_ingest.xnat.client import XnatClient

    site.faults.add(Fault("status", "GET /data/projects", status=500, times=None))
    site.faults.add(Fault("reset", "GET /data/auth", times=None))
    for password in (PASSWORD, f"{PASSWORD}!"):
        login = Credentials(site.url, "up", password, "a test")
        assert password not in repr(login)
        for path in ("/data/projects", "/data/auth"):
            with pytest.raises(IngestError) as caught:
                XnatClient(login, timeout=2).request("POST" if password == PASSWORD else "GET", path)
            search("".join(traceback.format_exception(caught.value)) + repr(caught.value), site)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("keyword", ["StudyDate", "Modality", "SeriesDescription", "StudyDescription", "SOPClassUID"])
def test_a_damaged_length_before_the_patient(
    ingest: Ingest, site: StandIn, tmp_path: Path, keyword: str, syntax: UID
) -> None:
    """The value takes in the elements behind it, up to the patient's and those, too."""
    swallowing = {"SeriesDescription": "T1", "StudyDescription": "head"}
    (path,) = make_session(tmp_path / "tree/S/a", [Series("T1_1", 1, tags={**PERSON, **swallowing})])
    dataset = pydicom.dcmread(path)
    little = syntax != ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    order = "<" if little else ">"

    def head(word: str) -> int:
        tag = pydicom.tag.Tag(word)
        return data.index(struct.pack(f"{order}HH", tag.group, tag.element), 300)

    data = bytearray(path.read_bytes())
    begin, end = head(keyword), head("PatientSex")
    if syntax == ImplicitVRLittleEndian:
        struct.pack_into("<L", data, begin + 4, end - begin - 8)
    else:
        struct.pack_into(f"{order}H", data, begin + 6, end - begin - 8)
    path.write_bytes(data)
    files = [tmp_path / name for name in ("r.html", "r.csv", "r.xml", "plan.json", "labels.csv")]
    outputs = zip(("--html", "--csv", "--junit"), map(str, files), strict=False)
    sent = ingest("upload", tmp_path / "tree", "-vv", *chain.from_iterable(outputs))
    planned = ingest("plan", tmp_path / "tree", "--json", str(files[3]), "--labels-template", str(files[4]))
    said = [file.read_text() for file in files if file.exists()]
    search("\n".join([sent.out, sent.err, planned.out, planned.err, json.dumps(planned.report), *said]))
    search(json.dumps(sent.report))
    assert len(said) == 5
