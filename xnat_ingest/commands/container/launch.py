"""What the container service calls: one launch, from the values of its form to a report stored on the server.

Nothing in a launch can be trusted. A REST caller can bypass the form. The service splits the command line into words.
An empty field arrives as "" or as its literal #key#. A run may be started twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from xnat_ingest.commands.container.form import CONFIGS, LaunchInputs
from xnat_ingest.commands.container.target import Target, find_target, parent_of
from xnat_ingest.commands.container.trust import check_environment, check_profile
from xnat_ingest.core import IngestError, Refused, ServerSaid, Unreachable, UsageError, printable
from xnat_ingest.planning.labels import require_legal
from xnat_ingest.settings.layers import resolve
from xnat_ingest.settings.options import Settings
from xnat_ingest.xnat.client import XnatClient


def log_in(rest: XnatClient) -> None:
    """Raises Unreachable and Refused with advice for an administrator, since the user of the page cannot mend it."""
    try:
        rest.login()
    except Unreachable as error:
        raise Unreachable(
            f"{error}. XNAT gave the container this address (XNAT_HOST); an administrator can set another one that the "
            "container's network reaches: processingUrl in the site's settings",
            maybe_done=False,
        ) from error
    except Refused as error:
        raise Refused(
            f"{error}. The login that XNAT gives to a container lives two days from the launch, waiting included: "
            "launch again; what is on the server already is not sent again"
        ) from error


def target_of(rest: XnatClient, form: LaunchInputs) -> Target:
    """Where the sessions go. A launch on a resource names its parent, or has it in its own address."""
    form.check_addresses()
    address = form.parent_uri or parent_of(form.source_uri)
    if not address:
        raise UsageError("nothing says where this was launched from: give --parent-uri /archive/projects/PROJECT")
    return find_target(rest, address)


def settings_of(rest: XnatClient, form: LaunchInputs, target: Target, environ: Mapping[str, str]) -> Settings:
    """The settings of an upload. Raises UsageError."""
    form.check()
    check_environment(environ, form.input)
    check_profile(form.deidentify, environ)
    given: dict[str, Any] = {"project": target.project, "existing": form.existing, **_labels(form, target)}
    if form.is_dry:
        given["dry_run"] = "true"
    if form.deidentify != "auto":
        given["deidentify"] = form.deidentify
    if form.exclude:
        given["exclude"] = [form.exclude]
    if form.config:
        given["config"] = form.config
    if destination := _destination(form, target):
        given["destination"] = destination
    return resolve("upload", given, environ, _reader(rest, target.project), shared=True)


def _labels(form: LaunchInputs, target: Target) -> dict[str, str]:
    """-S, -E, the layout and the templates, from the object launched from and from the form."""
    given = {"subject_label": form.subject_label, "session_label": form.session_label}
    given = {name: text for name, text in given.items() if text}
    if form.layout == "auto" and target.kind == "session":
        if given:
            raise UsageError(
                f"launched from a session, everything goes into session {target.session}: leave the label fields "
                "empty, or choose a folder layout"
            )
        return {"subject": target.subject, "experiment": target.session}
    if form.subject_label and target.subject:
        raise UsageError(
            f"launched from subject {target.subject}, everything goes into it: leave the field for the subject's label "
            "empty, or launch from the project"
        )
    if form.layout == "subject/session" and target.subject:
        raise UsageError(
            f"launched from subject {target.subject}, what the folders are called cannot make other subjects: choose "
            "another folder layout, or launch from the project"
        )
    layout = "session" if form.layout == "auto" and target.kind == "subject" else form.layout
    if layout != "auto":
        given["layout"] = layout
    if layout == "session" and target.subject:
        given["subject"] = target.subject
        given["subject_label"] = "{subject}"  # a config file must not send them to another one
    if layout == "headers" and target.subject:  # files at a subject belong to the subject, whatever their headers say
        require_legal(target.subject, "subject")  # another text would be repaired, or be a template
        given["subject_label"] = target.subject
    return given


def _destination(form: LaunchInputs, target: Target) -> str:
    """ "" where the config file decides, or else the program's default."""
    if target.kind != "session":
        return "" if form.destination == "auto" else form.destination
    if form.destination == "archive" and form.layout == "auto":
        # The launch itself is an open workflow on the session. The archiver refuses a session with an open workflow.
        raise UsageError(
            f"XNAT does not archive into session {target.session} while a command launched from it runs: choose the "
            "destination prearchive and archive it from there, or launch from the project"
        )
    return "prearchive" if form.destination == "auto" else form.destination


def _reader(rest: XnatClient, project: str) -> Callable[[str], str]:
    def read(name: str) -> str:
        # Anything else in an address could name another resource, or request something else of it.
        if ".." in PurePosixPath(name).parts or set(name) & set("?#%\\;") or not name.isprintable():
            raise UsageError(f"configuration file {printable(name)!r} must be a plain file name")
        where = f"/data/projects/{project}/resources/{CONFIGS}/files/{name.strip('/')}"
        try:
            return rest.get(where).text.removeprefix("\ufeff")
        except ServerSaid as error:
            if error.status != 404:
                raise
            raise UsageError(
                f"project {project} has no file {printable(name)} in its resource {CONFIGS}; upload it there, or leave "
                "the field empty"
            ) from error

    return read


def root_of(form: LaunchInputs) -> str:
    """The folder to upload. Raises IngestError when the wrong folder is mounted, UsageError for a wrong sub-path."""
    mount = Path(form.input)
    try:
        entries = sorted(os.listdir(mount))  # noqa: PTH208 - only names are needed
    except FileNotFoundError as error:
        raise IngestError(f"{form.input} does not exist: the resource was not mounted") from error
    except OSError as error:
        raise IngestError(
            f"{form.input} cannot be read ({error.strerror}): the container's user must be root or the one that Tomcat "
            "runs as (the container user in the settings of the compute backend)"
        ) from error
    if form.source_uri and not entries:
        raise IngestError(
            f"{form.input} is empty, though {printable(form.source_uri)} was chosen: the docker host mounted another "
            "folder than XNAT meant. An administrator must set the path translation (XNAT path prefix and compute "
            "path prefix) in the container service's settings of the compute backend"
        )
    if not form.sub_path:
        return form.input
    folder = os.path.realpath(mount / form.sub_path.strip("/"))
    if ".." in PurePosixPath(form.sub_path).parts or not Path(folder).is_relative_to(os.path.realpath(mount)):
        raise UsageError(f"folder {printable(form.sub_path)!r} leads out of the resource")
    if not os.path.isdir(folder):  # noqa: PTH112 - also False for a name that is too long and for circular links
        there = ", ".join(printable(name) for name in entries[:10])
        raise UsageError(f"the resource has no folder {printable(form.sub_path)!r}; at its top there are: {there}")
    return folder
