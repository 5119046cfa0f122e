"""What others than the user have written does not decide where data and credentials go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from xnat_ingest.core.errors import UsageError
from xnat_ingest.settings.layers import Credentials, credentials, resolve
from xnat_ingest.settings.options import TABLE, is_list

# Rules, layout, labels and speed. Whatever is added to the table is refused until somebody decides.
SHARED: dict[str, object] = {
    "exclude": [{"folder": "x"}], "include": ["T1"], "ignore_case": True, "layout": "headers",
    "subject_label": "{PatientID}",
    "session_label": "{StudyDate}", "labels_partial": True, "strict": True,
    "split_studies": True, "allow_empty": True, "workers": 2, "part_size": "1M", "timeout": 30, "retry_budget": 3,
    "archive_format": "zip", "destination": "prearchive", "existing": "skip",
}  # fmt: skip
CONFINED = {"destination": "direct-archive", "existing": "overwrite", "layout": "project/subject/session"}
VALUES = {"existing": "overwrite", "destination": "direct-archive", "transport": "cstore", "dicom_port": "104"}


def reader(**config: object) -> Callable[[str], str]:
    return lambda _: json.dumps(config)


def shared(**config: object) -> object:
    return resolve("upload", {"config": "c.json"}, {}, reader(**config), shared=True)


@pytest.mark.parametrize("name", sorted(set(TABLE) - {"config"} - set(SHARED)))
def test_keys_that_a_projects_config_may_not_set(name: str) -> None:
    """Each by itself, with a sentence that names it."""
    value: object = VALUES.get(name, True if "switch" in str(TABLE[name].parse) else "x")
    with pytest.raises(UsageError, match=f"may not set {name}: other people can write that file"):
        shared(**{name: value})
    assert not TABLE[name].shared


@pytest.mark.parametrize("name", sorted(set(SHARED) & set(TABLE)))
def test_keys_that_it_may_set(name: str) -> None:
    settings = shared(**{name: SHARED[name]})
    assert getattr(settings, name) not in ((), None)
    assert TABLE[name].shared


@pytest.mark.parametrize("name", CONFINED)
def test_values_that_it_may_not_set(name: str) -> None:
    with pytest.raises(UsageError, match=f"may not set {name} to .{CONFINED[name]}"):
        shared(**{name: CONFINED[name]})


def test_the_receiver_of_a_stranger() -> None:
    """All images of a launch went to another host so."""
    with pytest.raises(UsageError, match="may not set transport"):
        shared(transport="cstore", dicom_host="203.0.113.9", dicom_port="104")


def test_original_exclusions_are_rules() -> None:
    assert is_list("exclude")
    assert shared(Exclude=["Localizers"])


def test_a_config_of_ones_own_may_set_all() -> None:
    config = {"transport": "cstore", "dicom_host": "dicom.example.org", "existing": "overwrite"}
    assert resolve("upload", {"config": "c.json"}, {}, reader(**config)).dicom_host == "dicom.example.org"


# -- whose password goes to whom

A, B = "https://a.example.org", "https://b.example.org"


@pytest.fixture
def password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "password"
    path.write_text("of the file\n")
    return str(path)


def login(config: dict[str, object], environ: dict[str, str], **flags: str) -> Credentials:
    settings = resolve("upload", {"config": "c.json", **flags}, environ, reader(**config))
    return credentials(settings, environ)


def test_environment_comes_before_the_config(password: str) -> None:
    """XNAT_HOST and XNAT_USER are the environment, too."""
    environ = {"XNAT_HOST": A, "XNAT_USER": "me", "XNAT_PASS": "secret"}
    found = login({"server": B, "user": "they"}, environ)
    assert (found.server, found.user, found.password) == (A, "me", "secret")
    found = login({"server": B, "user": "they"}, {"XNAT_URL": A, "XNAT_USERNAME": "me", "XNAT_PASSWORD": "secret"})
    assert (found.server, found.user) == (A, "me")


def test_a_configs_server_does_not_get_the_environments_password(password: str) -> None:
    """Both are named."""
    with pytest.raises(UsageError) as caught:
        login({"server": B, "user": "they"}, {"XNAT_PASS": "secret"})
    assert all(word in str(caught.value) for word in ("config c.json", B, "environment XNAT_PASS", "--server"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_configs_server_does_not_get_another_password_file(password: str, by_flag: bool) -> None:
    flags = {"password_file": password} if by_flag else {}
    environ = {} if by_flag else {"XNAT_INGEST_PASSWORD_FILE": password}
    with pytest.raises(UsageError, match="the password comes from file"):
        login({"server": B, "user": "they"}, environ, **flags)


def test_a_config_with_server_and_password_file(password: str) -> None:
    """They belong together: the file's password goes to that server, and to no other."""
    config: dict[str, object] = {"server": B, "user": "they", "password_file": password}
    assert login(config, {}).password == "of the file"
    assert login(config, {"XNAT_HOST": B + "/"}).server == B
    for environ, flags in (({"XNAT_HOST": A}, {}), ({}, {"server": A})):
        with pytest.raises(UsageError, match=f"names the server {B} and its password.* which is not sent to {A}"):
            login(config, environ, **flags)
    assert login(config, {"XNAT_HOST": A, "XNAT_PASS": "secret"}).password == "secret"


@pytest.mark.parametrize(
    ("config", "environ", "flags"),
    [
        ({"user": "me"}, {"XNAT_HOST": A, "XNAT_PASS": "secret"}, {}),
        ({"user": "me"}, {"XNAT_PASS": "secret"}, {"server": A}),
        ({"user": "me", "server": B}, {"XNAT_PASS": "secret"}, {"server": A}),
        ({"user": "me", "password_file": "FILE"}, {"XNAT_HOST": A}, {}),
        ({"user": "me"}, {"XNAT_INGEST_SERVER": A}, {"password_file": "FILE"}),
    ],
)
def test_pairs_that_the_user_has_made(
    password: str, config: dict[str, object], environ: dict[str, str], flags: dict[str, str]
) -> None:
    """A server from a flag or the environment is the user's word."""
    named = {name: password if value == "FILE" else value for name, value in config.items()}
    given = {name: password if value == "FILE" else value for name, value in flags.items()}
    assert login(named, environ, **given).server == A


def test_netrc_is_bound_to_its_host(password: str) -> None:
    path = Path(password).parent / ".netrc"
    path.write_text("machine b.example.org login they password of-b\n")
    path.chmod(0o600)
    assert login({"server": B}, {}).password == "of-b"


def test_files_without_an_end(password: str) -> None:
    """A device is refused before it fills the memory."""
    with pytest.raises(UsageError, match="is not a regular file"):
        resolve("upload", {"config": "/dev/zero"}, {})
    with pytest.raises(UsageError, match="is larger than 16 MB"):
        login({}, {"XNAT_HOST": A, "XNAT_USER": "me"}, password_file="/dev/zero")


def test_the_default_entry_of_netrc_is_for_servers_that_the_user_named(password: str) -> None:
    """It names no host: a configuration could send its password anywhere."""
    path = Path(password).parent / ".netrc"
    path.write_text("machine a.example.org login me password of-a\ndefault login they password of-all\n")
    path.chmod(0o600)
    for server in (B, "https://default"):
        with pytest.raises(UsageError, match=rf"config c\.json names the server {server}.*the default entry of ~/"):
            login({"server": server}, {})
    assert login({"server": A}, {}).password == "of-a"
    assert login({}, {"XNAT_HOST": B}).password == login({}, {}, server=B).password == "of-all"
    assert login({"server": B, "password_file": password}, {}).user == "they"
