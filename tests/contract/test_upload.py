"""The main job, over real sockets: what is on the server's disk at the end is what was planned, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from tests.conftest import Ingest, stored
from tests.dicom_trees import CT, KINDS, MR, SAMPLES, Series, make_series, make_session, uid
from tests.standin import StandIn
from xnat_ingest.xnat.client import USER_AGENT

TWO_SERIES = (Series("T1_0001", 4), Series("T2_0002", 3, CT, tags={"Modality": "CT"}))


def uids_on_disk(paths: dict[str, Path]) -> set[str]:
    return {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths.values()}


@pytest.mark.wide
def test_tree_of_hundreds_of_instances_arrives_whole(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """4 subjects x 2 sessions x 5 series x 8, and 30 junk files: exactly the instances arrive, none twice."""
    root = tmp_path / "tree"
    samples = (MR, CT, "MR_small_RLE.dcm", MR, "MR_small_bigendian.dcm")
    series = [Series(f"S{number}_{number:04d}", 8, sample) for number, sample in enumerate(samples, 1)]
    expected: dict[str, set[str]] = {}
    for subject in ("001", "002", "003", "004"):
        for session in ("pre", "post"):
            paths = make_session(root / subject / session, series)
            expected[f"{subject}_{session}"] = uids_on_disk({str(p): p for p in paths})
    for number in range(30):
        (root / "001" / "pre" / f"junk{number}").write_bytes(b"not an image" * number)
    ended = ingest("upload", root)
    assert ended.code == 0
    assert ended.totals["planned"] == ended.totals["verified"] == 320
    assert {aside["reason"] for aside in ended.report["set_aside"]} == {"not-dicom"}
    assert len(ended.report["set_aside"]) == 30
    on_server = {session.label: uids_on_disk(session.files) for session in site.sessions("DEMO")}
    assert on_server == expected
    assert site.rows("DEMO") == []
    again = ingest("upload", root)
    assert again.code == 0
    assert again.totals["bytes_sent"] == 0
    assert again.totals["already_there"] == 320
    assert not any(request.body_bytes for request in site.requests[-again.totals["requests"] :])


@pytest.mark.wide
def test_every_kind_of_sample_is_proven(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Transfer syntaxes and SOP classes of all sorts, deflated and without pixels among them, in one session."""
    make_session(tmp_path / "t/S/E", [Series(f"k{i}_{i:04d}", 2, sample) for i, sample in enumerate(KINDS, 1)])
    ended = ingest("upload", tmp_path / "t")
    assert ended.code == 0
    assert ended.totals["verified"] == 2 * len(KINDS) == len(stored(site, "DEMO", "S", "S_E").files)


