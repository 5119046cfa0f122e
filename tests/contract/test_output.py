"""What is printed and reported holds nothing that a terminal acts on and no secret, whoever wrote it; and what cannot
be printed is a sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import PASSWORD, Ingest
from tests.dicom_trees import Series, make_session
from tests.scripted import Asked, Scripted, http
from tests.standin import Fault, StandIn
from xnat_ingest.cli import main, output
from xnat_ingest.core.errors import IngestError
from xnat_ingest.report.document import write as write_report

# Every control of C0 and C1, every mark that turns or hides text, and lone surrogates are tried by the unit tests;
# these stand for their kinds: a clear screen, a window title, a C1 sequence, an override, an isolate, a zero width.
POISON = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\u200b\ufeff\u2028\r\x08\x7fEND"
FORGED = "\n0 planned, 0 verified, 0 missing, 0 failed, 0 set aside: exit 0"
SESSION = "A" * 32


def hold(*texts: str) -> None:
    """Nothing but printable characters, line ends and tabs; no line that the program did not write itself."""
    for text in texts:
        bad = sorted({repr(c) for c in text if not c.isprintable() and c not in "\n\t"})
        assert not bad, f"{bad} in {text!r}"
        assert FORGED not in text


def in_json(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *in_json(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from in_json(inner)


def hold_report(report: dict[str, object]) -> None:
    for text in in_json(report):
        assert all(c.isprintable() for c in text), repr(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make_session(tmp_path / "t/S/E", (Series("T1_0001", 3),))
    return tmp_path / "t"


def table(**row: str) -> bytes:
    return http(200, json.dumps({"ResultSet": {"Result": [row]}}), kind="application/json")


def item(**fields: str) -> bytes:
    return http(200, json.dumps({"items": [{"data_fields": fields}]}), kind="application/json")


ROW = {
    "project": "DEMO",
    "timestamp": POISON,
    "folderName": POISON + FORGED,
    "name": POISON,
    "subject": POISON,
    "tag": POISON,
    "status": "ERROR" + POISON,
    "SOURCE": POISON,
    "lastmod": POISON,
}
ANSWERS: dict[str, Callable[[Asked], bytes]] = {
    "an error page": lambda asked: http(500, f"<h3>{POISON}{FORGED}</h3>", kind="text/html"),
    "a plain error": lambda asked: http(404, POISON + FORGED),
    "a page": lambda asked: http(200, f"<p>{POISON}", kind="text/html"),
    "entities": lambda asked: http(403, "<h3>&#27;[2J&#155;&#8238;&#0;&#10;0 planned</h3>", kind="text/html"),
    "a redirection": lambda asked: http(302, "", "Location: http://x/\x1b[2J\x9b1m/\u202e".encode().decode("latin-1")),
    "a status line": lambda asked: b"HTTP/1.1 500 \x1b[2J\x9b1m\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": lambda asked: b"\x1b[2J\x9b1m\r\n\r\n",
    "tables": lambda asked: table(**ROW, Name=POISON, Size="1", URI=POISON, label=POISON, ID=POISON, file_count="1"),
    "items": lambda asked: item(ID=POISON + FORGED, label=POISON, subject_ID=POISON),
    "text": lambda asked: http(200, POISON + FORGED),
    "JSON": lambda asked: http(200, json.dumps({"version": POISON + FORGED}), kind="application/json"),
}
COMMANDS = [
    ["ping", "-P", "DEMO"],
    ["prearchive", "list", "-P", "DEMO"],
    ["prearchive", "list", "-P", "DEMO", "--json"],
    ["prearchive", "archive", "-P", "DEMO", "--all"],
    ["resource", "list", "-P", "DEMO"],
    ["resource", "list", "-P", "DEMO", "--label", "L", "--json"],
    ["command", "register"],
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ANSWERS)
def test_texts_of_a_server(
    name: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In whatever place they come, and whatever command reads them."""

    def answer(asked: Asked, _connection: object) -> bytes:
        return http(200, SESSION) if asked.path == "/data/JSESSION" else ANSWERS[name](asked)

    report = tmp_path / "report.json"
    runs = [
        *COMMANDS,
        ["upload", str(tree), "-P", "DEMO", "--report", str(report)],
        ["verify", str(tree), "-P", "DEMO", "--report", str(report), "--log-format", "json", "-vv"],
    ]
    with Scripted(answer) as server:
        for key, value in (("HOST", server.url), ("USER", "up"), ("PASS", "secret")):
            monkeypatch.setenv(f"XNAT_{key}", value)
        for words in runs:
            code = main([*words, "--retry-budget", "0", "--timeout", "3"])
            assert code != 70, words
            said = capsys.readouterr()
            hold(said.out, said.err)
            for line in said.out.splitlines() + said.err.splitlines():
                if line.startswith(("{", "[")) and line.endswith(("}", "]")):
                    hold_report(json.loads(line))
            if report.exists():
                hold_report(json.loads(report.read_text()))
                report.unlink()


