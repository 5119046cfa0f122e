"""Every setting settled before anything is contacted: layers, config files, server and credentials."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from xnat_ingest.core.errors import UsageError
from xnat_ingest.planning.prepare import rule_set
from xnat_ingest.settings.layers import Credentials, credentials, is_loopback, resolve
from xnat_ingest.settings.options import TABLE, OneOf, Settings, env_name, flag, help_text
from xnat_ingest.transports import TRANSPORTS

SECRET = "s3cret #with:signs%"
LOGIN = {"XNAT_HOST": "https://xnat.example.org", "XNAT_USER": "up", "XNAT_PASS": SECRET}


def config_file(folder: Path, config: object) -> str:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return str(path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a ~/.netrc of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine xnat.example.org login net password net-pass\n")
    (tmp_path / ".netrc").chmod(0o600)
    return tmp_path


# option, then what the config file, the environment and a flag say, and what comes of each
LAYERS: list[tuple[str, object, str, str, list[object]]] = [
    ("project", "C", "E", "F", ["", "C", "E", "F"]),
    ("layout", "session", "subject/session", "session", ["subject/session", "session", "subject/session", "session"]),
    ("workers", 2, "3", "5", [4, 2, 3, 5]),
    ("part_size", "1M", "2K", "3", [128 * 1024**2, 1024**2, 2048, 3]),
    ("timeout", 1.5, "2", "0.5", [60.0, 1.5, 2.0, 0.5]),
    ("ignore_case", True, "no", "true", [False, True, False, True]),
    ("destination", "prearchive", "archive", "prearchive", ["archive", "prearchive", "archive", "prearchive"]),
    ("session_label", "{session}", "x", "y", ["{subject}_{session}", "{session}", "x", "y"]),
]


@pytest.mark.parametrize(("name", "config", "env", "given", "values"), LAYERS, ids=[row[0] for row in LAYERS])
def test_flag_beats_environment_beats_config_beats_default(
    name: str, config: object, env: str, given: str, values: list[object], tmp_path: Path
) -> None:
    """Each layer wins over those below it, and -vv says which one won."""
    path = config_file(tmp_path, {name: config})
    environ = {env_name(name): env}
    layers: list[tuple[dict[str, Any], dict[str, str]]] = [({}, {}), ({"config": path}, {})]
    layers += [({"config": path}, environ), ({"config": path, name: given}, environ)]
    sources = ["default", f"config {path}", "environment", "flag"]
    for (flags, variables), value, source in zip(layers, values, sources, strict=True):
        settings = resolve("upload", flags, variables)
        assert getattr(settings, name) == value
        assert settings.sources.get(name, "default") == source
        assert f"{name} = {value!r} ({source})" in settings.shown()


def test_every_option_is_a_flag_a_variable_and_a_config_key() -> None:
    """Names are derived, never listed by hand."""
    from xnat_ingest.settings.config_file import config_schema

    assert (flag("part_size"), env_name("part_size")) == ("--part-size", "XNAT_INGEST_PART_SIZE")
    assert set(config_schema()["properties"]) == set(TABLE) - {"config"} | {"Exclude"}


def test_the_config_file_may_come_from_the_environment(tmp_path: Path) -> None:
    """XNAT_INGEST_CONFIG is the flag --config."""
    assert resolve("plan", {}, {"XNAT_INGEST_CONFIG": config_file(tmp_path, {"project": "C"})}).project == "C"


@pytest.mark.parametrize("text", ["", "  ", "#project#", "#PART_SIZE#"])
def test_an_empty_variable_or_a_placeholder_is_not_given(text: str) -> None:
    """What the container service leaves where a user gave nothing."""
    settings = resolve("upload", {}, dict.fromkeys(map(env_name, ("project", "part_size", "dry_run")), text))
    assert (settings.project, settings.part_size, settings.dry_run) == ("", 128 * 1024**2, False)
    assert settings.sources == {}


TEXTS: dict[str, dict[str, object]] = {
    "allow_empty": {"1": True, "true": True, "YES": True, "0": False, "False": False, "no": False},
    "part_size": {"1": 1, "512k": 512 * 1024, "128M": 128 * 1024**2, "2G": 2 * 1024**3},
}
WRONG = {"allow_empty": "on 2 y truee", "part_size": "0 -1 1.5M M 1T 1MB ² x", "workers": "0 2.5 -1 257 99999999"}
WRONG["dicom_host"] = f"x..y {'a' * 64} .x host:104 dicom://host host/x me@host"
WRONG |= {"timeout": "0 0.0009 1e-320 nan inf 1m", "layout": "flat", "log_format": "xml", "transport": "gopher"}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_texts_become_values(name: str, text: str) -> None:
    """1/true/yes/0/false/no; sizes in powers of 1024; alike in flag and environment."""
    assert getattr(resolve("upload", {name: text}, {}), name) == TEXTS[name][text]
    assert getattr(resolve("upload", {}, {env_name(name): text}), name) == TEXTS[name][text]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts.split()])
def test_texts_that_make_no_sense_are_refused(name: str, text: str) -> None:
    """By whatever layer they come, the sentence names the option as it was given there."""
    with pytest.raises(UsageError, match=flag(name)):
        resolve("upload", {name: text}, {})
    with pytest.raises(UsageError, match=env_name(name)):
        resolve("upload", {}, {env_name(name): text})


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.0.0.1", "::1", "fe80::1%eth0", "müller.example", "a_b.example.", "a" * 63]
)
def test_names_of_hosts(text: str) -> None:
    assert resolve("upload", {"dicom_host": text}, {}).dicom_host == text
    assert resolve("upload", {"timeout": "0.001"}, {}).timeout == 0.001
    with pytest.raises(
        UsageError, match="dicom-host: 'a b' is not valid; it must be the name or the address of a host"
    ):
        resolve("upload", {"dicom_host": "a b"}, {})


@pytest.mark.parametrize("name", ["project", "subject", "experiment", "user", "server", "dicom_host"])
@pytest.mark.parametrize("text", ["M\udcfcller", "\ud800", "a\0b"])
def test_names_are_text(name: str, text: str) -> None:
    """Arguments that are no UTF-8 are refused before anything makes an address of them."""
    with pytest.raises(UsageError, match="must be text in UTF-8"):
        resolve("upload", {name: text}, {})
    with pytest.raises(UsageError, match="must be text in UTF-8"):
        resolve("upload", {}, {env_name(name): text})


def test_a_user_name_of_the_environment_is_text() -> None:
    with pytest.raises(UsageError, match="the user name"):
        credentials(Settings(), LOGIN | {"XNAT_USER": "M\udcfcller"})


@pytest.mark.parametrize("name", ["report", "labels", "plan", "password_file"])
def test_files_may_have_names_that_are_no_text(name: str, tmp_path: Path) -> None:
    """Bytes of a path are whatever they are; halves of characters and NUL are in none."""
    assert getattr(resolve("upload", {name: "M\udcfcller"}, {}), name) == "M\udcfcller"
    for text in ("x\0y", "\ud800"):
        with pytest.raises(UsageError, match="must be text"):
            resolve("upload", {"config": config_file(tmp_path, {name: text})}, {})


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_config_file_of_an_impossible_name(text: str) -> None:
    with pytest.raises(UsageError, match="not a valid file name"):
        resolve("upload", {"config": text}, {})


def test_help_names_words_and_defaults() -> None:
    for name, row in TABLE.items():
        text, default = help_text(name), getattr(Settings, name)
        if isinstance(row.parse, OneOf):
            assert all(word in text for word in row.parse)
            assert text.endswith(f"; default {default}")
    assert help_text("existing").endswith(": resume, skip, overwrite, fail; default resume")
    assert help_text("workers") == "sessions and parts in parallel; default 4"
    assert help_text("timeout") == f"{TABLE['timeout'].help}; default 60"
    assert help_text("part_size") == TABLE["part_size"].help
    assert help_text("project") == TABLE["project"].help


def test_rules_of_all_layers_add_up(tmp_path: Path) -> None:
    """A rule that a site wrote down is not dropped by one more on the command line."""
    path = config_file(tmp_path, {"Exclude": ["a,b"], "include": ["c"]})
    settings = resolve("plan", {"config": path, "exclude": ["f,g", "h"]}, {"XNAT_INGEST_EXCLUDE": "d,e"})
    assert [rule.name for rule in rule_set(settings, 2).exclude] == ["a,b", "d", "e", "f", "g", "h"]
    assert [rule.name for rule in rule_set(settings, 2).include] == ["c"]


def test_one_config_file_serves_several_commands(tmp_path: Path) -> None:
    """A key that this command has no use for is no error."""
    path = config_file(tmp_path, {"project": "C", "layout": "session", "dry_run": True, "online": True, "verbose": 1})
    assert resolve("ping", {"config": path}, {}).project == "C"
    assert resolve("plan", {"config": path}, {}).online is True


BROKEN: dict[str, tuple[object, str]] = {
    "unknown": ({"projct": "x"}, "'projct'; did you mean project"),
    "unknown-case": ({"PROJECT": "x"}, "'PROJECT'; did you mean project"),
    "unknown-dash": ({"part-size": "1M"}, "'part-size'; did you mean part_size"),
    "unknown-excludes": ({"EXCLUDES": []}, "'EXCLUDES'; did you mean [Ee]xclude"),
    "password": ({"password": "x"}, "'password'"),
    "text-for-switch": ({"ignore_case": "yes"}, "ignore_case"),
    "number-for-text": ({"project": 5}, "project"),
    "list-for-number": ({"workers": [1]}, "workers"),
    "null": ({"layout": None}, "layout"),
    "fraction": ({"workers": 2.5}, "workers"),
    "word-for-list": ({"exclude": "a"}, "exclude"),
    "Exclude-number": ({"Exclude": ["a", 5]}, r"Exclude\[1\]"),
    "both": ({"Exclude": ["a"], "exclude": ["b"]}, "both Exclude and exclude"),
    "array": ([], "object"),
    "text": ("{", "not JSON"),
    "comment": ('{"project": "x"} // mine', "not JSON"),
    "empty": ("", "not JSON"),
    "deep": ("[" * 100_000, "not JSON"),
    "huge-number": ('{"workers": ' + "9" * 5000 + "}", "workers|not JSON"),
    "rule-nothing": ({"exclude": [{}]}, r"exclude\[0\]"),
    "rule-typo": ({"exclude": [{"Folder": "x"}]}, r"exclude\[0\].*folder"),
    "rule-empty": ({"exclude": [{"folder": ""}]}, r"exclude\[0\]\.folder"),
    "rule-number": ({"exclude": ["fine", {"folder": 3}]}, r"exclude\[1\]\.folder"),
    "rule-two": ({"include": [{"folder": "x", "path": "y"}]}, r"include\[0\].*(path|folder)"),
    "rule-tag-alone": ({"exclude": [{"tag": "Modality"}]}, r"exclude\[0\].*(matches|in)"),
    "rule-tag-both": ({"exclude": [{"tag": "Modality", "matches": "x", "in": ["y"]}]}, r"exclude\[0\].*(matches|in)"),
    "rule-tag-typo": ({"exclude": [{"tag": "Modality", "match": "x"}]}, r"exclude\[0\].*matches"),
    "rule-in-text": ({"exclude": [{"tag": "Modality", "in": "SR"}]}, r"exclude\[0\]\.in"),
    "rule-in-number": ({"exclude": [{"tag": "Modality", "in": ["SR", 3]}]}, r"exclude\[0\]\.in\[1\]"),
    "rule-fewer": ({"exclude": [{"series_instances": {"fewer": 3}}]}, r"exclude\[0\]\.series_instances.*fewer_than"),
    "rule-fewer-zero": ({"exclude": [{"series_instances": {"fewer_than": 0}}]}, r"exclude\[0\]\.series_instances"),
    "rule-list": ({"exclude": [["a"]]}, r"exclude\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_config_gives_one_sentence_that_names_the_key(name: str, tmp_path: Path) -> None:
    """A usage error with the file, the key, and the nearest known one where that helps."""
    config, pattern = BROKEN[name]
    path = config_file(tmp_path, config)
    with pytest.raises(UsageError, match=pattern) as caught:
        resolve("upload", {"config": path}, {})
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [{"exclude": [{f"k{n}": 1 for n in range(100_000)}]}, {"k" * 1_000_000: 1}])
def test_a_wrong_config_of_others_is_refused_at_once(config: object, tmp_path: Path) -> None:
    """A launch's config comes from the server. Each key was compared, and all of them were shown."""
    path = config_file(tmp_path, config)
    before = time.process_time()
    with pytest.raises(UsageError) as caught:
        resolve("upload", {"config": path}, {})
    assert time.process_time() - before < 3
    assert len(str(caught.value)) < 2000


