"""`xnat-ingest command`: the container-service command shown, checked, registered, listed, removed, and run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from xnat_ingest.cli.output import warn
from xnat_ingest.cli.signals import catch_signals, output_gone
from xnat_ingest.commands.container.form import FIELDS
from xnat_ingest.core.errors import Exit, IngestError
from xnat_ingest.core.text import printable
from xnat_ingest.settings.options import add_options

if TYPE_CHECKING:
    from xnat_ingest.xnat.client import XnatClient


def add_words(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(command))

    def add(name: str, text: str, *, file: bool) -> Any:
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        if file:
            action.add_argument("file", nargs="?", default="", metavar="FILE", help="a command document; ours if none")
        return action

    image = {"metavar": "NAME:TAG", "default": "", "help": "the image that the command is to run, as it was pushed"}
    show = add("show", "print the command document", file=False)
    show.add_argument("--image", **image)
    show.add_argument("--labels", action="store_true", help="print the labels of an image that holds it instead")
    add("check", "find what the container service would refuse, or take and get wrong", file=True)
    register = add("register", "put the command into a server's container service, or update it there", file=True)
    register.add_argument("--image", **image)
    register.add_argument("--enable-site", action="store_true", help="switch it on for the site")
    register.add_argument(
        "--enable-project", action="append", default=[], metavar="PROJECT", help="switch it on in a project; repeatable"
    )
    register.add_argument(
        "--beside", action="store_true", help="leave an older registration (another image or version) as it is"
    )
    add_options(register, "register")
    listed = add("list", "the command's registrations on a server, and where each is enabled", file=False)
    disable = add("disable", "switch a registration off: for the site, or only in the projects named", file=False)
    for action in (listed, disable):
        action.add_argument("--in-project", action="append", default=[], metavar="PROJECT", help="here; repeatable")
    remove = add("remove", "take registrations out of a server; without --yes only say which", file=False)
    remove.add_argument("--yes", action="store_true", help="remove what would be named without it")
    for action in (disable, remove):
        action.add_argument("number", nargs="+", type=int, metavar="NUMBER", help="as `command list` shows it")
    for action in (listed, disable, remove):
        add_options(action, "register")
    run = add("run", "what the command's line calls inside XNAT; values left empty are not given", file=False)
    for name in FIELDS:
        run.add_argument("--" + name.replace("_", "-"), dest=name, metavar="VALUE")


def command(given: dict[str, Any], stray: Sequence[str], environ: Mapping[str, str]) -> int:
    action = given.pop("action")
    if action == "run":
        return _run(given, stray, environ)
    from xnat_ingest.commands.container import document

    found = document.load_command(given.get("file", ""), given.get("image", ""))
    if action == "show":
        _show(found, labels=given["labels"])
    elif action == "check":
        _refuse_faults(found)
        print(f"{found['name']} {found.get('version', '')}: the container service can take it")
    else:
        if action == "register":
            _refuse_faults(found)
        _at_server(action, found, given, environ)
    return int(Exit.OK)


def _show(found: dict[str, Any], *, labels: bool) -> None:
    from xnat_ingest.commands.container import document

    if labels:
        for name, value in document.labels(found).items():
            print(f"{name}={value}")
    else:
        print(document.shown_command(found))


def _refuse_faults(found: dict[str, Any]) -> None:
    from xnat_ingest.commands.container.lint.check import check

    if faults := check(found):
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        raise IngestError(f"the command document has {len(faults)} faults, which stand above")


def _at_server(action: str, found: dict[str, Any], given: dict[str, Any], environ: Mapping[str, str]) -> None:
    from xnat_ingest.settings.layers import credentials, resolve, unverified_server
    from xnat_ingest.xnat.client import XnatClient
    from xnat_ingest.xnat.retry_policy import RetryPolicy

    settings = resolve("register", given, environ)
    login = credentials(settings, environ)
    warn(unverified_server(settings, login.server))
    retry_policy = RetryPolicy(settings.retry_budget, say=warn)
    rest = XnatClient(
        login,
        ca_bundle=settings.ca_bundle,
        insecure=settings.insecure,
        timeout=settings.timeout,
        retry_policy=retry_policy,
    )
    with closing(rest):
        rest.login()
        for line in _lines(action, rest, found, given):
            print(printable(line))


def _lines(action: str, rest: XnatClient, found: dict[str, Any], given: dict[str, Any]) -> Iterator[str]:
    from xnat_ingest.commands.container import register

    if action == "register":
        site, projects = given["enable_site"], given["enable_project"]
        return register.register(rest, found, site=site, projects=projects, beside=given["beside"])
    if action == "list":
        return register.list_commands(rest, found, given["in_project"])
    if action == "disable":
        return register.disable(rest, found, given["number"], given["in_project"])
    return register.remove(rest, found, given["number"], sure=given["yes"])


def _run(given: dict[str, Any], stray: Sequence[str], environ: Mapping[str, str]) -> int:
    from xnat_ingest import report
    from xnat_ingest.commands.container.form import LaunchInputs
    from xnat_ingest.commands.container.run import ContainerLaunch
    from xnat_ingest.core.stop import Stop

    reporter = report.make_brief_reporter()
    stop = Stop()
    launched = ContainerLaunch(LaunchInputs.read(given, stray), environ, reporter.emit, stop)
    catch_signals(stop)
    result, note = launched.execute()
    try:
        reporter.end(result, "", note)
    except OSError as error:
        return max(result.exit_code, output_gone(error))
    return result.exit_code
