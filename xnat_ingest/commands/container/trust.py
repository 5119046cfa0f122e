"""Who may choose what in a launch from XNAT.

XNAT itself says what the command was launched from, and gives the address and the login. The person at the form chooses
how the images are read, named and stored. An administrator sets the container's environment. People who may write the
mounted resource, or the project's configuration files, cannot choose where images and logins go, nor how they are
protected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from xnat_ingest.core import UsageError, printable
from xnat_ingest.settings.layers import from_environment
from xnat_ingest.settings.options import TABLE, env_name

# Settings that follow from the object launched from.
PLACES = ("project", "subject", "experiment", "plan", "labels")
# Settings that XNAT gives to each launch by its own variables.
LOGIN = ("server", "user", "password_file")
_HOST = "XNAT_HOST"
# Other programs' variables that name files we read. HOME: of ~/.netrc.
_FILES = ("NETRC", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "HOME")


def check_environment(environ: Mapping[str, str], mount: str) -> None:
    """mount: the folder of the mounted resource. Raises UsageError, which names the variable."""
    for name in PLACES:
        if from_environment(environ, env_name(name)):
            raise UsageError(
                f"{env_name(name)} must not be set for a launch: where the sessions go follows from what it was "
                "launched from. Take it out of the container's environment"
            )
    if "project" in from_environment(environ, variable := env_name("layout")):
        raise UsageError(
            f"{variable} must not name projects in a launch: all sessions go into the project that it was launched "
            "from. Set it to subject/session, session or headers, or take it out of the container's environment"
        )
    for name in LOGIN:
        if from_environment(environ, env_name(name)) and from_environment(environ, _HOST):
            raise UsageError(
                f"{env_name(name)} must not be set for a launch: XNAT gives its own address and a login for it "
                "(XNAT_HOST, XNAT_USER, XNAT_PASS). Take it out of the container's environment"
            )
    for variable, path in _named_files(environ):
        if _is_below(path, mount):
            raise UsageError(
                f"{variable} names {printable(path)}, which is in the mounted resource: other people can write "
                "there. Mount the file from somewhere else"
            )


def check_profile(chosen: str, environ: Mapping[str, str]) -> None:
    """chosen: the form's profile of de-identification. Raises UsageError when an administrator has set another one."""
    variable = env_name("deidentify")
    if (wanted := from_environment(environ, variable)) and chosen not in ("auto", wanted):
        raise UsageError(
            f"deidentify {chosen} is not valid here: an administrator has set {printable(wanted)} for every launch "
            f"({variable}). Leave the field at auto"
        )


def _named_files(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables and the files that they name. A config is not one: it is found by its name in the project."""
    names = [name for name, row in TABLE.items() if row.metavar in ("FILE", "PROFILE") and name != "config"]
    for variable in (*map(env_name, names), *_FILES):
        if path := from_environment(environ, variable):
            yield variable, path


def _is_below(path: str, mount: str) -> bool:
    """Whether a path leads into the folder, also by links."""
    where, folder = os.path.realpath(path), os.path.realpath(mount)
    return Path(where).is_relative_to(folder)
