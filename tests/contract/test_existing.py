"""What is in the archive already (`--existing`): every row of the table, as a pure table and on the server's disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Ended, Ingest, stored
from tests.dicom_trees import Series, make_series, make_session
from tests.standin import ArchivedSession as StoredSession
from tests.standin import StandIn
from xnat_ingest.core.model import Instance, Session
from xnat_ingest.delivery.decision import ServerState, commits_again, decide
from xnat_ingest.xnat.archive import ArchivedSession as Archived
from xnat_ingest.xnat.archive import StoredFiles

T1, T2 = Series("T1_0001", 4), Series("T2_0002", 3)
OTHER_NAMES = "${SOPInstanceUID}"
MODES = ("resume", "skip", "overwrite", "fail")


# -- what is decided, without a server


def instance(series: int, number: int, modality: str = "MR") -> Instance:
    uid = f"1.2.{series}.{number}"
    text = (str(series), str(number), modality, "", "1.2.840.10008.1.2.1")
    return Instance(f"{series}/{number}", 1000, 0, "1.2.840.4", uid, "1.2", f"1.2.{series}", *text, 600, {})


FILES = tuple(instance(series, number) for series in (1, 2) for number in (1, 2, 3))
SESSION = Session("DEMO", "S", "S_E", "1.2", "S/E", FILES)
KNOWN = Archived("X_E1", "S_E", "S", "1.2", "xnat:mrSessionData")


def held(names: dict[str, int] | None = None, **series: int) -> StoredFiles:
    """An archived session's files: ours by number of instance, or other tools' by number of series."""
    sizes = {f"1.2.{uid[1:]}": [1000] * number for uid, number in series.items()}
    for one in FILES:
        if one.name in (names or {}):
            sizes.setdefault(one.series_uid, []).append(1000)
    return StoredFiles("/data/experiments/X_E1", names or {}, sizes)


ALL = {one.name: 1000 for one in FILES}
FEWER = dict.fromkeys(list(ALL)[1:], 1000)
SHORT = ALL | {FILES[0].name: 599}

# (what was found, mode) -> (files to send, kind of the conflict, whether closing overwrites)
DECISIONS: dict[str, tuple[ServerState, str, tuple[int, str, bool]]] = {
    "nothing": (ServerState(), "resume", (6, "", False)),
    "by hand": (ServerState([Archived("X", "S_E", "S", "")]), "resume", (6, "", False)),
    "all": (ServerState([KNOWN], held(ALL)), "resume", (0, "", False)),
    "all, overwrite": (ServerState([KNOWN], held(ALL)), "overwrite", (6, "", True)),
    "fewer": (ServerState([KNOWN], held(FEWER)), "resume", (1, "", False)),
    "short": (ServerState([KNOWN], held(SHORT)), "resume", (1, "", True)),
    "other names": (ServerState([KNOWN], held(s1=3, s2=3)), "resume", (0, "", False)),
    "other names, absent": (ServerState([KNOWN], held(s1=3)), "resume", (3, "", False)),
    "other names, fewer": (ServerState([KNOWN], held(s1=3, s2=2)), "resume", (0, "sent-by-another-tool", False)),
    "other names, more": (ServerState([KNOWN], held(s1=3, s2=4)), "resume", (0, "sent-by-another-tool", False)),
    "other names, fewer, overwrite": (ServerState([KNOWN], held(s1=3, s2=2)), "overwrite", (6, "", True)),
    "custom site, fewer": (ServerState([KNOWN], held(s1=3, s2=2), template="x"), "resume", (3, "", True)),
    "other study": (ServerState([Archived("X", "S_E", "S", "9.9")], held(s9=6)), "resume", (0, "other-study", False)),
    "other study, our names": (ServerState([Archived("X", "S_E", "S", "9.9")], held(ALL)), "resume", (0, "", False)),
    "other study, some names": (
        ServerState([Archived("X", "S_E", "S", "9.9")], held(FEWER)), "resume", (0, "other-study", False)
    ),
    "other study, our names, overwrite": (
        ServerState([Archived("X", "S_E", "S", "9.9")], held(ALL)), "overwrite", (0, "other-study", False)
    ),
    "other subject": (ServerState([Archived("X", "S_E", "T", "1.2")]), "resume", (0, "other-subject", False)),
    "other subject, other case": (ServerState([Archived("X", "s_e", "T", "9")]), "resume", (0, "other-subject", False)),
    "other label": (ServerState([Archived("X", "T_E", "S", "1.2")]), "resume", (0, "other-label", False)),
    "other label, too": (
        ServerState([Archived("Y", "T_E", "S", "1.2"), KNOWN], held(FEWER)), "resume", (1, "", False)
    ),
    "other label, and another study's": (
        ServerState([Archived("Y", "T_E", "S", "1.2"), Archived("X", "S_E", "S", "")]),
        "resume",
        (0, "other-label", False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_decision(name: str) -> None:
    """How much is sent, which conflict there is, and whether closing replaces files."""
    standing, mode, expected = DECISIONS[name]
    decision = decide(SESSION, standing, mode)
    kind = decision.conflict.kind if decision.conflict else ""
    assert (0 if kind else len(decision.to_send), kind, decision.overwrite and not kind) == expected


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_a_doubtful_copy_is_not_there_even_if_it_was_counted(mode: str) -> None:
    """It is sent again. No instance is there and absent at once."""
    doubtful = frozenset({FILES[0].sop_uid})
    others = frozenset(one.sop_uid for one in FILES[1:])
    decision = decide(SESSION, ServerState([KNOWN], held(s1=3, s2=3), template="x"), mode, doubtful, others)
    assert [one.sop_uid for one in decision.to_send] == [FILES[0].sop_uid]
    assert decision.archive.counted == others
    assert set(decision.archive.absent) == doubtful


def test_causes_that_pass_are_told_from_others() -> None:
    """Only what has passed, or what overwrite_files settles, is closed once more."""
    for text in ("Session processing may already be in progress: X.", "Duplicate archive attempt. Busy.",
                 "Session already exists with matching files."):  # fmt: skip
        assert commits_again(f"Operation Failed: {text}")
    for text in ("", "Invalid modification of session modality via archive process.", "anything else"):
        assert not commits_again(text)


# -- on the server's disk


@dataclass
class Bench:
    """One tree of one session, and ways to put something of it on the server before the run."""

    ingest: Ingest
    site: StandIn
    root: Path

    def before(self, *series: Series, names: str = "", seed: str = "study", **labels: str) -> None:
        """Archives series of the study (or of another), by another naming template, under other labels."""
        place = self.root.parent / f"before-{len(self.site.requests)}/S/E"
        template = self.site.settings.file_name_template
        self.site.settings.file_name_template = names or template
        for one in series:
            make_series(place, one, seed, int(one.name[-4:]))
        flags = ("-S", labels.get("subject", "S"), "-E", labels.get("label", "S_E"))
        assert self.ingest("upload", place, *flags).code == 0
        self.site.settings.file_name_template = template

    @property
    def files(self) -> dict[str, bytes]:
        """Every archived file by name."""
        return {n: p.read_bytes() for s in self.site.sessions("DEMO") for n, p in s.files.items()}


@pytest.fixture
def bench(ingest: Ingest, site: StandIn, tmp_path: Path) -> Bench:
    """The tree is two series, 4 and 3 instances."""
    make_session(tmp_path / "t/S/E", (T1, T2), "study")
    return Bench(ingest, site, tmp_path / "t")


def by_hand(bench: Bench) -> None:
    project = bench.site.project("DEMO")
    project.subjects["S"] = "XNAT_S1"
    folder = bench.site.archive_root / "DEMO/arc001/S_E"
    project.sessions["S_E"] = StoredSession("X_E9", "DEMO", "S", "S_E", None, "xnat:mrSessionData", "MR", folder)


def cut_short(bench: Bench) -> None:
    bench.before(T1, T2)
    victim = next(iter(stored(bench.site, "DEMO", "S", "S_E").files.values()))
    victim.write_bytes(victim.read_bytes()[:2000])


def anonymised(bench: Bench) -> None:
    bench.site.project("DEMO").anon_script = "uids"
    bench.before(T1, T2)


FEWER_T1 = Series("T1_0001", 3)
# found -> how, and per mode: files sent, verdict, exit code, kind of problem, files archived at the end
Expected = tuple[int, str, int, str, int]
SKIPPED, STOPPED = (0, "skipped", 0, ""), (0, "conflict", 3, "existing")
SENT_ALL = (7, "verified", 0, "", 7)
FOUND: dict[str, tuple[Callable[[Bench], object], dict[str, Expected]]] = {
    "nothing": (lambda b: None, dict.fromkeys(MODES, SENT_ALL)),
    "made by hand": (
        by_hand, {"resume": SENT_ALL, "skip": (*SKIPPED, 0), "overwrite": SENT_ALL, "fail": (*STOPPED, 0)}
    ),
    "all": (
        lambda b: b.before(T1, T2),
        {"resume": (0, "verified", 0, "", 7), "skip": (*SKIPPED, 7), "overwrite": SENT_ALL, "fail": (*STOPPED, 7)},
    ),
    "some lack": (
        lambda b: b.before(FEWER_T1),
        {"resume": (4, "verified", 0, "", 7), "skip": (*SKIPPED, 3), "overwrite": SENT_ALL, "fail": (*STOPPED, 3)},
    ),
    "one is short": (
        cut_short,
        {"resume": (1, "verified", 0, "", 7), "skip": (*SKIPPED, 7), "overwrite": SENT_ALL, "fail": (*STOPPED, 7)},
    ),
    "a series is new": (
        lambda b: b.before(T1),
        {"resume": (3, "verified", 0, "", 7), "skip": (*SKIPPED, 4), "overwrite": SENT_ALL, "fail": (*STOPPED, 4)},
    ),
    "other names": (
        lambda b: b.before(T1, T2, names=OTHER_NAMES),
        {"resume": (0, "counted", 0, "", 7), "skip": (*SKIPPED, 7), "overwrite": SENT_ALL, "fail": (*STOPPED, 7)},
    ),
    "other names, fewer": (
        lambda b: b.before(FEWER_T1, T2, names=OTHER_NAMES),
        {
            "resume": (0, "conflict", 3, "sent-by-another-tool", 6),
            "skip": (*SKIPPED, 6), "overwrite": SENT_ALL, "fail": (*STOPPED, 6),
        },
    ),
    "other names, a series absent": (
        lambda b: b.before(T1, names=OTHER_NAMES),
        {"resume": (3, "counted", 0, "", 7), "skip": (*SKIPPED, 4), "overwrite": SENT_ALL, "fail": (*STOPPED, 4)},
    ),
    "other study": (
        lambda b: b.before(T1, seed="other"),
        {
            "resume": (0, "conflict", 3, "other-study", 4), "skip": (*SKIPPED, 4),
            "overwrite": (0, "conflict", 3, "other-study", 4), "fail": (*STOPPED, 4),
        },
    ),
    "other study, anonymised": (
        anonymised,
        {
            "resume": (0, "verified", 0, "", 7), "skip": (*SKIPPED, 7),
            "overwrite": (0, "conflict", 3, "other-study", 7), "fail": (*STOPPED, 7),
        },
    ),
    "other subject": (
        lambda b: b.before(T1, seed="other", subject="T"),
        dict.fromkeys(MODES, (0, "conflict", 3, "other-subject", 4)),
    ),
    "other subject, label in other case": (
        lambda b: b.before(T1, seed="other", subject="T", label="s_e"),
        dict.fromkeys(MODES, (0, "conflict", 3, "other-subject", 4)),
    ),
    "other label": (
        lambda b: b.before(T1, T2, label="S_old"), dict.fromkeys(MODES, (0, "conflict", 3, "other-label", 7))
    ),
    "subject in other case": (
        lambda b: b.before(FEWER_T1, subject="s"),
        {"resume": (4, "verified", 0, "", 7), "skip": (*SKIPPED, 3), "overwrite": SENT_ALL, "fail": (*STOPPED, 3)},
    ),
}  # fmt: skip


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("found", FOUND)
def test_archived(bench: Bench, found: str, mode: str) -> None:
    """What is sent, told and stored for everything that may be archived already; nothing is ever deleted."""
    prepare, expectations = FOUND[found]
    prepare(bench)
    sent, verdict, code, kind, files = expectations[mode]
    before, asked = bench.files, len(bench.site.requests)
    ended = bench.ingest("upload", bench.root, "--existing", mode)
    assert (ended.code, ended.session("S_E")["verdict"]) == (code, verdict), ended.err
    assert ended.kinds() == ([kind] if kind else [])
    assert ended.totals["bytes_sent"] == sizes(bench.root, sent)
    assert len(bench.files) == files
    assert bench.site.rows("DEMO") == []
    requests = bench.site.requests[asked:]
    assert not [r for r in requests if r.method == "DELETE" and "JSESSION" not in r.path]
    if sent == 0:
        assert bench.files == before
        assert [r.path for r in requests if r.method != "GET" and r.method != "DELETE"] == ["/data/JSESSION"]
    elif "names" not in found:
        assert before.keys() <= bench.files.keys()
    told(bench, ended, mode)


def told(bench: Bench, ended: Ended, mode: str) -> None:
    """Files of a skipped session are set aside; conflicts name a way out; proven is what is whole on the disk."""
    word = ended.session("S_E")["verdict"]
    assert [a["reason"] for a in ended.report["set_aside"]] == (["session-exists"] * 7 if word == "skipped" else [])
    if word == "verified" and not bench.site.project("DEMO").anon_script:
        sources = sorted(p.read_bytes()[132:] for p in bench.root.rglob("IM*"))
        assert sorted(data[132:] for data in bench.files.values()) == sources
    if ended.kinds() == ["sent-by-another-tool"]:
        assert "--existing overwrite" in ended.out


def sizes(root: Path, files: int) -> int:
    """Bytes of so many instances of the tree: all of one sample are of one size."""
    return files * next(root.rglob("IM*")).stat().st_size


@pytest.mark.wide
@pytest.mark.parametrize(("before", "expected"), [((T1,), False), ((T1, T2), True)])
def test_closing_overwrites_only_where_names_meet(bench: Bench, before: tuple[Series, ...], expected: bool) -> None:
    """overwrite_files is asked for when a name is in the archive already, else not."""
    bench.before(*before)
    if expected:
        next(iter(stored(bench.site, "DEMO", "S", "S_E").files.values())).write_bytes(b"")
    assert bench.ingest("upload", bench.root).code == 0
    queries = [r.query for r in bench.site.requests if r.query.get("action") == "commit"]
    assert queries[-1].get("overwrite_files") == ("true" if expected else None)


@pytest.mark.wide
def test_overwrite_where_the_site_names_files_its_own_way(bench: Bench) -> None:
    """After an overwrite under another naming template the series are counted, and nothing is there twice."""
    bench.site.settings.file_name_template = OTHER_NAMES
    bench.before(FEWER_T1, T2)
    ended = bench.ingest("upload", bench.root, "--existing", "overwrite")
    assert (ended.code, ended.session("S_E")["verdict"], ended.totals["counted"]) == (0, "counted", 7)
    assert len(bench.files) == 7


@pytest.mark.wide
def test_fail_stops_before_any_byte_of_any_session(bench: Bench) -> None:
    """One archived session stops the whole run: the others are unverified, none of them is on the server."""
    bench.before(T1)
    make_session(bench.root / "S/new", (T1,))
    ended = bench.ingest("upload", bench.root, "--existing", "fail")
    assert (ended.code, ended.totals["bytes_sent"], ended.kinds()) == (3, 0, ["existing"])
    assert ended.session("S_new")["verdict"] == "unverified"
    assert len(bench.site.sessions("DEMO")) == 1


@pytest.mark.wide
def test_skip_goes_on_with_the_others(bench: Bench) -> None:
    """The archived session's files are set aside, the new session is delivered."""
    bench.before(T1)
    make_session(bench.root / "S/new", (T1, T2), "new")
    ended = bench.ingest("upload", bench.root, "--existing", "skip")
    assert (ended.code, ended.totals["set_aside"], ended.totals["verified"]) == (0, 7, 7)
    assert ended.totals["bytes_sent"] == sizes(bench.root, 7)
    assert len(stored(bench.site, "DEMO", "S", "S_new").files) == 7


def test_a_compressed_copy_may_be_a_cut_one(ingest: Ingest, site: StandIn, tmp_path: Path) -> None:
    """The study was exported compressed, and then uncompressed. No listing tells what the server has."""
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 2, "MR_small_RLE.dcm"),), "study")
    assert ingest("upload", tmp_path / "t").code == 0
    raw = make_session(tmp_path / "t/S/E", (Series("T1_0001", 2),), "study")
    ended = ingest("verify", tmp_path / "t")
    assert (ended.code, ended.totals["missing"]) == (3, 2), ended.out
    whys = {one["why"] for one in ended.session("S_E")["unproven"]}
    assert all("cut, or compressed" in why for why in whys), whys
    assert ingest("upload", tmp_path / "t").code == 0
    assert {len(path.read_bytes()) for one in site.sessions("DEMO") for path in one.files.values()} == {
        len(path.read_bytes()) for path in raw
    }
