"""A launch: what the container engine is told, for one wrapper, one object and the values of one request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.service.command import Command, Wrapper
from tests.service.errors import Collision, NoCommandLine, TooLong, Unresolvable
from tests.service.inputs import Inputs, Node
from tests.service.model import Site
from tests.service.mounts import Mounted, mounted, uploads
from tests.service.reading import read
from tests.service.splitter import split
from tests.service.templates import Order, fill
from tests.service.validate import LONGEST, too_long

# What the service sets itself; a command that sets one of them, too, fails at launch.
CREDENTIALS = {"XNAT_HOST": "http://xnat.example.org", "XNAT_USER": "alias", "XNAT_PASS": "secret"}


@dataclass(frozen=True)
class Launch:
    """``workflow_on`` is the id of the object that the launch's workflow stays open on while the container runs."""

    argv: list[str]
    environment: dict[str, str]
    mounts: list[Mounted]
    workflow_on: str | None = None
    working_directory: str | None = None
    container_name: str | None = None
    ports: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def mount(self, name: str) -> Mounted:
        return next(mount for mount in self.mounts if mount.name == name)


def resolve(
    document: str | Mapping[str, Any] | Command,
    wrapper_name: str,
    site: Site,
    root_uri: str,
    values: Mapping[str, str],
    *,
    environment: Mapping[str, str] = CREDENTIALS,
    order: Order = tuple,
) -> Launch:
    """Launch a wrapper on the object at ``root_uri`` (its id does, too; "" for a wrapper without inputs).

    ``values`` is the body of the request. ``environment`` is what the service sets: host, alias and secret.
    Raises a ``Refusal``. ``order`` puts the replacement keys into the order of the hash map for once:
    two orders, one the reverse of the other, show each pair of inputs both ways round.
    """
    command, wrapper = chosen(document, wrapper_name)
    if tight := too_long(command):
        raise TooLong(", ".join(tight))
    inputs = Inputs(command, wrapper, site, request(wrapper, root_uri, values), order, full=True)
    inputs.resolve()
    secrets = _secrets(command, inputs)
    workflow = _workflow(inputs)
    variables = _merged(
        _filled(inputs, command.environment_variables),
        secrets,
        {"XNAT_WORKFLOW_ID": "1" if workflow else "", "XNAT_EVENT_ID": "2" if workflow else "", **environment},
    )
    mounts = [mounted(inputs, mount) for mount in command.mounts]
    uploads(inputs, mounts)
    made = Launch(
        argv=_argv(command, inputs),
        environment=variables,
        mounts=mounts,
        workflow_on=workflow,
        working_directory=_text(inputs, command.working_directory),
        container_name=_text(inputs, command.container_name),
        ports=_filled(inputs, command.ports),
        labels=_filled(inputs, command.container_labels),
    )
    _fits(made)
    return made


def chosen(document: str | Mapping[str, Any] | Command, wrapper_name: str) -> tuple[Command, Wrapper]:
    """The command and its wrapper of that name."""
    command = document if isinstance(document, Command) else read(document)
    wrapper = command.wrapper(wrapper_name)
    if wrapper is None:
        raise Unresolvable(f"no wrapper {wrapper_name}")
    return command, wrapper


def request(wrapper: Wrapper, root_uri: str, values: Mapping[str, str]) -> dict[str, str]:
    """The object under the name of the first external input, which is the root, and the values, one for it included."""
    return {**{given.name: root_uri for given in wrapper.external_inputs[:1]}, **values}


def _argv(command: Command, inputs: Inputs) -> list[str]:
    """The arguments of the image's entrypoint, or a shell in its place."""
    if command.command_line is None:
        raise NoCommandLine(str(command.name))
    line = fill(command.command_line, inputs.line, inputs.order)
    return ["/bin/sh", "-c", line] if command.override_entrypoint else split(line)


def _text(inputs: Inputs, template: str | None) -> str | None:
    return None if template is None else fill(template, inputs.known, inputs.order)


def _filled(inputs: Inputs, templates: Mapping[str, str]) -> dict[str, str]:
    """Names are templates as much as values are."""
    return {
        fill(name, inputs.known, inputs.order): fill(text, inputs.known, inputs.order)
        for name, text in templates.items()
    }


def _merged(*parts: Mapping[str, str]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for part in parts:
        if twice := merged.keys() & part.keys():
            raise Collision(f"environment variables set twice: {', '.join(sorted(twice))}")
        merged.update(part)
    return merged


def _secrets(command: Command, inputs: Inputs) -> dict[str, str]:
    found: dict[str, str] = {}
    for secret in command.secrets:
        source = secret.source.identifier if secret.source else None
        destination = secret.destination.identifier if secret.destination else None
        if source not in inputs.site.properties:
            raise Unresolvable(f"no property {source}")
        found[str(destination)] = inputs.site.properties[str(source)]
    for text in _texts(inputs.roots):
        if named := [name for name in found if name in text]:
            raise Unresolvable(f"an input names the secret {', '.join(named)}")
    return found


def _texts(nodes: Iterable[Node]) -> Iterable[str]:
    for node in nodes:
        for value in node.values:
            yield from [] if value.text is None else [value.text]
            yield from _texts(value.nodes)


def _workflow(inputs: Inputs) -> str | None:
    """The object that the root names; for a resource the object that it belongs to."""
    root = inputs.roots[0].values[0].found if inputs.wrapper.external_inputs else None
    if root is None:
        return None
    holder = root.owners[-1] if root.type == "Resource" else root
    holder = holder.above("Session") if holder.type == "Scan" else holder
    return holder.properties()["id"]


def _fits(launch: Launch) -> None:
    """The launch is stored before it runs; its line has a wide column, its other texts have not."""
    texts = [launch.working_directory or "", launch.container_name or ""]
    for mount in launch.mounts:
        texts += [mount.container, str(mount.host)]
    for pairs in (launch.environment, launch.ports, launch.labels):
        texts += [*pairs, *pairs.values()]
    if wide := [text for text in texts if len(text) > LONGEST]:
        raise TooLong(", ".join(f"{text[:20]}… ({len(text)} characters)" for text in wide))
