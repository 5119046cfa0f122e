"""The command document: ours or a file's, the image in it, and the image labels that follow from it."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from xnat_ingest.core import UsageError
from xnat_ingest.core.json_documents import read_json, read_text

Command = dict[str, Any]
# What the container service takes for a tag. The port of a registry is not one.
_TAGGED = re.compile(r".+:[A-Za-z0-9_.-]+")


def load_command(path: str = "", image: str = "") -> Command:
    """The document in a file, or ours. image: NAME:TAG to put into it. Raises UsageError."""
    what = f"command file {path}" if path else "the command"
    text = read_text(path, "command file", pipes=True) if path else _own()
    command = read_json(text, what)
    if not isinstance(command, dict):
        raise UsageError(f"{what} is not a JSON object; the container service takes one command at a time")
    if image:
        if not _TAGGED.fullmatch(image) or re.search(r"\s", image):
            raise UsageError(f"--image {image!r} must be NAME:TAG, since the container service keeps a command by it")
        command["image"] = image
    return command


def _own() -> str:
    return resources.files("xnat_ingest").joinpath("command.json").read_text("utf-8")


def shown_command(command: Command) -> str:
    return json.dumps(command, indent=2, ensure_ascii=False)


def labels(command: Command) -> dict[str, str]:
    """The labels of an image that holds the command, all from the command itself.

    `org.nrg.commands` is a list, also for one command. The container service reads it when it pulls the image.
    """
    return {
        "org.opencontainers.image.title": str(command["name"]),
        "org.opencontainers.image.description": str(command["description"]),
        "org.opencontainers.image.version": str(command["version"]),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.ref.name": str(command["image"]),
        "org.nrg.commands": json.dumps([command], separators=(",", ":")),
    }
