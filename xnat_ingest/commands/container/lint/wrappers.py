"""Rules on the inputs of a wrapper: where they come from, and what they provide.

The service stores most faults silently. Later the launch dialog is empty, or the launch fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from xnat_ingest.commands.container.lint.command import SELECTS, illegal
from xnat_ingest.commands.container.lint.parts import CommandPart, WrapperRule, hint, inputs, kind, twice

_OBJECTS = ("Project", "ProjectAsset", "Subject", "SubjectAssessor", "Session", "Scan", "Assessor", "Resource")
# From which types an input of a type can be derived. Types that are not here never get a value.
_PARENTS = {
    "string": (*_OBJECTS, "File"),
    "Resource": _OBJECTS[:-1],
    "Directory": ("Resource",),
    "File": ("Resource",),
    "File[]": ("Resource",),
    "Session": ("Subject", "Scan", "Assessor"),
    "Subject": ("Project", "Session", "SubjectAssessor"),
    "Project": ("ProjectAsset", "Subject", "SubjectAssessor", "Session", "Scan", "Assessor"),
    "ProjectAsset": ("Project",),
    "SubjectAssessor": ("Subject",),
    "Scan": ("Session", "Resource"),
    "Assessor": ("Session",),
}
_MOUNTABLE = ("Project", "ProjectAsset", "SubjectAssessor", "Session", "Scan", "Assessor", "Resource", "File")
_EVERY = ("id", "label", "uri", "xsiType", "directory")
_PROPERTIES = {
    "Project": "title running-title description keywords accessibility aliases",
    "ProjectAsset": "project-id datatype-string",
    "Subject": "project-id datatype-string group source initials",
    "SubjectAssessor": "project-id subject-id datatype-string",
    "Session": "project-id shared-from-project-id subject-id datatype-string visit-id",
    "Scan": "integer-id scan-type project-id session-id frames note modality quality scanner scanner-manufacturer "
    "scanner-model scanner-software-version series-description start-time uid datatype-string",
    "Assessor": "project-id session-id datatype-string name",
    "Resource": "integer-id datatype-string parent-uri",
    "File": "name path tags format content size checksum",
}


def _names(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    yield from twice(inputs(wrapper), "input of a wrapper")


def _collisions(command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    """The dialog identifies inputs by name. A command input that gets its value from a wrapper input is not in it."""
    fed = {each.text("provides-value-for-command-input") for each in inputs(wrapper)}
    own = {each.name for each in command.parts("inputs")} - fed
    for each in inputs(wrapper):
        if each.name in own:
            fix = "rename it, or let it provide the value of that input"
            yield f"{each.at('name')}: a command input is named {each.name!r} too, and nothing can be launched; {fix}"


def _values(command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    known = {each.name: each for each in command.parts("inputs")}
    for each in inputs(wrapper):
        name, where = each.text("provides-value-for-command-input"), each.at("provides-value-for-command-input")
        if not name:
            continue
        if name not in known:
            yield f"{where}: there is no command input {name!r}; {hint(name, known)}"
        elif kind(known[name]) in SELECTS or known[name].texts("select-values"):
            fix = "make it a string: several candidates are offered for selection anyway"
            yield f"{where}: {known[name].path} is a select input, which no wrapper input may fill; {fix}"


def _files(command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    known = [mount.name for mount in command.parts("mounts")]
    for each in inputs(wrapper):
        name, where = each.text("provides-files-for-command-mount"), each.at("provides-files-for-command-mount")
        if not name.strip():
            if each.text("via-setup-command").strip():
                yield f"{each.at('via-setup-command')}: it needs provides-files-for-command-mount; name the mount"
            continue
        if name not in known:
            yield f"{where}: there is no mount {name!r}; {hint(name, known)}"
        outside = each.path.startswith(wrapper.at("external-inputs"))
        if kind(each) not in _MOUNTABLE or (outside and kind(each) == "File"):
            yield f"{where}: a {kind(each)} cannot be mounted; mount a Resource that is derived from an object"
        if not each.flag("required", default=True):
            yield f"{each.at('required')}: the launch crashes when an input for a mount has no value; make it required"


def _multiple(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    for each in wrapper.parts("derived-inputs"):
        if not each.flag("multiple"):
            continue
        where = each.at("provides-files-for-command-mount")
        if each.text("provides-files-for-command-mount").strip():
            yield f"{where}: several values cannot share a mount; mount the parent"
        if not each.text("provides-value-for-command-input").strip():
            where = each.at("provides-value-for-command-input")
            yield f"{where}: an input of multiple values must have it; name a command input"


def _parents(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    known = {each.name: each for each in wrapper.parts("external-inputs")}
    for each in wrapper.parts("derived-inputs"):
        name, where = each.text("derived-from-wrapper-input"), each.at("derived-from-wrapper-input")
        if name == each.name:
            yield f"{where}: the input is derived from itself; name another one"
        elif name not in known:
            later = any(other.name == name for other in wrapper.parts("derived-inputs"))
            fix = "move that input before this one" if later else hint(name, known)
            yield f"{where}: there is no input {name!r} before this one; {fix}"
        elif kind(each) not in _PARENTS:
            fix = "derive a string" if kind(each) in ("boolean", "number") else "use another type"
            yield f"{each.at('type')}: a derived input of type {kind(each)} never gets a value; {fix}"
        elif kind(known[name]) not in _PARENTS[kind(each)]:
            fix = f"it can come from {', '.join(_PARENTS[kind(each)])}"
            yield f"{where}: a {kind(each)} cannot be derived from a {kind(known[name])}; {fix}"
        known.setdefault(each.name, each)


def _properties(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    """A string is a property of its parent; an object's value is its address, or a property of its own."""
    kinds = {each.name: kind(each) for each in reversed(inputs(wrapper))}
    for each in wrapper.parts("derived-inputs"):
        asked = each.text("derived-from-xnat-object-property")
        where = each.at("derived-from-xnat-object-property")
        owner = kinds.get(each.text("derived-from-wrapper-input"), "") if kind(each) == "string" else kind(each)
        if owner not in _PROPERTIES:
            continue
        known = (*_EVERY, *_PROPERTIES[owner].split())
        if not asked.strip():
            if kind(each) == "string":
                yield f"{where}: a derived string has no value without it; name a property of the {owner}"
        # The service makes a JSONPath of it; what is more than a word cannot be judged here.
        elif re.fullmatch(r"[\w-]+", asked) and asked not in known:
            yield f"{where}: a {owner} has no property {asked!r}; {hint(asked, known)}"