def test_config_files_from_windows_and_those_that_cannot_be_read(tmp_path: Path) -> None:
    """A byte order mark is no error; a missing file, a folder and Latin-1 are."""
    path = tmp_path / "config.json"
    path.write_bytes(codecs.BOM_UTF8 + '{"project": "é"}'.encode())
    assert resolve("plan", {"config": str(path)}, {}).project == "é"
    path.write_bytes('{"project": "é"}'.encode("latin-1"))
    for wrong in (path, tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="config file"):
            resolve("plan", {"config": str(wrong)}, {})


@pytest.mark.parametrize(
    ("command", "flags", "environ", "skipped"),
    [
        ("upload", {"no_verify": True}, {}, True),
        ("upload", {"no_verify": True}, {"XNAT_INGEST_PROOF": "pixels"}, True),
        ("upload", {"no_verify": True, "proof": "listing"}, {}, True),
        ("upload", {"proof": "pixels"}, {"XNAT_INGEST_NO_VERIFY": "1"}, False),
        ("upload", {"proof": "spot"}, {"XNAT_INGEST_NO_VERIFY": "1"}, False),
        ("verify", {}, {"XNAT_INGEST_NO_VERIFY": "1"}, False),
        ("verify", {"proof": "pixels", "no_verify": True}, {}, False),
    ],
)
def test_a_proof_that_was_asked_for_is_not_skipped(
    command: str, flags: Mapping[str, Any], environ: Mapping[str, str], skipped: bool
) -> None:
    assert resolve(command, flags, environ).no_verify == skipped


