"""Launches as the container service makes them: the form, the line, the mount, and the report that is stored."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import hold_laws, stored
from tests.dicom_trees import Series, make_session
from tests.service.errors import IllegalInput
from tests.service.form import form, post
from tests.service.model import Project, Resource, Session, Site, Subject
from tests.service.resolve import Launch, resolve
from tests.standin import StandIn
from tests.standin.model import Exchange
from tests.standin.model import Resource as Stored
from xnat_ingest.cli import main

COMMAND = (Path(__file__).parent.parent.parent / "command.json").read_text("utf-8")
WRAPPERS = {wrapper["name"].removeprefix("xnat-ingest-"): wrapper for wrapper in json.loads(COMMAND)["xnat"]}


@dataclass(frozen=True)
class Ran:
    code: int
    out: list[str]
    err: str
    launch: Launch
    resource: dict[str, Stored]

    @property
    def files(self) -> dict[str, str]:
        """Name without the run's folder -> text, of the reports stored for the object launched from."""
        reports = self.resource.get("XNAT-INGEST")
        return {path.partition("/")[2]: file.read_text() for path, file in reports.files.items()} if reports else {}

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads(self.files["report.json"]))


class Xnat:
    """The stand-in with the container service of tests/service in front of it."""

    def __init__(self, site: StandIn, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch):
        self.site = site
        self.mount = folder / "archive" / "UPLOAD"
        self.mount.mkdir(parents=True)
        (self.mount / "UPLOAD_catalog.xml").write_text("<cat:Catalog/>")
        self._build = folder / "build"
        self._capsys = capsys
        self._patch = patch
        site.project("DEMO").access["up"] = "delete"

    def model(self) -> Site:
        """What the service sees of the stand-in: the resource UPLOAD hangs on every object."""
        upload = Resource("UPLOAD", self.mount, 42)
        reports = Resource("XNAT-INGEST", self.mount.parent, 43)
        demo = self.site.project("DEMO")
        subjects = tuple(
            Subject(
                accession,
                label,
                tuple(
                    Session(one.accession, one.label, resources=(upload,))
                    for one in demo.sessions.values()
                    if one.subject == label
                ),
                (upload, reports),
            )
            for label, accession in demo.subjects.items()
        )
        return Site(self._build, (Project("DEMO", "Demo", None, subjects, (upload, reports)),))

    def launch(self, wrapper: str, root: str, *, typed: bool = True, **values: str) -> Ran:
        """By the form (typed), or by a REST call that may send any text."""
        name, model = f"xnat-ingest-{wrapper}", self.model()
        if typed:
            posted = post(form(COMMAND, name, model, root), **values)
        else:
            posted = {key.replace("_", "-"): value for key, value in values.items()}
        launch = resolve(COMMAND, name, model, root, posted)
        for key, value in launch.environment.items():
            if not key.startswith("XNAT_") or key.endswith("_ID"):
                self._patch.setenv(key, value)
        self._capsys.readouterr()
        mount = launch.mount("in")
        assert not mount.writable
        code = main([word.replace("--input=/input", f"--input={mount.host}") for word in launch.argv])
        said = self._capsys.readouterr()
        return Ran(code, said.out.splitlines(), said.err, launch, self._resources(root))

    def _resources(self, root: str) -> dict[str, Stored]:
        demo = self.site.project("DEMO")
        words = root.split("/")
        if "experiments" in words:
            return next(one.resources for one in demo.sessions.values() if one.accession == words[-1])
        if "subjects" in words:
            return demo.details[words[-1]].resources if words[-1] in demo.details else {}
        return demo.resources


@pytest.fixture
def xnat(
    site: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Xnat]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield Xnat(site, tmp_path, capsys, monkeypatch)
    for signum, handler in before.items():
        signal.signal(signum, handler)


def tree(folder: Path, *sessions: str) -> None:
    for name in sessions:
        make_session(folder / name, [Series("T1_1"), Series("Localizers_2", 2)], seed=name)


@pytest.mark.wide
def test_from_a_project(xnat: Xnat) -> None:
    tree(xnat.mount, "007/pre", "008/pre")
    ran = xnat.launch("project", "/archive/projects/DEMO", exclude="Localizers")
    assert ran.code == 0
    assert ran.out[-1] == "6 planned, 6 verified, 0 missing, 0 failed, 5 set aside: exit 0"
    assert len(stored(xnat.site, "DEMO", "007", "007_pre").files) == 3
    hold_laws(ran.report)
    assert ran.report["launch"] == {
        "workflow_id": "1",
        "event_id": "2",
        "launched_from": "/archive/projects/DEMO",
        "source": "/archive/projects/DEMO/resources/UPLOAD",
        "sub_path": "",
    }
    assert ran.files["summary.txt"].splitlines()[-1] == ran.out[-1]
    assert any(line.startswith("report: resource XNAT-INGEST of DEMO, folder 2") for line in ran.out)


