"""Where the container's directories lie on the host."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.service.command import CommandInput, Mount, WrapperInput
from tests.service.errors import Ambiguous, NotMountable
from tests.service.inputs import Inputs, Node
from tests.service.model import Site
from tests.service.splitter import is_blank
from tests.service.templates import fill, for_command_line

MOUNTABLE = ("Project", "ProjectAsset", "SubjectAssessor", "Session", "Scan", "Assessor", "Resource", "File")


@dataclass(frozen=True)
class Mounted:
    """One bind: ``host`` shows as ``container``."""

    name: str
    container: str
    host: Path
    writable: bool


def mounted(inputs: Inputs, mount: Mount) -> Mounted:
    """The archive itself when it is only read; a copy when it may be written; a new directory when nobody fills it."""
    name, path = str(mount.name), fill(str(mount.path), inputs.known, inputs.order)
    sources = [node for root in inputs.roots for node in _sources(root, name)]
    if not sources:
        # Writable whatever the document says.
        return Mounted(name, path, build_directory(inputs.site), writable=True)
    given = sources[-1].input
    if isinstance(given, WrapperInput) and not is_blank(given.via_setup_command):
        raise NotImplementedError("this model runs no setup commands")
    source = _directory(sources[-1])
    if not mount.writable:
        return Mounted(name, path, source, writable=False)
    copy = build_directory(inputs.site)
    if source.is_file():
        copy = Path(shutil.copy2(source, copy / source.name))
    else:
        shutil.copytree(source, copy, dirs_exist_ok=True)
    return Mounted(name, path, copy, writable=True)


def build_directory(site: Site) -> Path:
    """Made for one launch, and never deleted."""
    made = site.build / str(uuid.uuid4())
    made.mkdir(mode=0o755)
    return made


def uploads(inputs: Inputs, mounts: list[Mounted]) -> None:
    """Copy what the form uploaded into the first writable mount, and name the copy in the line; only there."""
    target = next((mount for mount in mounts if mount.writable), None)
    if target is None or inputs.site.cache is None:
        return
    for node in inputs.roots:
        uri = node.values[0].text if node.values else None
        if not isinstance(node.input, CommandInput) or node.input.stored_type != "file" or uri is None:
            continue
        folder = uri.replace("/user/cache/resources/", "").split("/files/")[0]
        name = uri.rsplit("/files/", 1)[-1]
        upload = inputs.site.cache / folder / name
        # A copy that fails leaves the URI in the line; the program may fetch it.
        if upload.is_file():
            (target.host / folder).mkdir(exist_ok=True)
            shutil.copy2(upload, target.host / folder / name)
            path = f"{target.container.rstrip('/')}/{folder}/{name}"
            inputs.line[node.input.key] = for_command_line(node.input, path)


def _sources(node: Node, mount: str) -> Iterator[Node]:
    """The inputs that give files to a mount; below an input with several values none is looked for."""
    if isinstance(node.input, WrapperInput) and node.input.provides_files_for_command_mount == mount:
        yield node
    if len(node.values) == 1:
        for child in node.values[0].nodes:
            yield from _sources(child, mount)


def _directory(node: Node) -> Path:
    given = node.input
    if given.stored_type not in MOUNTABLE:
        raise NotMountable(f"{given.name} is a {given.stored_type}")
    if len(node.values) > 1:
        raise Ambiguous(f"{given.name} has several values and gives files to a mount")
    # An optional input that finds nothing ends here, in an index error of the service.
    found = node.values[0].found if node.values else None
    if found is None:
        raise NotMountable(f"{given.name} has no object")
    if found.directory is None:
        raise NotMountable(f"{given.name}: {found.uri} has no directory")
    return found.directory
