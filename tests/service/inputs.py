"""Values of inputs: a tree from what the wrapper is given, over what is derived, to the command's own inputs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Never

from tests.service.command import Command, CommandInput, Wrapper, WrapperInput
from tests.service.errors import Ambiguous, Collision, MissingInput, Unresolvable
from tests.service.matcher import matches, picks
from tests.service.model import Site, XnatObject
from tests.service.splitter import is_blank
from tests.service.templates import Order, fill, for_command_line, joined, legal, no_jsonpath

FOUND_BY_VALUE = ("Project", "ProjectAsset", "Subject", "SubjectAssessor", "Session", "Scan", "Assessor", "Resource")
WITH_PROPERTIES = (*FOUND_BY_VALUE, "File")
# Type of the input, type of its parent -> where the candidates stand. Project to Session is missing on purpose.
CHILDREN = {
    ("Resource", "Project"): "resources",
    ("Resource", "Subject"): "resources",
    ("Resource", "Session"): "resources",
    ("Resource", "Scan"): "resources",
    ("Subject", "Project"): "subjects",
    ("Session", "Subject"): "sessions",
    ("Scan", "Session"): "scans",
    ("File", "Resource"): "files",
    ("File[]", "Resource"): "files",
}
UPWARDS = {
    ("Project", "Subject"),
    ("Project", "Session"),
    ("Project", "Scan"),
    ("Subject", "Session"),
    ("Session", "Scan"),
}
# By what a value of the request picks among the candidates; the first property that picks any decides.
PICKED_BY = {
    "Resource": ("uri", "id", "label"),
    "Scan": ("uri", "id", "directory"),
    "File": ("uri",),
    "File[]": ("uri",),
}


@dataclass(frozen=True)
class Value:
    """One value of an input, and the inputs below it as they turn out for this value."""

    text: str | None
    label: str | None = None
    found: XnatObject | None = None
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Node:
    """An input with its values: one, none, or all candidates when several match."""

    input: WrapperInput | CommandInput
    values: tuple[Value, ...]


@dataclass
class Inputs:
    """A resolution under way. ``full`` is the launch; without it, the opening of the form."""

    command: Command
    wrapper: Wrapper
    site: Site
    request: Mapping[str, str]
    order: Order
    full: bool

    def __post_init__(self) -> None:
        one_of_each_name(self.command, self.wrapper)
        self.known: dict[str, str | None] = {}
        """Key -> value, of every input; for everything but the command line."""
        self.line: dict[str, str] = {}
        """Key -> value as it stands in the command line; command inputs only."""
        self.below: dict[str, list[WrapperInput | CommandInput]] = {given.name: [] for given in self.wrapper.inputs}
        self.roots: list[Node] = []

    def resolve(self) -> list[Node]:
        """All trees, in order; ``known`` and ``line`` are filled on the way."""
        for given in self._plan():
            node = self._node(given, None)
            # An upload field left empty is forgotten: it keeps its key in the line, and nobody asks if it is required.
            if self.full and given.stored_type == "file" and is_blank(node.values[0].text):
                continue
            self.roots.append(node)
            self._settle(node)
        if self.full and (missing := [name for node in self.roots for name in _missing(node)]):
            raise MissingInput(", ".join(missing))
        return self.roots

    def _plan(self) -> list[WrapperInput | CommandInput]:
        """Who hangs on whom; of two wrapper inputs that feed one command input the later one counts."""
        feeders = {
            given.provides_value_for_command_input: given
            for given in self.wrapper.inputs
            if not is_blank(given.provides_value_for_command_input)
        }
        for derived in self.wrapper.derived_inputs:
            self.below[derived.derived_from_wrapper_input or ""].append(derived)
        roots: list[WrapperInput | CommandInput] = list(self.wrapper.external_inputs)
        for given in self.command.inputs:
            if feeder := feeders.get(given.name):
                self.below[feeder.name].append(given)
                if not feeder.is_required:
                    self.line[given.key] = ""
            else:
                roots.append(given)
        return roots

    def _node(self, given: WrapperInput | CommandInput, parent: Value | None, parent_type: str = "") -> Node:
        values = []
        for value in self._values(given, parent, parent_type):
            below = [] if isinstance(given, CommandInput) else self.below[given.name]
            self.known[given.key] = value.text
            nodes = tuple(self._node(child, value, given.stored_type) for child in below)
            self.known[given.key] = value.text
            values.append(replace(value, nodes=nodes))
        return Node(given, tuple(values))

    def _values(self, given: WrapperInput | CommandInput, parent: Value | None, parent_type: str) -> list[Value]:
        if isinstance(given, CommandInput):
            return [self._command_value(given, parent)]
        if parent is None:
            return [self._external_value(given)]
        found = self._derived_values(given, parent, parent_type)
        for value in found:
            legal(given.name, value.text)
        return found

    def _command_value(self, given: CommandInput, parent: Value | None) -> Value:
        """Default, then the request, then the wrapper; last the words for true and false."""
        # A wrapper input of the same name that feeds this one lends it its default, even none.
        namesake = next((each for each in self.wrapper.inputs if each.name == given.name), given)
        text = self.request.get(given.name, namesake.default_value)
        if parent is not None and parent.text is not None:
            text = parent.text
        no_jsonpath(text)
        if given.stored_type == "boolean":
            word = given.true_value if (text or "").lower() == "true" else given.false_value
            text = text if word is None else word
        legal(given.name, text)
        return Value(text, text)

    def _external_value(self, given: WrapperInput) -> Value:
        text = self.request.get(given.name, given.default_value)
        no_jsonpath(text)
        found = None
        if text is not None and not is_blank(text) and given.stored_type in FOUND_BY_VALUE:
            found = self.site.find(given.stored_type, text)
            matcher = fill(given.matcher or "", self.known, self.order)
            if found and not is_blank(matcher) and not matches(matcher, found.properties()):
                found = None
            if found and given.load_children is False and found.type == "Project":
                found = replace(found, load_children=False)
            text = found.uri if found else None
        legal(given.name, text)
        return Value(text, found.label if found else text, found)

    def _derived_values(self, given: WrapperInput, parent: Value, parent_type: str) -> list[Value]:
        type_ = given.stored_type
        matcher = fill(given.matcher or "", self.known, self.order)
        if parent.found is None or type_ in ("boolean", "number", "Config"):
            return []
        if type_ in ("string", "Directory"):
            # The request is not asked here: what is derived as text cannot be chosen by anybody.
            name = "directory" if type_ == "Directory" else given.derived_from_xnat_object_property or ""
            # A filter on a text finds nothing, and Directory comes from a Resource alone.
            if not is_blank(matcher) or (type_ == "Directory" and parent_type != "Resource"):
                return []
            text = parsed(given, parent.found.properties().get(name))
            return [] if text is None else [Value(text, text)]
        return [_object_value(given, found) for found in self._objects(given, parent.found, matcher)]

    def _objects(self, given: WrapperInput, parent: XnatObject, matcher: str) -> list[XnatObject]:
        route = (given.stored_type, parent.type)
        if route == ("Scan", "Resource"):
            if parent.owners[-1].type != "Scan":
                raise Unresolvable(f"{given.name}: the resource does not belong to a scan")
            return [parent.owners[-1]]
        if route in UPWARDS:
            return [parent.above(given.stored_type)]
        if route not in CHILDREN:
            return []
        candidates = parent.children(CHILDREN[route])
        asked = self.request.get(given.name, given.default_value)
        if asked is None or is_blank(asked):
            return [each for each in candidates if is_blank(matcher) or matches(matcher, each.properties())]
        for name in PICKED_BY.get(given.stored_type, ("uri", "id", "label", "directory")):
            several = bool(given.multiple)
            picked = [each for each in candidates if picks(name, asked, matcher, each.properties(), multiple=several)]
            if picked:
                return picked
        return []

    def _settle(self, node: Node) -> None:
        """Give templates the values that are single; an input with several keeps its key, and those below it theirs."""
        given = node.input
        if len(node.values) == 1:
            text = node.values[0].text or ""
            self.known[given.key] = text
            if isinstance(given, CommandInput):
                self.line[given.key] = for_command_line(given, text)
            for child in node.values[0].nodes:
                self._settle(child)
        elif isinstance(given, WrapperInput) and given.multiple:
            self._settle_list(node, given)
        elif given.is_required and (self.full or not node.values):
            self._unsettled(node)

    def _settle_list(self, node: Node, given: WrapperInput) -> None:
        children = [child for value in node.values for child in value.nodes]
        fed = [child.input for child in children if isinstance(child.input, CommandInput)]
        if len(fed) != len(children) or any(len(value.nodes) != 1 for value in node.values):
            raise Ambiguous(f"{given.name} must give its values to one command input, and to nothing else")
        if not fed:
            if self.full and given.is_required:
                raise MissingInput(given.name)
            self.known[given.key] = "[]"
            return
        texts = [str(child.values[0].text) for child in children if not is_blank(child.values[0].text)]
        # Outside of the command line a list is what Java prints for one.
        self.known[fed[0].key] = self.known[given.key] = f"[{', '.join(texts)}]"
        self.line[fed[0].key] = joined(fed[0], texts)

    def _unsettled(self, node: Node) -> Never:
        if node.values:
            raise Ambiguous(f"{node.input.name}: {', '.join(str(value.label) for value in node.values)}")
        raise MissingInput(node.input.name)


def one_of_each_name(command: Command, wrapper: Wrapper) -> None:
    """Wrapper inputs, and the command inputs that they do not feed, share one list of settings by name."""
    fed = {given.provides_value_for_command_input for given in wrapper.inputs}
    names = [given.name for given in (*wrapper.inputs, *(each for each in command.inputs if each.name not in fed))]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Collision(", ".join(sorted(twice)))


def parsed(given: WrapperInput, text: str | None) -> str | None:
    """A parser on plain text is a regular expression that must match all of it; on XML it is an XPath."""
    if is_blank(text) or is_blank(given.parser):
        return text
    try:
        ET.fromstring(str(text))
    except ET.ParseError:
        return text if re.fullmatch(str(given.parser), str(text)) else None
    raise NotImplementedError("this model evaluates no XPath")


def _object_value(given: WrapperInput, found: XnatObject) -> Value:
    """An object stands for its URI unless a property is named."""
    name = given.derived_from_xnat_object_property
    text = found.uri if name is None or is_blank(name) else parsed(given, found.properties().get(name))
    return Value(text, found.label, found)


def _missing(node: Node) -> list[str]:
    """Required inputs without a value; an empty text is a value."""
    names = [name for value in node.values for child in value.nodes for name in _missing(child)]
    has_value = any(value.text is not None for value in node.values)
    return [*names, node.input.name] if node.input.is_required and not has_value else names