def test_proof_and_no_proof_contradict_each_other() -> None:
    both = {"XNAT_INGEST_PROOF": "pixels", "XNAT_INGEST_NO_VERIFY": "1"}
    for flags, environ in (({"proof": "pixels", "no_verify": True}, {}), ({}, both)):
        with pytest.raises(UsageError, match="contradict each other"):
            resolve("upload", flags, environ)


HOST = LOGIN["XNAT_HOST"]
SECOND = {"XNAT_URL": "https://u/", "XNAT_SERVER": "https://s", "XNAT_USERNAME": "v", "XNAT_PASSWORD": "w"}
FILE = {"password_file": True}
SERVERS: dict[str, tuple[Mapping[str, str], Mapping[str, Any], tuple[str, str, str]]] = {
    "container-service": (LOGIN, {}, (HOST, "up", SECRET)),
    "first-names-win": ({**SECOND, **LOGIN}, {}, (HOST, "up", SECRET)),
    "other-names": (SECOND, {}, ("https://u", "v", "w")),
    "mixed": ({**LOGIN, "XNAT_HOST": "", "XNAT_SERVER": "https://s/xnat/"}, {}, ("https://s/xnat", "up", SECRET)),
    "flags": (LOGIN, {"server": "https://flag", "user": "flag"}, ("https://flag", "flag", SECRET)),
    "password-file": ({**LOGIN, "XNAT_PASS": ""}, FILE, (HOST, "up", "from file")),
    "password-file for another server": (LOGIN, {**FILE, "server": "https://b"}, ("https://b", "up", "from file")),
    "password-file for the same server": (LOGIN, {**FILE, "server": HOST}, (HOST, "up", LOGIN["XNAT_PASS"])),
    "environment-before-file": (LOGIN, FILE, (HOST, "up", SECRET)),
    "file-before-netrc": ({"XNAT_HOST": HOST}, {"user": "net", **FILE}, (HOST, "net", "from file")),
    "netrc": ({"XNAT_HOST": HOST}, {}, (HOST, "net", "net-pass")),
    "netrc-port": ({"XNAT_HOST": HOST + ":443/x"}, {"user": "net"}, (HOST + ":443/x", "net", "net-pass")),
    "netrc-user": ({"XNAT_HOST": HOST, "XNAT_PASS": SECRET}, {}, (HOST, "net", SECRET)),
    "blanks-in-the-password": ({**LOGIN, "XNAT_PASS": " padded "}, {}, (HOST, "up", " padded ")),
    "hashes-in-the-password": ({**LOGIN, "XNAT_PASS": "#hashed#"}, {}, (HOST, "up", "#hashed#")),
}


