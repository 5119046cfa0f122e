"""The arguments of each command. What the commands do is in the modules of their names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from xnat_ingest.commands.container.form import FIELDS
from xnat_ingest.settings.options import add_options, seconds

_PREARCHIVE = {
    "list": "list the sessions that you can see, or a project's; stuck ones with the server's last log line",
    "archive": "archive sessions, and check that all their files arrived",
    "delete": "delete sessions with their files; without --yes only list them",
    "rebuild": "build sessions again, so that they can be archived",
    "move": "move sessions to another project",
    "wait": "wait until the server has finished with sessions and no client sends into them",
}
_RESOURCE = {
    "put": "store files or folders in a resource, and check that they arrived; a second run sends what is missing",
    "list": "list the resources, or with --label the files of one",
    "delete": "delete a resource, or some of its files; without --yes only list them",
}
NEW_KEY = "new-key"


def _prearchive(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(command))
    for name, text in _PREARCHIVE.items():
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.add_argument("row", nargs="*", metavar="ROW", help="LABEL, or TIMESTAMP and FOLDER, as shown by list")
        action.add_argument("--all", action="store_true", help="all sessions of -P or --status")
        action.add_argument(
            "--status", action="append", default=[], metavar="STATUS", help="only sessions with this status; repeatable"
        )
        if name == "list":
            action.add_argument("--json", action="store_true", dest="as_json", help="JSON with everything from XNAT")
        else:
            action.add_argument(
                "--limit",
                type=seconds,
                default=900.0,
                metavar="SECONDS",
                help="how long to wait for a session; default 900",
            )
        if name == "archive":
            action.add_argument("-S", "--subject", default="", metavar="SUBJECT", help="archive under this subject")
            action.add_argument("--label", default="", metavar="LABEL", help="archive under this session label")
        if name == "delete":
            action.add_argument("--yes", action="store_true", help="really delete them")
        if name == "move":
            action.add_argument("--to-project", required=True, metavar="PROJECT", help="the new project")
        add_options(action, "prearchive")


def _resource(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(command))
    for name, text in _RESOURCE.items():
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.add_argument("--label", default="", metavar="LABEL", help="the resource", required=name != "list")
        action.add_argument("--scan", default="", metavar="ID", help="use the resources of this scan of the session")
        if name == "put":
            _add_put_words(action)
        if name == "list":
            action.add_argument("--json", action="store_true", dest="as_json", help="JSON instead of a table")
        if name == "delete":
            action.add_argument("files", nargs="*", metavar="NAME", help="a file, or a folder with a slash at its end")
            action.add_argument("--yes", action="store_true", help="really delete them")
            action.add_argument("--force", action="store_true", help="also delete the DICOM images of a scan")
            action.add_argument(
                "--keep-files",
                action="store_true",
                help="only remove files from the listing, and keep them on the server disk",
            )
        add_options(action, "resource")


def _add_put_words(action: argparse.ArgumentParser) -> None:
    action.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder whose content is stored")
    action.add_argument("--overwrite", action="store_true", help="replace files that exist with different content")
    action.add_argument(
        "--archive-name", default="", metavar="NAME.tar", help="store everything as one tar with this name"
    )
    action.add_argument("--format", default="", metavar="WORD", help="the files' format, for XNAT")
    action.add_argument("--content", default="", metavar="WORD", help="the files' content, for XNAT")
    action.add_argument("--tags", default="", metavar="WORD,...", help="the files' tags, for XNAT")
    action.add_argument("--force", action="store_true", help="store DICOM files as plain files")
    action.add_argument("--json", action="store_true", dest="as_json", help="the result as JSON")


def _nifti(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", metavar="ROOT", help="a folder with SUBJECT/SESSION/SCAN/ below it, or a BIDS tree")
    group = command.add_argument_group("what is created")
    group.add_argument(
        "--modality", default="", metavar="MR", help="modality of all scans: MR, PT, CT or NM; overrides the sidecars"
    )
    group.add_argument(
        "--session-type", default="", metavar="TYPE", help="XNAT type for all sessions, such as xnat:petmrSessionData"
    )
    group.add_argument("--quality", default="usable", metavar="WORD", help="quality of new scans; default usable")
    group.add_argument(
        "--one-resource", action="store_true", help="store sidecars in the resource NIFTI with the images, not in BIDS"
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that exist with different content")
    add_options(command, "nifti")


def _identity(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", metavar="ROOT", help=f"folder or archive of the tree; or {NEW_KEY}, to make a key")
    command.add_argument("file", metavar="FILE", nargs="?", default="", help=f"where {NEW_KEY} writes the key")
    command.add_argument("--json", action="store_true", help="JSON on stdout")
    command.add_argument("--show-values", action="store_true", help="also show the values; only on a terminal")
    command.add_argument(
        "--layout",
        default="subject/session",
        choices=("subject/session", "project/subject/session", "session", "headers"),
        help="what the folders below ROOT are",
    )


def _report(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "write a saved JSON report as a page for people, or as JUnit XML"
    show = actions.add_parser("show", help=text, description=text, allow_abbrev=False)
    show.add_argument("file", metavar="REPORT", help="a file written by --report")
    show.add_argument("--html", metavar="FILE", default="", help="write the page to this file")
    show.add_argument("--junit", metavar="FILE", default="", help="write the JUnit XML to this file")
    text = "merge the reports of all shards of a run into one"
    merge = actions.add_parser("merge", help=text, description=text, allow_abbrev=False)
    merge.add_argument("files", metavar="REPORT", nargs="+", help="the files written by --report, one per shard")
    merge.add_argument("--report", metavar="FILE", required=True, help="write the merged report to this file")
    text = "print the JSON schema of the report, or of the lines of --log-format json"
    schema = actions.add_parser("schema", help=text, description=text, allow_abbrev=False)
    schema.add_argument("of", nargs="?", choices=("report", "events"), default="report", help="default report")


def _command(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(command))

    def add(name: str, text: str, *, file: bool) -> Any:
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        if file:
            action.add_argument(
                "file", nargs="?", default="", metavar="FILE", help="a command document; default: our own"
            )
        return action

    image = {"metavar": "NAME:TAG", "default": "", "help": "the image for the command, as it was pushed"}
    show = add("show", "print the command document", file=False)
    show.add_argument("--image", **image)
    show.add_argument("--labels", action="store_true", help="print the image labels instead")
    add("check", "find what the container service would refuse or misunderstand", file=True)
    register = add("register", "add the command to a server's container service, or update it there", file=True)
    register.add_argument("--image", **image)
    register.add_argument("--enable-site", action="store_true", help="enable it for the site")
    register.add_argument(
        "--enable-project", action="append", default=[], metavar="PROJECT", help="enable it in a project; repeatable"
    )
    register.add_argument(
        "--beside", action="store_true", help="keep an older registration (another image or version) unchanged"
    )
    add_options(register, "register")
    listed = add("list", "the command's registrations on a server, and where each is enabled", file=False)
    disable = add("disable", "disable a registration: for the site, or only in the named projects", file=False)
    for action in (listed, disable):
        action.add_argument(
            "--in-project", action="append", default=[], metavar="PROJECT", help="in this project; repeatable"
        )
    remove = add("remove", "remove registrations from a server; without --yes only list them", file=False)
    remove.add_argument("--yes", action="store_true", help="really remove them")
    for action in (disable, remove):
        action.add_argument("number", nargs="+", type=int, metavar="NUMBER", help="its number in `command list`")
    for action in (listed, disable, remove):
        add_options(action, "register")
    run = add("run", "for XNAT: run a launch; empty values count as not given", file=False)
    for name in FIELDS:
        run.add_argument("--" + name.replace("_", "-"), dest=name, metavar="VALUE", action="append")


def _drop_in(command: argparse.ArgumentParser) -> None:
    for word in ("URL", "USER", "PASS", "PROJECT", "ROOTDIR"):
        command.add_argument(word)
    command.add_argument("--config", metavar="FILE", help='{"Exclude": [...]} or any config of this program')
    command.add_argument("--workdir", metavar="DIR", help="write the report into this folder")


def _presets(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", default="", metavar="NAME")


# The commands that do not work on a tree of DICOM, and how each adds its arguments.
ADD_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "command": _command,
    "identity": _identity,
    "nifti": _nifti,
    "presets": _presets,
    "prearchive": _prearchive,
    "report": _report,
    "resource": _resource,
    "dicomUpload": _drop_in,
}
