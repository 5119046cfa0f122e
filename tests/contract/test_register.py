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
    [("[", "is not JSON"), ("[]", "is not a JSON object"), ('{"name": 1, "name": 2}', "has a duplicate key 'name'")],
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


def numbers(manager: StandIn) -> list[int]:
    return sorted(manager.containers.commands)


def test_another_image_replaces_the_older_registration(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """One button, which stays enabled where it was."""
    assert run(capsys, "register", "--image", "me/x:3", "--enable-project", "DEMO")[0] == 0
    (number,) = numbers(manager)
    enabled = dict(manager.containers.project_enabled)
    code, out, err = run(capsys, "register", "--image", "me/x:4")
    assert code == 0, err
    assert out.splitlines() == [
        f"updated command {number}: xnat-ingest {__version__}, image me/x:4",
        f"it replaces xnat-ingest {__version__}, image me/x:3; it stays enabled where that was",
    ]
    assert [command["image"] for command in known(manager, capsys)] == ["me/x:4"]
    assert manager.containers.project_enabled == enabled == dict.fromkeys(enabled, True)


def test_another_version_replaces_it_too(manager: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({**OWN, "version": "0.0.9", "image": "me/x:0.0.9"}))
    assert run(capsys, "register", str(tmp_path / "old.json"))[0] == 0
    assert "it replaces xnat-ingest 0.0.9, image me/x:0.0.9" in run(capsys, "register")[1]
    assert [command["version"] for command in known(manager, capsys)] == [__version__]


def test_an_older_one_may_stay_beside(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "register", "--image", "me/x:3")[0] == 0
    (old,) = numbers(manager)
    for _ in range(2):  # the same again is an update of it, and still names the other one
        code, out, _ = run(capsys, "register", "--image", "me/x:4", "--beside")
        assert code == 0
        assert f"also there: command {old}: xnat-ingest {__version__}, image me/x:3" in out
        assert f"xnat-ingest command remove {old} --yes" in out
    assert [command["image"] for command in known(manager, capsys)] == ["me/x:3", "me/x:4"]


def test_of_several_older_ones_none_is_replaced(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    for image in ("me/x:3", "me/x:4"):
        run(capsys, "register", "--image", image, "--beside")
    code, out, _ = run(capsys, "register", "--image", "me/x:5")
    assert code == 0
    assert out.startswith("registered command ")
    assert out.count("also there: ") == 2
    assert [command["image"] for command in known(manager, capsys)] == ["me/x:3", "me/x:4", "me/x:5"]


def other(manager: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> int:
    """Somebody else's command of our name: none of its wrappers is ours."""
    xnat = [{**wrapper, "name": f"their-{wrapper['name']}"} for wrapper in OWN["xnat"]]
    (tmp_path / "other.json").write_text(json.dumps({**OWN, "image": "them/y:1", "xnat": xnat}))
    assert run(capsys, "register", str(tmp_path / "other.json"))[0] == 0
    return numbers(manager)[-1]


@pytest.mark.wide
def test_a_command_of_others_is_left_alone(
    manager: StandIn, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    number = other(manager, capsys, tmp_path)
    assert "registered command" in run(capsys, "register", "--image", "me/x:3")[1]
    assert len(known(manager, capsys)) == 2
    assert "them/y:1" not in run(capsys, "list")[1]
    for words in (("disable", str(number)), ("remove", str(number), "--yes")):
        code, out, err = run(capsys, *words)
        assert (code, out) == (1, "")
        assert "was left alone" in err
    assert len(known(manager, capsys)) == 2
    assert all(manager.containers.enabled_for_site(one) for one in manager.containers.wrapper_ids().values())


@pytest.mark.wide
def test_list_disable_remove(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no command xnat-ingest" in run(capsys, "list")[1]
    for image in ("me/x:3", "me/x:4"):
        run(capsys, "register", "--image", image, "--enable-project", "DEMO", "--beside")
    old, new = numbers(manager)
    lines = [
        f"command {old}: xnat-ingest {__version__}, image me/x:3",
        "  the site: enabled",
        "  project DEMO: enabled",
        f"command {new}: xnat-ingest {__version__}, image me/x:4",
        "  the site: enabled",
        "  project DEMO: enabled",
    ]
    assert run(capsys, "list", "--in-project", "demo-alias")[1].splitlines() == lines
    code, out, _ = run(capsys, "disable", str(old), "--in-project", "DEMO")
    assert (code, out) == (0, f"disabled for project DEMO: {lines[0]}\n")
    lines[2] = "  project DEMO: disabled"
    assert run(capsys, "list", "--in-project", "DEMO")[1].splitlines() == lines
    code, out, _ = run(capsys, "disable", str(new))
    assert (code, out) == (0, f"disabled for the site: {lines[3]}\n")
    assert run(capsys, "list")[1].splitlines() == [*lines[:2], lines[3], "  the site: disabled"]
    code, out, err = run(capsys, "remove", str(old))
    assert (code, out) == (2, f"would remove {lines[0]}\n")
    assert "nothing was removed; give --yes" in err
    assert numbers(manager) == [old, new]
    code, out, _ = run(capsys, "remove", str(old), "--yes")
    assert (code, out) == (0, f"removed {lines[0]}\n")
    assert numbers(manager) == [new]


def test_one_wrapper_that_is_off_is_named(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "register")
    manager.containers.site_enabled[manager.containers.wrapper_ids()[WRAPPERS[1]]] = False
    rest = ", ".join(name for name in WRAPPERS if name != WRAPPERS[1])
    assert f"  the site: enabled: {rest}; disabled: {WRAPPERS[1]}\n" in run(capsys, "list")[1]


def test_nothing_is_removed_when_one_of_the_numbers_is_wrong(
    manager: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "register")
    (number,) = numbers(manager)
    code, out, err = run(capsys, "remove", str(number), "999", "--yes")
    assert (code, out) == (1, "")
    assert "there is no command 999" in err
    assert numbers(manager) == [number]
    assert run(capsys, "remove", "seven")[0] == 2
    assert run(capsys, "remove", "--yes")[0] == 2


def test_a_removal_that_does_nothing_is_noticed(manager: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The service answers 204 whether it had the command or not."""
    run(capsys, "register")
    (number,) = numbers(manager)
    kept = dict(manager.containers.commands)

    class Keeping(dict[int, Any]):
        def pop(self, *_: object) -> None:
            """Takes nothing out."""

    manager.containers.commands = Keeping(kept)
    code, out, err = run(capsys, "remove", str(number), "--yes")
    assert (code, out) == (1, "")
    assert "still lists" in err


@pytest.mark.parametrize("words", [("disable", "1"), ("remove", "1", "--yes")])
def test_without_the_role_nothing_changes(
    site: StandIn, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    site.user("up").container_manager = True
    run(capsys, "register")
    (number,) = numbers(site)
    site.user("up").container_manager = False
    code, out, err = run(capsys, words[0], str(number), *words[2:])
    assert (code, out) == (6, "")
    assert "needs the Container Manager role" in err
    assert numbers(site) == [number]


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


@pytest.mark.wide
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