@pytest.mark.parametrize("name", SERVERS)
def test_server_and_credentials_come_from_the_first_place_that_has_them(name: str, home: Path) -> None:
    """XNAT_HOST and its kin, then their other names, then the password file, then ~/.netrc; a password is verbatim."""
    environ, given, expected = SERVERS[name]
    (home / "pass").write_text("from file\nsecond line\n")
    flags = {key: str(home / "pass") if value is True else value for key, value in given.items()}
    found = credentials(resolve("upload", flags, environ), environ)
    assert (found.server, found.user, found.password) == expected


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("machine xnat.example.org login a password b\ndefault login d password e\n", {}, ("a", "b")),
        ("machine other.org login a password b\ndefault login d password e\n", {}, ("d", "e")),
        ("default login d password e\n", {"XNAT_USER": "d"}, ("d", "e")),
    ],
    ids=["the machine first", "default", "default for the same user"],
)
def test_netrc_of_another_name_and_its_default(
    text: str, environ: Mapping[str, str], expected: tuple[str, str], home: Path
) -> None:
    """As curl and requests read it."""
    (home / "mine").write_text(text)
    found = credentials(Settings(), {"XNAT_HOST": HOST, "NETRC": str(home / "mine"), **environ})
    assert (found.user, found.password, found.source) == (*expected, str(home / "mine"))


