"""Adds the command to an XNAT server's container service, switches its wrappers on and off, and removes it.

The service identifies a command by name, image and version, so another image would make a second button beside the
first. Therefore an older registration of ours is replaced. The service matches wrappers by name, so they stay enabled
where they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xnat_ingest.commands.container.document import Command
from xnat_ingest.commands.container.service import (
    Registered,
    ask,
    place,
    project_id,
    registered,
    switch,
    switched_off,
)
from xnat_ingest.core import IngestError, UsageError
from xnat_ingest.xnat.client import XnatClient


def register(
    rest: XnatClient, command: Command, *, site: bool, projects: Sequence[str], beside: bool = False
) -> Iterator[str]:
    """Registers the command, then enables its wrappers for the site and the projects: a line for each step.

    beside: an older registration stays as it is

    Raises Refused if the user does not have the role, IngestError for a server without the container service and for
    one that refuses the document.
    """
    ids = [project_id(rest, name) for name in projects]
    older = [one for one in registered(rest) if one.is_of(command) or one.is_same(command)]
    before = _to_replace(older, command, beside=beside)
    reply = ask(rest, "POST", f"/xapi/commands/{before.number}" if before else "/xapi/commands", command)
    if reply.status == 400:
        raise IngestError(f"the container service refuses the command: {' '.join(reply.text.split())[:500]}")
    kept = next((one for one in registered(rest) if one.is_same(command)), None)
    if kept is None:
        raise IngestError(f"the container service answered {reply.status}, but does not list the command")
    yield f"{'updated' if before else 'registered'} {kept}"
    if before and not before.is_same(command):
        yield f"it replaces {before.name} {before.version}, image {before.image}; it stays enabled where that was"
    yield from _beside(one for one in older if one.number not in (kept.number, before.number if before else 0))
    for project in [""] * site + ids:
        switch(rest, kept, project, on=True)
        yield f"enabled for {place(project)}: {', '.join(kept.wrappers)}"
    if off := switched_off(rest, kept):
        yield f"switched off for the site, so that no project offers it: {', '.join(off)} (see --enable-site)"


def _to_replace(older: Sequence[Registered], command: Command, *, beside: bool) -> Registered | None:
    """The registration to replace: the same one, else the only one of another image or version."""
    same = next((one for one in older if one.is_same(command)), None)
    if same or beside or len(older) != 1:
        return same
    return older[0]


def _beside(others: Iterator[Registered]) -> Iterator[str]:
    for one in others:
        yield (
            f"also there: {one}; where both are enabled, users see two buttons. "
            f"Take it out with: xnat-ingest command remove {one.number} --yes"
        )


def list_commands(rest: XnatClient, command: Command, projects: Sequence[str]) -> Iterator[str]:
    """Lists the registrations of the command, and where each is enabled."""
    ids = [project_id(rest, name) for name in projects]
    found = [one for one in registered(rest) if one.is_of(command)]
    if not found:
        yield f"{rest.server} has no command {command['name']}; xnat-ingest command register puts it there"
    for one in found:
        yield str(one)
        for project in ["", *ids]:
            off = switched_off(rest, one, project)
            on = [wrapper for wrapper in one.wrappers if wrapper not in off]
            yield f"  {place(project)}: {_state(on, off)}"


def _state(on: Sequence[str], off: Sequence[str]) -> str:
    if not on or not off:
        return "enabled" if on else "disabled"
    return f"enabled: {', '.join(on)}; disabled: {', '.join(off)}"


def disable(rest: XnatClient, command: Command, numbers: Sequence[int], projects: Sequence[str]) -> Iterator[str]:
    """Switches the wrappers off, in the projects, or for the whole site when none is given."""
    ids = [project_id(rest, name) for name in projects]
    for one in _named(rest, command, numbers):
        for project in ids or [""]:
            switch(rest, one, project, on=False)
            yield f"disabled for {place(project)}: {one}"


def remove(rest: XnatClient, command: Command, numbers: Sequence[int], *, sure: bool) -> Iterator[str]:
    """Removes the named registrations from the service, and checks that they are gone.

    sure: without it, only says which, and raises UsageError

    Raises IngestError before anything is removed for a number that is not a registration of this command.
    """
    found = _named(rest, command, numbers)
    if not sure:
        yield from (f"would remove {one}" for one in found)
        raise UsageError("nothing was removed; give --yes to remove what is named above")
    for one in found:
        ask(rest, "DELETE", f"/xapi/commands/{one.number}")
        if any(one.number == other.number for other in registered(rest)):
            raise IngestError(f"the container service took the removal, but still lists {one}")
        yield f"removed {one}"


def _named(rest: XnatClient, command: Command, numbers: Sequence[int]) -> Sequence[Registered]:
    """The named registrations. Raises IngestError for unknown numbers and for other commands."""
    known = {one.number: one for one in registered(rest)}
    for number in numbers:
        if number not in known:
            raise IngestError(f"there is no command {number} on {rest.server}; see xnat-ingest command list")
        if not known[number].is_of(command):
            raise IngestError(
                f"{known[number]} is not {command['name']}, so it was left alone; use XNAT's own page for it"
            )
    return [known[number] for number in dict.fromkeys(numbers)]
