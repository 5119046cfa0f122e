"""`xnat-ingest command`: shows, checks, registers, lists, removes and runs the container-service command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from xnat_ingest import report
from xnat_ingest.cli.output import warn
from xnat_ingest.cli.signals import catch_signals, output_gone
from xnat_ingest.commands.container import document, register
from xnat_ingest.commands.container.form import LaunchInputs
from xnat_ingest.commands.container.lint.check import check
from xnat_ingest.commands.container.run import ContainerLaunch
from xnat_ingest.core import Exit, IngestError, printable
from xnat_ingest.core.stop import Stop
from xnat_ingest.settings.layers import credentials, resolve, unverified_server
from xnat_ingest.xnat.client import XnatClient, client_of
from xnat_ingest.xnat.retry_policy import RetryPolicy


def command(given: dict[str, Any], stray: Sequence[str], environ: Mapping[str, str]) -> int:
    action = given.pop("action")
    if action == "run":
        return _run(given, stray, environ)
    found = document.load_command(given.get("file", ""), given.get("image", ""))
    if action == "show":
        _show(found, labels=given["labels"])
    elif action == "check":
        _refuse_faults(found)
        print(f"{found['name']} {found.get('version', '')}: no faults found; the container service should accept it")
    else:
        if action == "register":
            _refuse_faults(found)
        _at_server(action, found, given, environ)
    return int(Exit.OK)


def _show(found: dict[str, Any], *, labels: bool) -> None:
    if labels:
        for name, value in document.labels(found).items():
            print(f"{name}={value}")
    else:
        print(document.shown_command(found))


def _refuse_faults(found: dict[str, Any]) -> None:
    if faults := check(found):
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)
        raise IngestError(f"the command document has {len(faults)} faults; see above")


def _at_server(action: str, found: dict[str, Any], given: dict[str, Any], environ: Mapping[str, str]) -> None:
    settings = resolve("register", given, environ)
    login = credentials(settings, environ)
    warn(unverified_server(settings, login.server))
    retry_policy = RetryPolicy(settings.retry_budget, say=warn)
    rest = client_of(settings, login, retry_policy)
    with closing(rest):
        rest.login()
        for line in _lines(action, rest, found, given):
            print(printable(line))


def _lines(action: str, rest: XnatClient, found: dict[str, Any], given: dict[str, Any]) -> Iterator[str]:
    if action == "register":
        site, projects = given["enable_site"], given["enable_project"]
        return register.register(rest, found, site=site, projects=projects, beside=given["beside"])
    if action == "list":
        return register.list_commands(rest, found, given["in_project"])
    if action == "disable":
        return register.disable(rest, found, given["number"], given["in_project"])
    return register.remove(rest, found, given["number"], sure=given["yes"])


def _run(given: dict[str, Any], stray: Sequence[str], environ: Mapping[str, str]) -> int:
    reporter = report.make_brief_reporter()
    stop = Stop()
    launched = ContainerLaunch(LaunchInputs.read(given, stray), environ, reporter.emit, stop)
    catch_signals(stop)
    result, note = launched.execute()
    try:
        reporter.end(result, "", note)
        stop.told = lambda: result.exit_code
    except OSError as error:
        return max(result.exit_code, output_gone(error))
    return result.exit_code
