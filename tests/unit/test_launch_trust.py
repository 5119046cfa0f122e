"""In a launch from XNAT, a container's environment chooses neither where images and logins go, nor foreign files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from xnat_ingest.commands.container.form import LaunchInputs
from xnat_ingest.commands.container.launch import target_of
from xnat_ingest.commands.container.trust import check_environment, check_profile
from xnat_ingest.core.errors import UsageError
from xnat_ingest.settings.options import TABLE, env_name
from xnat_ingest.xnat.client import XnatClient

XNAT = {"XNAT_HOST": "https://xnat.example.org", "XNAT_USER": "alias", "XNAT_PASS": "secret"}
PLACES = ("project", "subject", "experiment", "plan", "labels")
LOGIN = ("server", "user", "password_file")
# Options that name files, and what other programs' variables name.
FILES = sorted(
    {env_name(name) for name, row in TABLE.items() if row.metavar in ("FILE", "PROFILE")}
    - {env_name(name) for name in (*PLACES, *LOGIN, "config")}
    | {"NETRC", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "HOME"}
)


@pytest.mark.parametrize("name", PLACES)
def test_places_follow_from_the_launch(name: str) -> None:
    with pytest.raises(UsageError, match=f"{env_name(name)} must not be set for a launch: where the sessions go"):
        check_environment({**XNAT, env_name(name): "x"}, "/input")


@pytest.mark.parametrize("name", LOGIN)
def test_the_login_is_xnats(name: str) -> None:
    with pytest.raises(UsageError, match=f"{env_name(name)} must not be set for a launch: XNAT gives its own address"):
        check_environment({**XNAT, env_name(name): "x"}, "/input")
    check_environment({env_name(name): "x"}, "/input")  # outside of the service, where nothing else names it


@pytest.mark.parametrize("variable", FILES)
def test_files_of_the_resource_are_other_peoples(variable: str, tmp_path: Path) -> None:
    """By their path, and by a link from elsewhere."""
    mount = tmp_path / "input"
    mount.mkdir()
    (mount / "theirs").write_text("x")
    (tmp_path / "link").symlink_to(mount / "theirs")
    for path in (mount / "theirs", mount / "absent", tmp_path / "x/../input/theirs", tmp_path / "link"):
        with pytest.raises(UsageError, match=f"{variable} names .*, which is in the mounted resource"):
            check_environment({**XNAT, variable: str(path)}, str(mount))
    check_environment({**XNAT, variable: str(tmp_path / "input-2")}, str(mount))


def test_what_an_administrator_may_set(tmp_path: Path) -> None:
    """Speed, rules, protection, files from elsewhere; a config is a name in the project."""
    given = {"WORKERS": "2", "EXCLUDE": "Loc", "DEIDENTIFY": "basic", "CONFIG": "c.json", "CA_BUNDLE": "/etc/ca.pem"}
    check_environment({**XNAT, **{f"XNAT_INGEST_{name}": value for name, value in given.items()}}, str(tmp_path))


def test_a_form_does_not_weaken_what_an_administrator_protects() -> None:
    for chosen in ("auto", "basic"):
        check_profile(chosen, {"XNAT_INGEST_DEIDENTIFY": "basic"})
        check_profile(chosen, {})
    with pytest.raises(UsageError, match=r"deidentify dates-kept is not valid here: .*basic.*XNAT_INGEST_DEIDENTIFY"):
        check_profile("dates-kept", {"XNAT_INGEST_DEIDENTIFY": "basic"})


@pytest.mark.parametrize("field", ["parent_uri", "source_uri"])
def test_a_resources_name_does_not_say_what_it_was_launched_from(field: str) -> None:
    """Another person gave it, and a quote in it makes words of the line. Nobody is asked."""
    given = {"parent_uri": ["/archive/projects/A"], "source_uri": ["x"], field: ["/archive/projects/A", "/archive/B"]}
    with pytest.raises(UsageError, match=f"gives --{field.replace('_', '-')} more than once"):
        target_of(cast(XnatClient, None), LaunchInputs.read(given))
