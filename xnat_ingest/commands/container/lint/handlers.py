"""Rules on the output handlers of a wrapper."""

from __future__ import annotations

from collections.abc import Iterator

from xnat_ingest.commands.container.lint.parts import CommandPart, WrapperRule, hint, inputs, twice


def _names(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    yield from twice(wrapper.parts("output-handlers"), "output handler")


def _outputs(command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    """The service refuses a command if one of its wrappers has no handler for an output."""
    known = [output.name for output in command.parts("outputs")]
    handlers = wrapper.parts("output-handlers")
    for handler in handlers:
        name = handler.text("accepts-command-output")
        if name not in known:
            yield f"{handler.at('accepts-command-output')}: there is no output {name!r}; {hint(name, known)}"
    taken = {handler.text("accepts-command-output") for handler in handlers}
    for name in known:
        if name not in taken:
            yield f"{wrapper.at('output-handlers')}: nothing takes the output {name!r}; add a handler for it"


def _targets(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    derived = {each.name: each for each in wrapper.parts("derived-inputs")}
    known = [each.name for each in inputs(wrapper)]
    for handler in wrapper.parts("output-handlers"):
        old = "as-a-child-of-wrapper-input"
        member = old if handler.given(old) and not handler.given("as-a-child-of") else "as-a-child-of"
        target, where = handler.text(member), handler.at(member)
        if not target.strip():
            yield f"{where}: it is missing; name the input, or an earlier handler, that the files go to"
        elif target not in known:
            yield f"{where}: there is no input and no earlier handler {target!r}; {hint(target, known)}"
        elif target in derived:
            yield from _target(where, derived[target])
        known.append(handler.name)


def _target(where: str, target: CommandPart) -> Iterator[str]:
    if target.flag("multiple"):
        yield f"{where}: {target.name!r} has multiple values, and files go to one place; name another input"
    asked = target.text("derived-from-xnat-object-property")
    if target.given("derived-from-xnat-object-property") and asked != "uri":
        yield f"{where}: the value of {target.name!r} is its {asked}, and files go to an address; name another input"


def _labels(_command: CommandPart, wrapper: CommandPart) -> Iterator[str]:
    for handler in wrapper.parts("output-handlers"):
        if (handler.text("type") or "Resource") == "Resource" and not handler.text("label").strip():
            yield f"{handler.at('label')}: a resource needs one; give the label that the files are kept under"


RULES: tuple[WrapperRule, ...] = (_names, _outputs, _targets, _labels)