def test_stored_bytes_are_the_files_bytes(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Nothing is re-encoded on the way: pixel data and header arrive as they are in the file."""
    paths = make_session(tmp_path / "t/S/E", [Series("T1_0001", 3)])
    ingest("upload", tmp_path / "t")
    sent = sorted(path.read_bytes()[132:] for path in paths)
    kept = sorted(path.read_bytes()[132:] for path in stored(site, "DEMO", "S", "S_E").files.values())
    assert kept == sent


@pytest.mark.wide
def test_parts_follow_the_protocol(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Every part has the same parameters, an exact length and nothing that closes; one closing comes after all."""
    make_session(tmp_path / "t/S/E", [Series(f"S{i}_{i:04d}", 6) for i in range(1, 5)])
    ended = ingest("upload", tmp_path / "t", "--part-size", "60K")
    assert ended.code == 0
    posts = [r for r in site.requests if r.method == "POST" and r.path != "/data/JSESSION"]
    parts, closings = posts[:-1], posts[-1:]
    assert len(parts) > 3
    assert len({json.dumps(part.query, sort_keys=True) for part in parts}) == 1
    query = parts[0].query
    timestamp = query.pop("PREARC_TIMESTAMP")
    assert query == {
        "import-handler": "DICOM-zip",
        "inbody": "true",
        "PROJECT_ID": "DEMO",
        "SUBJECT_ID": "S",
        "EXPT_LABEL": "S_E",
        "rename": "true",
        "prevent_auto_commit": "true",
        "SOURCE": "uploader",
    }
    assert all(part.content_type == "application/x-tar" for part in parts)
    assert all(part.content_length == part.body_bytes for part in parts)
    assert [closing.query for closing in closings] == [{"action": "commit", "AA": "true", "SOURCE": "uploader"}]
    assert closings[0].path == f"/data/prearchive/projects/DEMO/{timestamp}/S_E"
    assert closings[0].status == 301
    assert {request.user_agent for request in site.requests} == {USER_AGENT}
    assert site.sessions_created == 1


@pytest.mark.wide
@pytest.mark.parametrize("project", ["DEMO", "MANUAL"], ids=["code4", "code0"])
@pytest.mark.parametrize("destination", ["archive", "prearchive"])
def test_destinations(ingest: Ingest, site: StandIn, tmp_path: Path, project: str, destination: str) -> None:
    """`archive` archives whatever the project's code is; `prearchive` never does, and leaves a READY row."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ended = ingest("upload", tmp_path / "t", "--destination", destination, project=project)
    assert ended.code == 0
    assert ended.totals["verified"] == 7
    rows, sessions = site.rows(project), site.sessions(project)
    if destination == "archive":
        assert (len(rows), [len(s.files) for s in sessions]) == (0, [7])
    else:
        assert (sessions, [(row.status, len(row.files)) for row in rows]) == ([], [("READY", 7)])
        assert ended.session("S_E")["uri"] == f"/data{rows[0].url}"
    again = ingest("upload", tmp_path / "t", "--destination", destination, project=project)
    assert (again.code, again.totals["bytes_sent"], again.totals["already_there"]) == (0, 0, 7)


@pytest.mark.wide
def test_row_left_ready_is_closed_into_the_archive(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """What stands in the prearchive is not sent again when it is to be archived after all."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ingest("upload", tmp_path / "t", "--destination", "prearchive")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["bytes_sent"]) == (0, 0)
    assert len(stored(site, "DEMO", "S", "S_E").files) == 7
    assert site.rows("DEMO") == []


@pytest.mark.wide
def test_series_the_server_drops_is_named(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A series import filter drops without a word: exit 3, and each missing instance stands in the report."""
    site.project("DEMO").series_filter = {"enabled": True, "mode": "blacklist", "list": "T2.*"}
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ended = ingest("upload", tmp_path / "t", "--ignore-server-filter")
    assert ended.code == 3
    assert (ended.totals["verified"], ended.totals["missing"]) == (4, 3)
    session = ended.session("S_E")
    dropped = uids_on_disk({str(p): p for p in (tmp_path / "t/S/E/T2_0002").iterdir()})
    assert set(session["missing"]) == dropped == {row["sop_uid"] for row in session["unproven"]}
    assert {row["state"] for row in session["unproven"]} == {"missing"}
    assert session["verdict"] == "missing"


def test_everything_dropped_closes_nothing(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """200 with an empty body is not success."""
    site.project("DEMO").series_filter = {"enabled": True, "mode": "whitelist", "list": "nothing"}
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ended = ingest("upload", tmp_path / "t", "--ignore-server-filter")
    assert (ended.code, ended.totals["missing"]) == (3, 7)
    assert (site.rows("DEMO"), site.sessions("DEMO")) == ([], [])


@pytest.mark.wide
def test_new_series_is_merged_into_the_archived_session(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A second run sends only what the archive lacks, and all of it is there at the end."""
    folder = tmp_path / "t/S/E"
    make_series(folder, Series("T1_0001", 4), "study", 1)
    assert ingest("upload", tmp_path / "t").code == 0
    make_series(folder, Series("T2_0002", 3), "study", 2)
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["already_there"]) == (0, 7, 4)
    assert len(stored(site, "DEMO", "S", "S_E").files) == 7
    assert ended.totals["bytes_sent"] == sum(path.stat().st_size for path in (folder / "T2_0002").iterdir())


@pytest.mark.wide
def test_file_cut_short_on_the_server_is_sent_again(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """A name in a listing is no proof: the stored size must be plausible; the rerun replaces what is short."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ingest("upload", tmp_path / "t")
    victim = next(iter(stored(site, "DEMO", "S", "S_E").files.values()))
    victim.write_bytes(victim.read_bytes()[:2000])
    checked = ingest("verify", tmp_path / "t")
    assert (checked.code, checked.totals["missing"]) == (3, 1)
    assert "stored too short" in checked.session("S_E")["unproven"][0]["why"]
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["already_there"]) == (0, 7, 6)
    assert len(stored(site, "DEMO", "S", "S_E").files) == 7


@pytest.mark.wide
def test_one_session_by_subject_and_label(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """-S and -E make ROOT one session, labels as they are."""
    make_session(tmp_path / "t", TWO_SERIES)
    assert ingest("upload", tmp_path / "t", "-S", "sub-01", "-E", "MR_2024").code == 0
    assert len(stored(site, "DEMO", "sub-01", "MR_2024").files) == 7


@pytest.mark.wide
def test_layout_session(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Folders are sessions of one subject."""
    for name in ("one", "two"):
        make_session(tmp_path / "t" / name, TWO_SERIES)
    assert ingest("upload", tmp_path / "t", "--layout", "session", "-S", "P7").code == 0
    assert {s.label for s in site.sessions("DEMO")} == {"P7_one", "P7_two"}


@pytest.mark.wide
def test_project_alias_is_not_taken_for_rerouting(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The canonical project id is used from the start."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ended = ingest("upload", tmp_path / "t", project="demo-alias")
    assert (ended.code, ended.report["project"]) == (0, "DEMO")


def test_server_below_a_path(ingest: Ingest, site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XNAT may live below a context path."""
    site.settings.context_path = "/xnat"
    monkeypatch.setenv("XNAT_HOST", f"{site.url}/")
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    assert ingest("upload", tmp_path / "t").code == 0


@pytest.mark.wide
def test_no_verify_says_unverified(ingest: Ingest, tmp_path: Path) -> None:
    """Accepted is not proven: exit 0 as asked, but every word says unverified."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ended = ingest("upload", tmp_path / "t", "--no-verify")
    assert (ended.code, ended.totals["unverified"], ended.totals["verified"]) == (0, 7, 0)
    assert "7 instances unverified" in ended.out
    assert ended.session("S_E")["verdict"] == "unverified"


@pytest.mark.wide
def test_verify_finds_everything_or_names_it(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """`verify` sends nothing and believes listings alone."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    before = ingest("verify", tmp_path / "t")
    assert (before.code, before.totals["missing"]) == (3, 7)
    ingest("upload", tmp_path / "t")
    after = ingest("verify", tmp_path / "t")
    assert (after.code, after.totals["verified"]) == (0, 7)
    assert {r.method for r in site.requests[-after.totals["requests"] - 1 :]} <= {"GET", "POST", "DELETE"}
    assert not any(r.body_bytes for r in site.requests[-after.totals["requests"] :])


@pytest.mark.wide
def test_verify_without_the_labels_of_the_upload_says_where_the_study_is(ingest: Ingest, tmp_path: Path) -> None:
    """Somebody uploaded with a label sheet, and verifies without it."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    sheet = tmp_path / "labels.csv"
    sheet.write_text("folder,study_uid,subject,session\nS/E,,P007,P007_base\n")
    assert ingest("upload", tmp_path / "t", "--labels", str(sheet)).code == 0
    without = ingest("verify", tmp_path / "t")
    assert (without.code, without.totals["missing"], without.kinds()) == (3, 7, ["other-label"])
    assert "its study is archived as session P007_base of subject P007" in without.out
    assert "to do: give the labels that the upload had: --labels SHEET" in without.out
    again = ingest("upload", tmp_path / "t")
    assert (again.code, again.kinds()) == (3, ["other-label"])
    assert "-S P007 -E P007_base" in again.out
    assert ingest("verify", tmp_path / "t", "--labels", str(sheet)).code == 0


def test_plan_opens_no_socket(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """`plan` is for machines without a network, too."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ended = ingest("plan", tmp_path / "t")
    assert (ended.code, ended.totals["unverified"], site.requests) == (0, 7, [])


@pytest.mark.wide
def test_plan_online_tells_what_is_there(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """`plan --online` and `upload --dry-run` are one; nothing is written to the server."""
    make_session(tmp_path / "t/S/E", TWO_SERIES)
    ingest("upload", tmp_path / "t")
    sent = len(site.requests)
    for command, flag in (("plan", "--online"), ("upload", "-n")):
        ended = ingest(command, tmp_path / "t", flag)
        assert (ended.code, ended.totals["already_there"]) == (0, 7)
    assert {(r.method, r.path) for r in site.requests[sent:] if r.method not in ("GET", "DELETE")} == {
        ("POST", "/data/JSESSION")
    }


def test_truncated_and_unreadable_files_are_problems(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The rest is delivered; the run says 3 and names both files."""
    paths = make_session(tmp_path / "t/S/E", TWO_SERIES)
    paths[0].write_bytes(paths[0].read_bytes()[:-700])
    (tmp_path / "t/S/E/gone").symlink_to("nothing-there")
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"]) == (3, 6)
    assert sorted(aside["reason"] for aside in ended.report["set_aside"]) == ["truncated", "unreadable"]
    assert len(stored(site, "DEMO", "S", "S_E").files) == 6


def test_hostile_names_travel(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """Newline, quote, percent and non-UTF-8 in folder and file names: all delivered, output stays one line each."""
    source = (SAMPLES / MR).read_bytes()
    make_session(tmp_path / "t/S/E", [Series('a"b%0a\nc', 2)])
    odd = (tmp_path / "t/S/E").joinpath("caf\udce9 \x1b[31m%s")
    odd.mkdir()
    dataset = pydicom.dcmread(next((tmp_path / "t/S/E").glob("a*/*")))
    dataset.SOPInstanceUID = uid("another")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(odd / "x'y;z")
    (odd / "junk\nname").write_bytes(source[:60])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.totals["verified"], ended.totals["set_aside"]) == (0, 3, 1)
    assert "\x1b" not in ended.out + ended.err
    assert ended.report["set_aside"][0]["path"] == "S/E/caf\\xe9 \\x1b[31m%s/junk\\nname"
    assert len(stored(site, "DEMO", "S", "S_E").files) == 3


def test_verify_of_a_folder_in_which_nothing_is_found(ingest: Ingest, tmp_path: Path) -> None:
    """An unmounted disk is an empty folder, and no proof."""
    (tmp_path / "t").mkdir()
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.totals["planned"]) == (4, 0)
    assert ingest("verify", tmp_path / "t", "--allow-empty").code == 0