def test_the_report_is_stored_under_the_event_of_the_launch(xnat: Xnat) -> None:
    tree(xnat.mount, "007/pre")
    ran = xnat.launch("project", "/archive/projects/DEMO")
    written = ran.resource["XNAT-INGEST"].written
    assert {one.query["event_id"] for one in written} == {"2"}
    assert all(one.path.split("/")[0].endswith("_1") for one in written)


@pytest.mark.wide
def test_every_run_has_a_folder_of_its_own(xnat: Xnat) -> None:
    """A swarm may start a launch twice: the second finds all there, and keeps the first one's report."""
    tree(xnat.mount, "007/pre")
    for _ in range(2):
        ran = xnat.launch("project", "/archive/projects/DEMO")
        assert ran.code == 0
    folders = {path.partition("/")[0] for path in ran.resource["XNAT-INGEST"].files}
    assert len(folders) == 2
    assert "5 instances already on the server before this run" in ran.out


@pytest.mark.wide
def test_from_a_subject(xnat: Xnat) -> None:
    xnat.site.project("DEMO").subjects["S7"] = "XNAT_S00007"
    tree(xnat.mount, "pre", "post")
    ran = xnat.launch("subject", "/archive/subjects/XNAT_S00007")
    assert ran.code == 0, ran.err
    assert {s.label for s in xnat.site.sessions("DEMO") if s.subject == "S7"} == {"S7_pre", "S7_post"}
    assert ran.report["exit_code"] == 0


@pytest.mark.parametrize("layout", ["auto", "session", "headers"])
@pytest.mark.parametrize(
    ("own", "label", "code"),
    [("S7", "", 0), ("S 7", "", 2), ("{PatientID}", "", 2), ("S7", "OTHER", 2), ("S7", "{PatientID}", 2)],
)
def test_nothing_leaves_the_subject_that_it_was_launched_from(
    xnat: Xnat, layout: str, own: str, label: str, code: int
) -> None:
    """Neither by a label that would be repaired or be a template, nor by the form's field."""
    subjects = xnat.site.project("DEMO").subjects
    subjects[own] = "XNAT_S00007"
    subjects["OTHER"] = "XNAT_S00008"
    make_session(xnat.mount / "pre", [Series("T1_1", tags={"PatientID": "OTHER"})])
    ran = xnat.launch("subject", "/archive/subjects/XNAT_S00007", layout=layout, subject_label=label)
    assert ran.code == code, ran.err
    assert {session.subject for session in xnat.site.sessions("DEMO")} == ({own} if code == 0 else set())


@pytest.mark.wide
def test_from_a_session_by_way_of_the_prearchive(xnat: Xnat) -> None:
    """The launch keeps a workflow open on the session, and XNAT archives into no such session."""
    accession = with_session(xnat)
    make_session(xnat.mount / "more", [Series("T2_3", number=3)], seed="007/pre")
    ran = xnat.launch("session", f"/archive/experiments/{accession}")
    assert ran.launch.workflow_on == accession
    assert ran.code == 0, ran.err
    (row,) = xnat.site.rows("DEMO")
    assert (row.label, row.subject, row.status) == ("007_pre", "007", "READY")
    assert ran.report["destination"] == "prearchive"
    assert ran.report["launch"]["launched_from"] == f"/archive/experiments/{accession}"


def with_session(xnat: Xnat) -> str:
    tree(xnat.mount, "007/pre")
    assert xnat.launch("project", "/archive/projects/DEMO").code == 0
    for file in sorted(xnat.mount.rglob("*"), reverse=True):
        if file.is_dir():
            file.rmdir()
        elif not file.name.endswith("_catalog.xml"):
            file.unlink()
    return stored(xnat.site, "DEMO", "007", "007_pre").accession