def test_a_netrc_that_is_named_and_not_there(home: Path) -> None:
    with pytest.raises(UsageError, match=r"NETRC names .* does not exist"):
        credentials(Settings(), {"XNAT_HOST": HOST, "NETRC": str(home / "nowhere")})


def test_no_home_is_no_trouble(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a user whom nobody knows."""

    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UsageError, match=r"no user name|XNAT_PASS"):
        credentials(Settings(), {"XNAT_HOST": HOST})


def test_a_netrc_that_is_a_pipe_is_not_waited_for(home: Path) -> None:
    os.mkfifo(home / "pipe")
    with pytest.raises(UsageError, match=r"cannot use .*pipe"):
        credentials(Settings(), {"XNAT_HOST": HOST, "NETRC": str(home / "pipe")})


@pytest.mark.parametrize(
    "text",
    [
        "machine xnat.example.org login a Geheim-7\n",
        "machine xnat.example.org login a password correct Geheim-7\n",
        "machine xnat.example.org login a passwrod Geheim-7\n",
        "machine xnat.example.org a:Geheim-7\n",
        "machine other.org login a Geheim-7\nmachine xnat.example.org login a password b\n",
        "Geheim-7\n",
        "machine xnat.example.org login a password Geheim-7\n\xff\n",
    ],
)
def test_a_slip_in_the_netrc_shows_no_password(text: str, home: Path) -> None:
    """Neither in what is said nor in what the error carries along."""
    (home / "mine").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"cannot use .*mine: (line [0-9] does not fit|not readable)") as caught:
        credentials(Settings(), {"XNAT_HOST": HOST, "NETRC": str(home / "mine")})
    assert caught.value.__suppress_context__
    assert "Geheim" not in str(caught.value)


def test_a_netrc_that_others_may_read_says_so(home: Path) -> None:
    (home / ".netrc").write_text("machine xnat.example.org login a password b\n")
    (home / ".netrc").chmod(0o644)
    with pytest.raises(UsageError, match="too permissive"):
        credentials(Settings(), {"XNAT_HOST": HOST})


def test_netrc_default_is_not_for_another_user(home: Path) -> None:
    (home / "mine").write_text("default login d password e\n")
    with pytest.raises(UsageError, match="XNAT_PASS"):
        credentials(Settings(), {"XNAT_HOST": HOST, "NETRC": str(home / "mine"), "XNAT_USER": "another"})


@pytest.mark.parametrize("name", ["XNAT_PASS", "XNAT_PASSWORD"])
def test_a_password_of_the_environment_is_text(name: str) -> None:
    """The sentence names the variable, never the password."""
    with pytest.raises(UsageError, match=rf"the password \(environment {name}\) must be text in UTF-8") as caught:
        credentials(Settings(), {**LOGIN, "XNAT_PASS": "", name: "sesame\udce4"})
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def _of_another_encoding(_: str) -> str:
    return b"sesame\xe4".decode()


@pytest.mark.parametrize("typed", [_of_another_encoding, lambda _: "sesame\udce4"], ids=["terminal", "input"])
def test_a_typed_password_is_text(typed: Callable[[str], str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", typed)
    with pytest.raises(UsageError, match=r"the password \(prompt\) must be text in UTF-8") as caught:
        credentials(Settings(), {"XNAT_HOST": "https://other", "XNAT_USER": "x"})
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


ELSEWHERE = {"XNAT_HOST": "https://other"}
LACKING = {
    "server": ({}, "--server"),
    "user": (ELSEWHERE, "--user"),
    "password": ({**ELSEWHERE, "XNAT_USER": "x"}, "XNAT_PASS"),
    "netrc-of-another-user": ({"XNAT_HOST": HOST, "XNAT_USER": "another"}, "XNAT_PASS"),
}


@pytest.mark.parametrize("name", LACKING)
@pytest.mark.parametrize("closed", [False, True], ids=["stdin", "no-stdin"])
def test_what_lacks_is_said(name: str, closed: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the flag or variable to give; without a terminal nobody is asked."""
    environ, word = LACKING[name]
    # None: as in a process that was started with its input closed
    monkeypatch.setattr(sys, "stdin", None if closed else io.StringIO())
    with pytest.raises(UsageError, match=word):
        credentials(Settings(), environ)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\n", None], ids=["empty", "blank", "latin-1", "missing"])
def test_a_password_file_without_password_is_refused(content: bytes | None, home: Path) -> None:
    """The sentence names the file, never its content."""
    if content is not None:
        (home / "pass").write_bytes(content)
    with pytest.raises(UsageError, match="password file"):
        credentials(Settings(password_file=str(home / "pass")), {**LOGIN, "XNAT_PASS": ""})


def test_a_password_that_is_far_too_long_is_refused(home: Path) -> None:
    """It would take minutes to look for it in every output. Most likely it is the wrong file."""
    for length in (4096, 4097):
        (home / "pass").write_bytes(b"x" * length)
        given = Settings(password_file=str(home / "pass")), {**LOGIN, "XNAT_PASS": ""}
        if length == 4096:
            assert len(credentials(*given).password) == length
            continue
        with pytest.raises(UsageError, match="more than 4,096 characters") as caught:
            credentials(*given)
        assert "xxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"a b \r\n", "a b "), (b"x\x0cy\xe2\x80\xa8z", "x\fy\u2028z"), (codecs.BOM_UTF8 + b"p\n", "p")],
    ids=["windows", "odd-separators", "mark"],
)
def test_the_first_line_of_a_password_file_is_the_password(content: bytes, password: str, home: Path) -> None:
    """Up to the line's end and nothing else: only \\n and \\r\\n end a line."""
    (home / "pass").write_bytes(content)
    assert credentials(Settings(password_file=str(home / "pass")), {**LOGIN, "XNAT_PASS": ""}).password == password


