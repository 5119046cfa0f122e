"""The commands as Python functions (docs/api.md).

They print nothing and catch no signals. The exit code is in the result. Values that are not given come from the
environment, as on the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xnat_ingest.core import Emit, Event, Problem, Result, UsageError, nearest
from xnat_ingest.core.stop import Stop
from xnat_ingest.delivery.run import Run
from xnat_ingest.settings.config_file import check_rules
from xnat_ingest.settings.layers import (
    Credentials,
    credentials,
    empty_option,
    has_server,
    launch_of,
    resolve,
    told_empty,
    with_password,
)
from xnat_ingest.settings.options import TABLE, Settings

if TYPE_CHECKING:
    from xnat_ingest.commands.resources import PutOutcome

Option = str | int | float | bool | Path | Sequence[str | Mapping[str, Any]]


def _run(
    command: str, root: str | Path, settings: Settings, on_event: Emit, stop: Stop | None, login: Credentials | None
) -> Result:
    """Runs it. An error in the caller's on_event is noted in the result, and changes no verdict."""
    failures: list[Exception] = []

    def tell(event: Event) -> None:
        try:
            on_event(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, it says nothing about what is on the server
            failures.append(error)

    result = Run(command, str(root), settings, tell, stop or Stop()).execute(login)
    if not failures:
        return result
    text = f"on_event raised {type(failures[0]).__name__} ({len(failures)} times in all); the run went on"
    return replace(result, problems=(*result.problems, Problem("event-handler", text)))


def _silent(_event: Event) -> None:
    """Ignores events."""


def plan(
    root: str | Path,
    project: str = "",
    *,
    server: str = "",
    user: str = "",
    password: str = "",
    on_event: Emit = _silent,
    stop: Stop | None = None,
    **options: Option,
) -> Result:
    """Plans an upload of ROOT: what would be sent, and every conflict. Asks the server only with `online=True`.

    on_event: called with progress, from several threads.
    stop: set `stop.signum = signal.SIGTERM` from another thread to end the run, with its result.
    options: the long flags of `xnat-ingest plan` with `_`.

    Raises UsageError.
    """
    settings, login = _settled("plan", project, server, user, password, options)
    online = login if settings.online else None
    return _run("plan", root, settings, on_event, stop, online)


def upload(
    root: str | Path,
    project: str = "",
    *,
    server: str = "",
    user: str = "",
    password: str = "",
    on_event: Emit = _silent,
    stop: Stop | None = None,
    **options: Option,
) -> Result:
    """Plans, sends, commits, verifies. The result has each session's verdict, and the reason for each unproven
    instance.

    Takes the parameters of plan, and the flags of `xnat-ingest upload`. Raises UsageError. Other errors are in the
    result.
    """
    settings, login = _settled("upload", project, server, user, password, options)
    command = "plan" if settings.dry_run else "upload"
    return _run(command, root, settings, on_event, stop, login)


def verify(
    root: str | Path,
    project: str = "",
    *,
    server: str = "",
    user: str = "",
    password: str = "",
    on_event: Emit = _silent,
    stop: Stop | None = None,
    **options: Option,
) -> Result:
    """Compares ROOT with what the server has; sends nothing. Takes the parameters of plan. Raises UsageError."""
    settings, login = _settled("verify", project, server, user, password, options)
    return _run("verify", root, settings, on_event, stop, login)


def put_resource(
    paths: str | Path | Sequence[str | Path],
    label: str,
    project: str = "",
    *,
    subject: str = "",
    experiment: str = "",
    scan: str = "",
    overwrite: bool = False,
    force: bool = False,
    format: str = "",  # noqa: A002 - XNAT's own word
    content: str = "",
    tags: Sequence[str] = (),
    server: str = "",
    user: str = "",
    password: str = "",
    **options: Option,
) -> PutOutcome:
    """Stores files, or the files in folders, in a resource, and checks its listing for all of them.

    paths: files keep their names, files in folders keep their paths below the folder.
    experiment: a label, or without a project an accession id.
    force: store DICOM files, too.

    Raises UsageError, Refused without permission, and the last error when the server fails.
    """
    from xnat_ingest.commands.resources import files as resourcefiles
    from xnat_ingest.commands.resources import put as resources
    from xnat_ingest.commands.resources import target as resourceplaces
    from xnat_ingest.xnat.client import client_of
    from xnat_ingest.xnat.retry_policy import RetryPolicy

    place = resourceplaces.ResourceOwner(project, subject, experiment, scan)
    place.check()
    resourceplaces.check_label(label, new=True)
    listed = [paths] if isinstance(paths, str | Path) else paths
    found = resourcefiles.gather([str(path) for path in listed])
    if not force:
        resourceplaces.check_no_dicom(found, [str(path) for path in listed], place, instead="force=True")
    named = {"subject": subject, "experiment": experiment}
    given = {**options, **{name: text for name, text in named.items() if text}}
    settings, login = _settled("resource", project, server, user, password, given)
    assert login is not None  # noqa: S101 - only a DICOM receiver does without
    retry_policy = RetryPolicy(settings.retry_budget)
    rest = client_of(settings, login, retry_policy)
    with closing(rest), rest.kept_alive():
        sent = resources.send(
            rest,
            resourceplaces.find_owner(rest, place),
            label,
            found.files,
            overwrite=overwrite,
            retry_policy=retry_policy,
            format=format,
            content=content,
            tags=tags,
            check_stop=lambda: None,
        )
    sent.failed.update(found.refused)
    return sent


def as_report(result: Result) -> dict[str, Any]:
    """The result in the form of the report file (docs/design.md, section 2.3)."""
    from xnat_ingest.report import document

    return document(result)


def _settled(
    command: str, project: str, server: str, user: str, password: str, options: Mapping[str, Any]
) -> tuple[Settings, Credentials | None]:
    """Settings and login, from arguments or the environment. Raises UsageError."""
    known = [name for name, row in TABLE.items() if command in row.commands]
    for name in options:
        if name not in known:
            near = nearest(name, known)
            raise UsageError(f"{name} is not an option of {command}{f'; did you mean {near}?' if near else ''}")
    given = {name: _value(name, value) for name, value in options.items()}
    if name := empty_option(given, flags=True):
        raise told_empty(f"the argument {name}")
    given |= {name: text for name, text in (("project", project), ("server", server), ("user", user)) if text}
    environ: Mapping[str, str] = dict(os.environ)
    settings = resolve(command, given, environ)
    if password:
        settings, environ = with_password(settings, environ, password)
    blind = settings.transport == "cstore" and command == "upload" and not has_server(settings, environ)
    offline = command == "plan" and not settings.online
    if blind or offline:
        return settings, None
    return settings, credentials(settings, environ, http_is_warning=bool(launch_of(environ)))


def _value(name: str, value: Option) -> Any:
    """The value in the form that a flag would give: paths as text, sequences as lists, others like in a config file.

    Raises UsageError for a rule that a config file could not have.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return check_rules(name, value) if any(isinstance(one, Mapping) for one in value) else list(value)