@pytest.mark.wide
def test_archiving_into_the_session_launched_from_is_refused(xnat: Xnat) -> None:
    accession = with_session(xnat)
    tree(xnat.mount, "more")
    ran = xnat.launch("session", f"/archive/experiments/{accession}", destination="archive")
    assert ran.code == 2
    assert "choose the destination prearchive" in ran.err
    assert "usage or configuration; nothing was sent" in ran.out
    assert ran.report["problems"][0]["kind"] == "run-failed"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("root", ["/archive/projects/DEMO/resources/UPLOAD", "42"])
def test_from_a_bare_resource(xnat: Xnat, root: str) -> None:
    """By REST only. Named by its number, a resource has its catalogue's path for an address."""
    tree(xnat.mount, "007/pre")
    ran = xnat.launch("resource", root, typed=False)
    assert ran.code == 0, ran.err
    assert len(stored(xnat.site, "DEMO", "007", "007_pre").files) == 5
    assert ran.report["exit_code"] == 0


def test_sub_path_picks_a_folder(xnat: Xnat) -> None:
    tree(xnat.mount, "in coming/2024/007/pre", "other/1/2")
    ran = xnat.launch("project", "/archive/projects/DEMO", sub_path="in coming/2024/")
    assert ran.code == 0, ran.err
    assert [s.label for s in xnat.site.sessions("DEMO")] == ["007_pre"]


def test_dry_run_sends_nothing(xnat: Xnat) -> None:
    tree(xnat.mount, "007/pre")
    ran = xnat.launch("project", "/archive/projects/DEMO", dry_run="true")
    assert ran.code == 0
    assert (ran.report["command"], ran.report["totals"]["planned"]) == ("plan", 5)
    assert not xnat.site.sessions("DEMO")


