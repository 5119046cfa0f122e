"""What a release is made with: the SBOM holds what the lock file holds, and the site has every page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.make_sbom import OURS, document
from tests.make_site import STAGE
from tests.make_site import main as make_site
from xnat_ingest.core.about import __version__

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements.txt").read_text("utf-8")


def test_the_sbom_names_each_locked_package_with_its_hashes_and_licence() -> None:
    """A component that is not installed where the SBOM is made has no licence: only those for an older Python."""
    found = document()["components"]
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))
    assert {one["name"]: one["version"] for one in found} == locked
    digests = [digest["content"] for one in found for digest in one["externalReferences"][0]["hashes"]]
    assert sorted(digests) == sorted(re.findall(r"sha256:([0-9a-f]{64})", LOCK))
    assert all(one.get("licenses") for one in found if one.get("scope") != "optional")


def test_the_sbom_says_who_needs_whom() -> None:
    needs = {one["ref"]: one["dependsOn"] for one in document()["dependencies"]}
    ours = needs[f"pkg:pypi/{OURS}@{__version__}"]
    assert [re.split("[/@]", one)[1] for one in ours] == ["jsonschema", "pydicom", "pynetdicom", "urllib3"]
    assert all(one in needs for whole in needs.values() for one in whole)


def test_equal_sources_make_an_equal_sbom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("BASE_IMAGE", "python:3.13-slim")
    found = document()
    assert found == document()
    assert found["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    monkeypatch.setenv("BASE_IMAGE", "python:3.14-slim")
    assert document()["serialNumber"] != found["serialNumber"]


def test_the_site_has_every_page_in_its_menu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.make_site.STAGE", tmp_path / "pages")
    make_site()
    pages = {path.name for path in (tmp_path / "pages").glob("*.md")}
    menu = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert menu == pages | {"decisions/README.md"}
    assert STAGE.parts[-2:] == ("build", "pages")


def test_links_of_the_readme_hold_on_the_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`mkdocs build --strict` looks at the anchors, too (`make docs`)."""
    monkeypatch.setattr("tests.make_site.STAGE", tmp_path / "pages")
    make_site()
    for page in (tmp_path / "pages").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_dockerfile_alone_makes_a_labelled_image() -> None:
    """As the builder reads it: between single quotes every character stands for itself."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    found = dict(re.findall(r"^LABEL ([\w.]+)='([^'\n]*)'$", text, re.MULTILINE))
    assert json.loads(found["org.nrg.commands"]) == [json.loads((ROOT / "command.json").read_text("utf-8"))]
    assert len(found) == len(re.findall("^LABEL .*='", text, re.MULTILINE)) == 6
    assert found["org.opencontainers.image.version"] == __version__
    assert found["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert text.count("\nFROM ") == 3
    assert text.index("ENTRYPOINT") < text.index("\nFROM unlabelled\n") < text.index("LABEL ")