def odd_bytes(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/S/E/\xff\x1b[2J\x80")).write_bytes(b"x")


def damaged(root: Path) -> None:
    (root / f"S/E/T1_0001/{POISON}.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 20)


def add_folder(root: Path) -> None:
    make_session(root / f"S/{POISON}", (Series("T2", 1),))


FILES: dict[str, Callable[[Path], object]] = {
    "a file": lambda root: (root / f"S/E/T1_0001/{POISON}").write_bytes(b"no image"),
    "a damaged image": damaged,
    "a folder": add_folder,
    "a link": lambda root: (root / f"S/E/{POISON}").symlink_to(f"/nowhere/{POISON}"),
    "bytes that are no text": odd_bytes,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", FILES)
def test_texts_of_files(ingest: Ingest, site: StandIn, tree: Path, name: str) -> None:
    FILES[name](tree)
    for command in ("plan", "upload"):
        ended = ingest(command, tree, "-vv", "--exclude", f"x{POISON.replace(',', '')}")
        assert ended.code in (0, 2, 3)
        hold(ended.out, ended.err)
        hold_report(ended.report)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (json.dumps({"exclude": [POISON]}), ["--config"]),
        (json.dumps({POISON: 1}), ["--config"]),
        (json.dumps({"workers": POISON}), ["--config"]),
        (f"folder,subject,session\n{POISON},{POISON},x\n", ["--labels"]),
        (f"{POISON},{POISON}\n", ["--labels"]),
        (json.dumps({"schema": POISON, POISON: []}), ["--config"]),
    ],
)
def test_texts_of_settings(ingest: Ingest, tree: Path, tmp_path: Path, text: str, flags: list[str]) -> None:
    path = tmp_path / "given"
    path.write_text(text)
    ended = ingest("plan", tree, "-vv", *flags, str(path))
    assert ended.code != 70
    hold(ended.out, ended.err)
    hold_report(ended.report)


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["plan", POISON], [POISON], ["plan", "x", f"--{POISON}"], ["upload", ".", "-P", POISON]):
        assert main(words) in (2, 6)
        said = capsys.readouterr()
        hold(said.out, said.err)


# -- secrets


def echo(asked: Asked) -> str:
    """What a careless page shows of a request, and what a careless log shows of a login."""
    lines = "; ".join(f"{name}: {value}" for name, value in asked.headers.items())
    encoded = b64encode(PASSWORD.encode()).decode()
    return f"{lines}; {PASSWORD}; {quote(PASSWORD)}; {quote(PASSWORD, safe='')}; {encoded}"


SECRETS = [
    PASSWORD,
    quote(PASSWORD),
    quote(PASSWORD, safe=""),
    b64encode(PASSWORD.encode()).decode(),
    b64encode(f"up:{PASSWORD}".encode()).decode(),
    SESSION,
    "balancer-cookie-value",
]


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 500])
@pytest.mark.parametrize("whole", [True, False], ids=["from the login on", "after it"])
def test_a_page_that_echoes_secrets(
    status: int,
    whole: bool,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(asked: Asked, _connection: object) -> bytes:
        if asked.path == "/data/JSESSION" and not whole:
            return http(200, SESSION, "Set-Cookie: LB=balancer-cookie-value")
        return http(status, f"<h3>{echo(asked)}</h3>", f"Location: /x/{quote(PASSWORD, safe='')}", kind="text/html")

    report = tmp_path / "report.json"
    with Scripted(answer) as server:
        for key, value in (("HOST", server.url), ("USER", "up"), ("PASS", PASSWORD)):
            monkeypatch.setenv(f"XNAT_{key}", value)
        for words in (["upload", str(tree), "-P", "DEMO", "--report", str(report)], ["ping", "-P", "DEMO"]):
            assert main([*words, "--retry-budget", "0"]) != 0
            said = capsys.readouterr()
            everything = said.out + said.err + (report.read_text() if report.exists() else "")
            assert not [secret for secret in SECRETS if secret in everything]
            if status in (400, 403, 500):  # the others are told in our own words
                assert "***" in everything


def test_an_alias_token_that_is_echoed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    alias, secret = "3b2a1f60-1111-2222-3333-444455556666", "s3cret-Alias-0123456789"
    page = f"<h3>token {alias} with {secret}</h3>"
    with Scripted(lambda *_: http(500, page, kind="text/html")) as server:
        for key, value in (("HOST", server.url), ("USER", alias), ("PASS", secret)):
            monkeypatch.setenv(f"XNAT_{key}", value)
        assert main(["ping", "--retry-budget", "0"]) == 5
    said = capsys.readouterr().err
    assert "token *** with ***" in said
    assert alias not in said


def test_the_name_of_an_alias_token_is_shown_in_part(
    ingest: Ingest, site: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is half of a login. The part tells the user which of their tokens has ended."""
    token = site.tokens.issue(site.users["up"])
    monkeypatch.delenv("XNAT_USER")
    monkeypatch.setenv("XNAT_PASS", token.secret)
    good = ingest("upload", tree, "-vv", "--dry-run", "--user", token.alias)
    assert good.code == 0, good.err
    site.faults.add(Fault("status", "GET .*prearchive_code", status=401, times=None))
    ended = ingest("upload", tree, "-vv", "--user", token.alias)
    assert ended.code == 6
    for said in (good.out, good.err, ended.out, ended.err, json.dumps(ended.report)):
        assert token.alias not in said
    assert f"no longer accepts user {token.alias[:8]}-***" in ended.err


def test_a_short_password_is_hidden_in_what_a_server_says_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a word of our own sentences, or of the server's address."""
    with Scripted(lambda *_: http(500, "<h3>no: xnat, 127</h3>", kind="text/html")) as server:
        for key, value in (("HOST", server.url), ("USER", "up"), ("PASS", "127")):
            monkeypatch.setenv(f"XNAT_{key}", value)
        assert main(["ping", "--retry-budget", "0"]) == 5
        said = capsys.readouterr().err
        assert "no: xnat, ***" in said
        assert server.url in said


def test_an_error_in_mid_run_that_echoes_the_password(ingest: Ingest, site: StandIn, tree: Path) -> None:
    """It becomes a problem of a session, a reason of an instance, and a line of the log."""
    site.faults.add(Fault("status", "POST .*services/import", status=500, message=f"no: {PASSWORD}", times=None))
    ended = ingest("upload", tree, "--retry-budget", "0")
    assert "no: ***" in json.dumps(ended.report)
    assert PASSWORD not in ended.out + ended.err + json.dumps(ended.report)


# -- signals, and output that goes nowhere


def program(*words: str, **named: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xnat_ingest", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **named)  # type: ignore[call-overload,no-any-return]


@pytest.mark.wide
@pytest.mark.parametrize(
    "words", [["presets"], ["command", "show"], ["--help"], ["--version"], ["plan", "{tree}", "-P", "X"]]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout(words: list[str], unbuffered: str, tree: Path) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        process = program(*(word.replace("{tree}", str(tree)) for word in words), stdout=full, env=environ)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "could not be printed: No space left on device" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_the_report_tells_that_nothing_could_be_printed(tree: Path, tmp_path: Path) -> None:
    """The process ends with 1, so the report does, too."""
    report = tmp_path / "r.json"
    with Path("/dev/full").open("w") as full:
        process = program("plan", str(tree), "-P", "X", "--report", str(report), stdout=full)
        process.communicate(timeout=60)
    assert process.returncode == json.loads(report.read_text())["exit_code"] == 1


@pytest.mark.parametrize("room", [True, False], ids=["room for a second one", "a full disk"])
def test_the_report_tells_that_another_output_failed(
    ingest: Ingest, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    """The page's disk has gone when the report is written."""
    away = tmp_path / "away"
    away.mkdir()

    def write(*given: Any, **mode: Any) -> None:
        if not room and not away.exists():
            raise IngestError("No space left on device")
        write_report(*given, **mode)
        shutil.rmtree(away, ignore_errors=True)

    monkeypatch.setattr("xnat_ingest.report.write", write)
    ended = ingest("plan", tree, "--html", str(away / "page.html"))
    assert ended.code == 1  # and so says the report


@pytest.mark.wide
def test_a_full_disk_behind_ping_and_lists(site: StandIn) -> None:
    for words in (["ping", "-P", "DEMO"], ["prearchive", "list", "-P", "DEMO"], ["resource", "list", "-P", "DEMO"]):
        with Path("/dev/full").open("w") as full:
            process = program(*words, stdout=full)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err) == (1, False), err
        assert "could not be printed" in err


def hang(site: StandIn) -> Fault:
    return site.faults.add(Fault("delay", "POST .*services/import", seconds=20))


@pytest.mark.wide
@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signals_in_mid_run(site: StandIn, tree: Path, tmp_path: Path, signum: int) -> None:
    """A closed terminal ends a run as SIGTERM does: in order, with its report."""
    fault = hang(site)
    report = tmp_path / "report.json"
    process = program("upload", str(tree), "-P", "DEMO", "--report", str(report), stdout=subprocess.PIPE)
    while not fault.hits:
        time.sleep(0.02)
    process.send_signal(signum)
    process.communicate(timeout=60)
    code = 130 if signum == signal.SIGINT else 143
    assert process.returncode == code
    assert json.loads(report.read_text())["exit_code"] == code


@pytest.mark.wide
def test_a_run_under_nohup_goes_on(site: StandIn, tree: Path) -> None:
    site.faults.add(Fault("delay", "POST .*services/import", seconds=1.0))
    command = ["nohup", sys.executable, "-m", "xnat_ingest", "upload", str(tree), "-P", "DEMO"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    while not any("services/import" in request.path for request in site.requests) and process.poll() is None:
        if any("experiments" in request.path for request in site.requests):
            process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("after", [0.06, 0.1, 0.15, 0.25, 0.4])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_moments(tree: Path, signum: int, after: float) -> None:
    """No traceback; what comes before the first line of ours is Python's own."""
    process = program("plan", str(tree), stdout=subprocess.PIPE)
    time.sleep(after)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    ours = "xnat_ingest" in err
    assert not (ours and "Traceback" in err), err
    assert not ours or process.returncode in (0, 130 if signum == signal.SIGINT else 143)


@pytest.mark.wide
def test_insecure_is_told(
    ingest: Ingest, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and a note in the report, wherever it was switched on."""
    monkeypatch.setenv("XNAT_HOST", "https://127.0.0.1:9")
    monkeypatch.setenv("XNAT_INGEST_INSECURE", "1")
    ended = ingest("upload", tree, "--retry-budget", "0")
    lines = [line for line in ended.err.splitlines() if "is not verified" in line]
    assert len(lines) == 1
    assert "--insecure, from the environment" in lines[0]
    assert "insecure" in ended.kinds()
    for words in (
        ["ping"],
        ["prearchive", "list", "-P", "X"],
        ["resource", "list", "-P", "X"],
        ["command", "register"],
    ):
        main([*words, "--retry-budget", "0"])
        assert len(re.findall("is not verified", capsys.readouterr().err)) == 1
    monkeypatch.delenv("XNAT_INGEST_INSECURE")
    assert "is not verified" not in ingest("upload", tree, "--retry-budget", "0").err
    (config := tmp_path / "config.json").write_text('{"insecure": true}')
    for flags, origin in ((("--insecure",), "from the flag"), (("--config", str(config)), "from the config")):
        ended = ingest("upload", tree, "--retry-budget", "0", *flags)
        (line,) = [line for line in ended.err.splitlines() if "is not verified" in line]
        assert origin in line
        assert "insecure" in ended.kinds()


@pytest.mark.parametrize("kind", ["long", "deep", "loop", "through-a-file"])
def test_a_path_that_no_file_can_have_is_a_sentence(
    site: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    """pathlib's own questions raise for a name that is too long, for a circle of links, for a folder that is locked."""
    tree = tmp_path / "tree"
    (file, *_) = make_session(tree / "S" / "E", [Series("T1_1", 1)])
    (tmp_path / "loop").symlink_to("loop")
    bad = {
        "long": tmp_path / ("n" * 300),
        "deep": tmp_path.joinpath(*["p" * 200] * 25),
        "loop": tmp_path / "loop",
        "through-a-file": file / "x",
    }[kind]
    outputs = ("--report", "--html", "--junit", "--csv")
    commands: list[tuple[object, ...]] = [(name, bad, "-P", "DEMO") for name in ("upload", "plan", "verify", "nifti")]
    commands += [("upload", bad, "-P", "DEMO", flag, tmp_path / "out") for flag in outputs]
    commands += [("upload", tree, "-P", "DEMO", flag, bad) for flag in outputs]
    commands += [("upload", tree, "-P", "DEMO", flag, bad) for flag in ("--labels", "--config", "--ca-bundle")]
    key = tmp_path / "key"
    assert main(["identity", "new-key", str(key)]) == 0
    hidden = ("upload", tree, "-P", "DEMO", "--deidentify", "basic", "--deid-key-file")
    commands += [(*hidden, bad), (*hidden, key, "--crosswalk", bad), ("upload", "--plan", bad), ("identity", bad)]
    commands += [("dicomUpload", site.url, "up", PASSWORD, "DEMO", tree, "--workdir", bad)]
    commands += [("resource", "put", bad, "-P", "DEMO", "-S", "S", "--label", "QC")]
    for command in commands:
        capsys.readouterr()
        code = main([*map(str, command)])
        said = capsys.readouterr()
        assert (code, "Traceback" in said.err) == (2, False), (command, said.err)
    assert not site.sessions("DEMO")


@pytest.mark.parametrize("actions", [False, True])
def test_no_name_is_a_command_to_the_runner_of_a_ci_job(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, actions: bool
) -> None:
    """GitHub's takes `::name::` at the start of a line, Azure's and others' `##name[` anywhere."""
    if actions:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    for study in ("one", "another"):  # in one folder, which is a conflict to be annotated
        make_session(tmp_path / "t/S/E", [Series(study, 1)], study)
    for name in ("::add-mask::007", "::error file=x::", "##vso[task.setvariable variable=PATH]x", "##[error]boo"):
        folder = tmp_path / "t" / name / "pre"
        folder.mkdir(parents=True)
        (folder / "IM1.dcm").write_bytes(b"")
    ended = ingest("upload", tmp_path / "t")
    assert ended.code == 3
    lines = (ended.out + ended.err).splitlines()
    assert sum("u003aadd-mask" in line or ":add-mask" in line for line in lines)
    ours = [line for line in lines if line.startswith("::")]
    assert all(line.startswith(("::error title=", "::warning title=")) for line in ours), ours
    assert bool(ours) == actions
    assert not [line for line in lines if re.search(r"^\s+::|##\w*\[", line)]


def test_a_summary_that_cannot_be_written_does_not_change_the_verdict(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, the runner's file is often not there."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "absent/summary"))
    make_session(tmp_path / "t/S/E", [Series("T1_1", 1)])
    ended = ingest("upload", tmp_path / "t")
    assert (ended.code, ended.report["exit_code"]) == (0, 0)
    assert "no summary of this step" in ended.err
    assert ended.out.splitlines()[-1].endswith("exit 0")


def test_what_cannot_be_a_command_is_valid_json() -> None:
    text = json.dumps({"::a": "##vso[x] ###[ ##a[", "b": ["::"]}, indent=1)
    inert = output._inert(text)
    assert "##" not in inert.replace("##\\u0023[", "")
    assert json.loads(inert) == json.loads(text)
    assert output._inert("a::b # [x] 1::2") == "a::b # [x] 1::2"
    assert output._inert("  ::x\n::y") == "  \\u003a:x\n\\u003a:y"