def _children(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    bare = [e for e in wrapper.parts("external-inputs") if kind(e) == "Project" and not e.flag("load-children", True)]
    for each in wrapper.parts("derived-inputs"):
        for project in bare:
            derived = each.text("derived-from-wrapper-input") == project.name
            if derived and kind(each) in ("Resource", "Subject", "ProjectAsset"):
                fix = f"leave out load-children of {project.path}"
                where = each.at("derived-from-wrapper-input")
                yield f"{where}: without load-children a project shows no {kind(each)}; {fix}"


def _externals(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    externals = wrapper.parts("external-inputs")
    for each in externals:
        yield from illegal(each, [("default-value", each.text("default-value"))])
    for each in externals[1:]:
        if kind(each) != "boolean" and not each.given("default-value"):
            fix = "put the object that it is launched on first, and make the others command inputs or derive them"
            yield f"{each.path}: the form has no field for a further external input; {fix}"


def _scans(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    """Scan pages launch a wrapper with an input of this name, whatever its own input is called."""
    first = wrapper.parts("external-inputs")[:1]
    if any(re.fullmatch(r"\w+:\w*[sS]canData", context) for context in wrapper.texts("contexts")):
        for each in first:
            if each.name != "scan":
                yield f"{each.at('name')}: a wrapper that is offered on scans is given `scan`; name the input so"


RULES: tuple[WrapperRule, ...] = (
    _names,
    _collisions,
    _values,
    _files,
    _multiple,
    _parents,
    _properties,
    _children,
    _externals,
    _scans,
)