@pytest.mark.wide
def test_headers_are_rewritten_by_the_form(xnat: Xnat, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is the container's, never the form's."""
    monkeypatch.setenv("XNAT_INGEST_DEID_KEY", "k" * 40)
    tree(xnat.mount, "007/pre")
    ran = xnat.launch("project", "/archive/projects/DEMO", deidentify="research-mr")
    assert ran.code == 0, ran.err
    told = ran.report["deidentification"]
    assert (told["profile"], told["objects"]) == ("research-mr", 5)
    assert "k" * 40 not in json.dumps(ran.files) + ran.err + " ".join(ran.out) + " ".join(ran.launch.argv)
    (session,) = xnat.site.sessions("DEMO")
    assert str(session.study_uid).startswith("2.25.")


@pytest.mark.wide
def test_labels_and_layout(xnat: Xnat) -> None:
    tree(xnat.mount, "a/b/c")
    ran = xnat.launch(
        "project",
        "/archive/projects/DEMO",
        layout="headers",
        subject_label="S{StudyDate}",
        session_label="{Modality} of {StudyDate}",
    )
    assert ran.code == 0, ran.err
    (session,) = xnat.site.sessions("DEMO")
    assert session.subject == "S20040826"
    assert session.label == "MR_of_20040826"


@pytest.mark.wide
def test_config_by_name(xnat: Xnat) -> None:
    tree(xnat.mount, "007/pre")
    folder = xnat.mount.parent / "config"
    folder.mkdir()
    (folder / "Exclusions.json").write_text('\ufeff{"Exclude": ["Localizers"]}')
    xnat.site.project("DEMO").resources["XNAT-INGEST-CONFIG"] = Stored(
        77, "XNAT-INGEST-CONFIG", folder, files={"Exclusions.json": folder / "Exclusions.json"}
    )
    ran = xnat.launch("project", "/archive/projects/DEMO", config="Exclusions.json")
    assert ran.code == 0, ran.err
    assert ran.report["totals"]["excluded"] == 2


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("layout", {"layout": "sideways"}, "layout 'sideways' is not valid; it is one of auto, subject/session"),
    ("destination", {"destination": "trash"}, "destination 'trash' is not valid"),
    ("deidentify", {"deidentify": "none"}, "deidentify 'none' is not valid; it is one of auto, basic, research-mr"),
    ("no key", {"deidentify": "basic"}, "makes new UIDs or dates, which takes a key"),
    ("existing", {"existing": "delete"}, "'delete' is not valid; it must be one of resume"),
    ("dry run", {"dry_run": "perhaps"}, "dry-run 'perhaps' is not valid"),
    ("no config", {"config": "Absent.json"}, "has no file Absent.json in its resource XNAT-INGEST-CONFIG"),
    ("config above", {"config": "../../x"}, "must be a plain file name"),
    ("no folder", {"sub_path": "elsewhere"}, "has no folder 'elsewhere'; at its top there are: 007"),
    ("folder above", {"sub_path": "../.."}, "leads out of the resource"),
    ("template", {"session_label": "{nonsense}"}, "{nonsense} is not a folder level or a DICOM keyword"),
    ("quote", {"exclude": "a' stray 'b"}, "words that belong to no field: stray b."),
    ("folder's name too long", {"sub_path": "x" * 300}, "has no folder 'xxx"),
    ("folder that is a circle", {"sub_path": "circle"}, "has no folder 'circle'"),
    ("folder that leads out", {"sub_path": "out"}, "leads out of the resource"),
    *(
        (f"a quote that gives --{name}", {"exclude": f"a' --{name}='{value}"}, f"gives --{name} more than once")
        for name, value in (("existing", "overwrite"), ("input", "/"), ("config", "c.json"), ("destination", "archive"))
    ),
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["PLAN", "PROJECT", "SERVER"])
def test_the_environment_does_not_say_where_images_go(xnat: Xnat, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each variable by itself in the unit tests."""
    tree(xnat.mount, "007/pre")
    monkeypatch.setenv(f"XNAT_INGEST_{name}", xnat.site.url if name == "SERVER" else "x")
    ran = xnat.launch("project", "/archive/projects/DEMO")
    assert ran.code == 2
    assert f"XNAT_INGEST_{name} must not be set for a launch" in ran.err
    assert not xnat.site.sessions("DEMO")


@pytest.mark.wide
def test_a_subjects_launch_cannot_reach_other_subjects(xnat: Xnat) -> None:
    xnat.site.project("DEMO").subjects["S7"] = "XNAT_S00007"
    tree(xnat.mount, "pre/x")
    ran = xnat.launch("subject", "/archive/subjects/XNAT_S00007", layout="subject/session")
    assert ran.code == 2
    assert "cannot make other subjects" in ran.err
    folder = xnat.mount.parent / "config"
    folder.mkdir()
    (folder / "c.json").write_text('{"subject_label": "OTHER"}')
    xnat.site.project("DEMO").resources["XNAT-INGEST-CONFIG"] = Stored(
        77, "XNAT-INGEST-CONFIG", folder, files={"c.json": folder / "c.json"}
    )
    assert xnat.launch("subject", "/archive/subjects/XNAT_S00007", config="c.json").code == 0
    assert {session.subject for session in xnat.site.sessions("DEMO")} == {"S7"}


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("values", "sentence"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_value_is_refused_and_the_report_says_so(xnat: Xnat, values: dict[str, str], sentence: str) -> None:
    tree(xnat.mount, "007/pre")
    (xnat.mount / "circle").symlink_to("circle")
    (xnat.mount / "out").symlink_to(xnat.mount.parent)
    ran = xnat.launch("project", "/archive/projects/DEMO", typed=False, **values)
    assert ran.code == 2
    assert sentence in ran.err
    assert sentence in ran.report["problems"][0]["detail"]
    assert ran.out[-1] == "0 planned, 0 verified, 0 missing, 0 failed, 0 set aside: exit 2"
    assert not xnat.site.sessions("DEMO")


HOSTILE = [
    "",
    " ",
    "a b  c",
    '"double"',
    "$[touch x]",
    "$HOME",
    "a|b",
    "a\\b",
    "x\ty",
    "--version",
    "#exclude#",
    "ä€",
    "*",
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("wrapper", ["project", "resource"])
def test_values_arrive_as_they_were_typed_or_not_at_all(xnat: Xnat, wrapper: str, value: str) -> None:
    """No shell reads the line: what a field holds is an exclusion word and nothing else."""
    tree(xnat.mount, "007/pre")
    root = "/archive/projects/DEMO" + ("/resources/UPLOAD" if wrapper == "resource" else "")
    ran = xnat.launch(wrapper, root, typed=False, exclude=value, dry_run="true")
    assert ran.code == 0, ran.err
    unused = [problem["detail"] for problem in ran.report["problems"] if problem["kind"] == "rule-unused"]
    blank = not value.strip() or value == "#exclude#"
    assert len(unused) == (0 if blank else 1)
    assert not (xnat.mount / "x").exists()


@pytest.mark.parametrize("value", ["a;b", "a&&b", "a||b", "a`b", "config (1).json"])
def test_what_the_service_itself_refuses_never_reaches_us(xnat: Xnat, value: str) -> None:
    with pytest.raises(IllegalInput):
        xnat.launch("project", "/archive/projects/DEMO", typed=False, exclude=value)


def test_an_empty_mount_is_the_wrong_folder(xnat: Xnat) -> None:
    (xnat.mount / "UPLOAD_catalog.xml").unlink()
    ran = xnat.launch("project", "/archive/projects/DEMO")
    assert ran.code == 1
    assert "path translation" in ran.err
    assert "path translation" in ran.report["problems"][0]["detail"]


@pytest.mark.wide
def test_a_member_cannot_store_a_report_at_the_project(xnat: Xnat) -> None:
    """XNAT answers 200 all the same; the data are there, and the summary says what is not."""
    xnat.site.project("DEMO").access["up"] = "edit"
    tree(xnat.mount, "007/pre")
    ran = xnat.launch("project", "/archive/projects/DEMO")
    assert ran.code == 0
    assert any(line.startswith("report not stored: no edit right on DEMO (a project's") for line in ran.out)
    assert not ran.files
    assert len(stored(xnat.site, "DEMO", "007", "007_pre").files) == 5


def test_a_token_that_dies_in_the_run(xnat: Xnat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days after the launch, waiting included. What was delivered is reported; a rerun needs a new launch."""
    token = xnat.site.tokens.issue(xnat.site.user("up"))
    monkeypatch.setenv("XNAT_USER", token.alias)
    monkeypatch.setenv("XNAT_PASS", token.secret)
    tree(xnat.mount, "007/pre")
    record = xnat.site.record

    def expire_after_the_first_part(exchange: Exchange) -> None:
        record(exchange)
        if exchange.path == "/data/services/import":
            xnat.site.expire_tokens()

    monkeypatch.setattr(xnat.site, "record", expire_after_the_first_part)
    ran = xnat.launch("project", "/archive/projects/DEMO")
    assert ran.code in (3, 6)
    assert "no longer accepts user" in "\n".join(ran.out)
    assert "is not sent again" in "\n".join(ran.out)
    assert any(line.startswith("report not stored") for line in ran.out)


def test_an_address_that_the_container_cannot_reach(xnat: Xnat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_HOST", "http://127.0.0.1:9/xnat")
    ran = xnat.launch("project", "/archive/projects/DEMO")
    assert ran.code == 5
    assert "cannot reach http://127.0.0.1:9/xnat" in ran.err
    assert "processingUrl" in ran.err


def test_wrong_credentials_are_tried_once(xnat: Xnat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XNAT_PASS", "wrong")
    ran = xnat.launch("project", "/archive/projects/DEMO")
    assert ran.code == 6
    assert "launch again" in ran.err
    assert xnat.site.failed_logins("up") == 1


@pytest.mark.wide
@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_the_form_reads_well(xnat: Xnat, name: str) -> None:
    """Every field that a person sees has a label and a description in whole sentences; nothing else is shown."""
    xnat.site.project("DEMO").subjects["S7"] = "XNAT_S00007"
    accession = with_session(xnat)
    roots = {
        "project": "/archive/projects/DEMO",
        "subject": "/archive/subjects/XNAT_S00007",
        "session": f"/archive/experiments/{accession}",
        "resource": "/archive/projects/DEMO/resources/UPLOAD",
    }
    fields = form(COMMAND, f"xnat-ingest-{name}", xnat.model(), roots[name])
    shown = [field for field in fields if field.shown]
    for field in shown:
        assert field.label
        assert field.label != field.name
        assert field.label[0].isupper()
        assert field.description
        assert field.description.endswith(".")
    assert not {"source-uri", "parent-uri"} & {field.name for field in shown}
    (dry,) = (field for field in shown if field.name == "dry-run")
    assert dry.ticked is False
    offered = next((field.choices for field in shown if field.name == "source-resource"), ())
    assert all(choice.label != "XNAT-INGEST" for choice in offered)


@pytest.mark.parametrize("order", [tuple, lambda keys: tuple(reversed(list(keys)))], ids=["forward", "backward"])
def test_a_value_that_looks_like_another_key(xnat: Xnat, order: Callable[[Any], Any]) -> None:
    """Values are put into the line one after another, in no order: one that names a key may be replaced in turn."""
    tree(xnat.mount, "007/pre")
    launch = resolve(
        COMMAND, "xnat-ingest-project", xnat.model(), "/archive/projects/DEMO", {"exclude": "#config#"}, order=order
    )
    assert [word for word in launch.argv if word.startswith("--exclude=")] in (["--exclude="], ["--exclude=#config#"])
