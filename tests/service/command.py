"""The parts of a command document, as the service keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.service.splitter import is_blank

COMMAND_TYPES = ("string", "boolean", "number", "select-one", "select-many", "file")
WRAPPER_TYPES = (
    "string",
    "boolean",
    "number",
    "Directory",
    "File[]",
    "File",
    "Project",
    "ProjectAsset",
    "Subject",
    "SubjectAssessor",
    "Session",
    "Scan",
    "Assessor",
    "Resource",
    "Config",
    "file",
)


@dataclass(frozen=True)
class Mount:
    """A directory of the container."""

    name: str | None = None
    path: str | None = None
    writable: bool | None = None


@dataclass(frozen=True)
class Input:
    """What command inputs and wrapper inputs share."""

    name: str
    label: str | None = None
    description: str | None = None
    type: str | None = None
    matcher: str | None = None
    default_value: str | None = None
    required: bool | None = None
    replacement_key: str | None = None
    sensitive: bool | None = None

    @property
    def key(self) -> str:
        """The text that templates hold in the value's place."""
        return f"#{self.name}#" if is_blank(self.replacement_key) else str(self.replacement_key)


@dataclass(frozen=True)
class CommandInput(Input):
    """A parameter of the command line."""

    command_line_flag: str | None = None
    command_line_separator: str | None = None
    true_value: str | None = None
    false_value: str | None = None
    select_values: tuple[str, ...] = ()
    multiple_delimiter: str | None = None

    @property
    def stored_type(self) -> str:
        """The type column knows six words; ``File`` becomes one of them, anything else is kept as a string."""
        return "file" if self.type == "File" else self.type if self.type in COMMAND_TYPES else "string"

    @property
    def is_required(self) -> bool:
        return bool(self.required)


@dataclass(frozen=True)
class WrapperInput(Input):
    """An object or value of XNAT; derived ones name the input they come from."""

    provides_value_for_command_input: str | None = None
    provides_files_for_command_mount: str | None = None
    via_setup_command: str | None = None
    user_settable: bool | None = None
    load_children: bool | None = None
    derived_from_wrapper_input: str | None = None
    derived_from_xnat_object_property: str | None = None
    multiple: bool | None = None
    parser: str | None = None

    @property
    def stored_type(self) -> str:
        return self.type if self.type in WRAPPER_TYPES and self.type != "file" else "string"

    @property
    def is_required(self) -> bool:
        """Wrapper inputs are required unless they say otherwise; command inputs the other way about."""
        return self.required is None or self.required


@dataclass(frozen=True)
class Output:
    """Files that are taken from a mount after a good run."""

    name: str | None = None
    description: str | None = None
    required: bool | None = None
    mount: str | None = None
    path: str | None = None
    glob: str | None = None


@dataclass(frozen=True)
class Handler:
    """Where an output goes."""

    name: str | None = None
    accepts_command_output: str | None = None
    as_a_child_of: str | None = field(default=None, metadata={"also": "as-a-child-of-wrapper-input"})
    via_wrapup_command: str | None = None
    type: str | None = None
    xsi_type: str | None = None
    label: str | None = None
    format: str | None = None
    description: str | None = None
    content: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wrapper:
    """One entry of ``xnat``: the command, offered on one kind of object."""

    name: str | None = None
    label: str | None = None
    description: str | None = None
    contexts: tuple[str, ...] = ()
    external_inputs: tuple[WrapperInput, ...] = ()
    derived_inputs: tuple[WrapperInput, ...] = ()
    output_handlers: tuple[Handler, ...] = ()

    @property
    def inputs(self) -> tuple[WrapperInput, ...]:
        return self.external_inputs + self.derived_inputs


@dataclass(frozen=True)
class Place:
    """Either end of a secret."""

    type: str | None = None
    identifier: str | None = None


@dataclass(frozen=True)
class Secret:
    """A property of XNAT's Java process that becomes an environment variable."""

    source: Place | None = None
    destination: Place | None = None


@dataclass(frozen=True)
class Command:
    """The document's top level."""

    name: str | None = None
    label: str | None = None
    description: str | None = None
    version: str | None = None
    schema_version: str | None = None
    info_url: str | None = None
    image: str | None = None
    type: str | None = None
    visibility: str | None = None
    index: str | None = None
    hash: str | None = None
    container_name: str | None = None
    working_directory: str | None = None
    command_line: str | None = None
    override_entrypoint: bool | None = None
    mounts: tuple[Mount, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[CommandInput, ...] = ()
    outputs: tuple[Output, ...] = ()
    xnat: tuple[Wrapper, ...] = ()
    reserve_memory: int | None = None
    limit_memory: int | None = None
    limit_cpu: float | None = None
    shm_size: int | None = None
    network: str | None = None
    ulimits: Mapping[str, str | None] | None = None
    runtime: str | None = None
    ipc_mode: str | None = field(default=None, metadata={"also": "ipcMode"})
    auto_remove: bool | None = None
    generic_resources: Mapping[str, str] = field(default_factory=dict)
    gpus: str | None = None
    container_labels: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    command_metadata: object = None

    def wrapper(self, name: str) -> Wrapper | None:
        return next((wrapper for wrapper in self.xnat if wrapper.name == name), None)