NO_ADDRESS = [
    "xnat.example.org",
    "https://x/xnat;jsessionid=5EC",
    "ftp://x",
    "https://",
    "https://x:99999",
    "https://x?a=b",
    "https://x/#f",
    "//x",
]


@pytest.mark.parametrize("url", [*NO_ADDRESS, "https://a b"])
def test_an_address_that_is_none_is_refused(url: str, home: Path) -> None:
    """Before anything is sent to it."""
    with pytest.raises(UsageError, match="server address"):
        credentials(Settings(server=url), LOGIN)


@pytest.mark.parametrize("url", ["https://me:hunter2@x.org", "https://hunter2@x.org", "http://me:hunter2@x.org"])
def test_an_address_with_credentials_is_refused_and_never_shown(url: str, home: Path) -> None:
    """Neither by the error nor by -vv."""
    with pytest.raises(UsageError, match="XNAT_PASS") as caught:
        credentials(Settings(server=url), LOGIN)
    with pytest.raises(UsageError, match="XNAT_PASS") as early:
        resolve("plan", {"server": url}, {})
    shown = f"{caught.value}\n{early.value}"
    assert "hunter2" not in shown


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1:8080", "[::1]:80", "LOCALHOST"])
def test_plain_http_is_allowed_to_this_machine(host: str, home: Path) -> None:
    """Loopback, by name or number."""
    assert credentials(Settings(server=f"http://{host}"), LOGIN).password == SECRET


@pytest.mark.parametrize("host", ["xnat.org", "10.0.0.1", "localhost.xnat.org", "0.0.0.0", "127.0.0.1.xnat.org"])
def test_plain_http_to_another_machine_is_refused(host: str, home: Path) -> None:
    """Unless it is asked for, or the address is not the user's choice."""
    with pytest.raises(UsageError, match="--allow-http"):
        credentials(Settings(server=f"http://{host}"), LOGIN)
    assert credentials(Settings(server=f"http://{host}", allow_http=True), LOGIN).user == "up"
    assert credentials(Settings(server=f"http://{host}"), LOGIN, http_is_warning=True).user == "up"
    assert not is_loopback(host)


def test_the_password_is_never_shown() -> None:
    """Not by repr, not by str, not in a format."""
    login = Credentials("https://x", "up", SECRET, "prompt")
    assert SECRET not in f"{login!r} {login!s} {login}"
    assert "up" in repr(login)


def test_every_transport_can_be_chosen() -> None:
    parse = TABLE["transport"].parse
    assert isinstance(parse, OneOf)
    assert set(parse) == set(TRANSPORTS)
