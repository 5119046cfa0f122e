"""`xnat-ingest command show|check|register`: the document, its labels, and its way into a server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.standin import StandIn
from xnat_ingest import __version__
from xnat_ingest.cli import main

HOME = Path(__file__).parent.parent.parent
OWN = json.loads((HOME / "command.json").read_text("utf-8"))
WRAPPERS = [wrapper["name"] for wrapper in OWN["xnat"]]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["command", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_show_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "show")[1]) == OWN
    code, out, _ = run(capsys, "show", "--image", "host:5000/me/xnat-ingest:2")
    assert code == 0
    assert json.loads(out) == {**OWN, "image": "host:5000/me/xnat-ingest:2"}


@pytest.mark.parametrize("image", ["xnat-ingest", "host:5000/me/xnat-ingest", "two words:1", ":1", "x:"])
def test_an_image_needs_a_tag(capsys: pytest.CaptureFixture[str], image: str) -> None:
    code, out, err = run(capsys, "show", "--image", image)
    assert code == 2
    assert not out
    assert "NAME:TAG" in err


def test_the_package_holds_the_top_level_document() -> None:
    """Two real files: a symbolic link would break checkouts on Windows."""
    copy = HOME / "xnat_ingest" / "command.json"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (HOME / "command.json").read_bytes()
    assert OWN["version"] == __version__
    assert OWN["image"] == f"xnat-ingest:{__version__}"


def test_labels_hold_the_command_as_a_list_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "show", "--image", "me/x:3", "--labels")[1]
    labels = dict(line.split("=", 1) for line in out.splitlines())
    assert json.loads(labels["org.nrg.commands"]) == [{**OWN, "image": "me/x:3"}]
    assert labels["org.opencontainers.image.version"] == __version__


def test_check_names_every_fault(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "check")[0] == 0
    bad = {**OWN, "image": "untagged", "comandline": "x"}
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    code, out, err = run(capsys, "check", str(tmp_path / "bad.json"))
    assert code == 1
    assert not out
    assert "image" in err
    assert "comandline" in err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("[", "is not JSON"), ("[]", "is no JSON object"), ('{"name": 1, "name": 2}', "has the key 'name' twice")],
)
def test_what_is_no_document(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.json").write_text(text)
    code, _, err = run(capsys, "check", str(tmp_path / "x.json"))
    assert code == 2
    assert sentence in err


@pytest.fixture
def manager(site: StandIn) -> StandIn:
    site.user("up").container_manager = True
    return site


def known(site: StandIn, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [dict(command) for command in site.containers.commands.values()]


def test_register_then_update(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "register", "--image", "me/x:3")
    assert code == 0, err
    number = int(re.findall(r"registered command (\d+): xnat-ingest", out)[0])
    assert "switched off" not in out  # the service takes a wrapper that nobody spoke about as enabled
    before = known(manager, capsys)
    code, out, err = run(capsys, "register", "--image", "me/x:3", "--enable-site", "--enable-project", "DEMO")
    assert code == 0, err
    assert f"updated command {number}: xnat-ingest {__version__}, image me/x:3" in out
    assert f"enabled for the site: {', '.join(WRAPPERS)}" in out
    assert f"enabled for project DEMO: {', '.join(WRAPPERS)}" in out
    assert len(known(manager, capsys)) == len(before) == 1


def test_a_new_tag_is_a_new_command(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    for image in ("me/x:3", "me/x:4"):
        assert run(capsys, "register", "--image", image)[0] == 0
    assert [command["image"] for command in known(manager, capsys)] == ["me/x:3", "me/x:4"]


def test_a_faulty_document_is_never_posted(
    manager: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text(json.dumps({**OWN, "type": "podman"}))
    code, _, err = run(capsys, "register", str(tmp_path / "bad.json"))
    assert code == 1
    assert "type" in err
    assert not known(manager, capsys)
    assert not manager.requests


def test_without_the_role(site: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "register")
    assert code == 6
    assert "needs the Container Manager role" in err


def test_without_the_plugin(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    manager.settings.container_service = False
    code, _, err = run(capsys, "register")
    assert code == 1
    assert "has no container service" in err


def test_a_project_that_is_not_there(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "register", "--enable-project", "NOWHERE")
    assert code == 6
    assert "project NOWHERE does not exist" in err
    assert not known(manager, capsys)


def test_a_project_is_enabled_by_its_id(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The service keeps any name it is given, and would never find an alias again."""
    code, _, _ = run(capsys, "register", "--enable-project", "demo-alias")
    assert code == 0
    assert {project for project, _ in manager.containers.project_enabled} == {"DEMO"}


def test_switched_off_for_the_site(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "register")[0] == 0
    for number in manager.containers.wrapper_ids().values():
        manager.containers.site_enabled[number] = False
    assert "switched off for the site" in run(capsys, "register")[1]
    code, _, err = run(capsys, "register", "--enable-project", "DEMO")
    assert code == 1
    assert "--enable-site" in err
    assert run(capsys, "register", "--enable-site", "--enable-project", "DEMO")[0] == 0


def test_a_stray_word_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "show", "--imaeg", "x:1")[0] == 2
    assert run(capsys, "check", "a", "b")[0] == 2
