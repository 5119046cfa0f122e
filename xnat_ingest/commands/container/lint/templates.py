"""Rules on the command line and the other texts into which the service puts values.

Values replace keys as they are, without any escaping. An unknown key is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from xnat_ingest.commands.container.lint.parts import CommandPart, CommandRule, hint, inputs, json_path, kind

_KEY = re.compile(r"#[A-Za-z0-9_-]+#")
_HANDLER_TEXTS = ("label", "format", "description", "content")
Texts = list[tuple[str, str]]


def _command_texts(command: CommandPart) -> Texts:
    """Every text of the command that gets values, except the command line."""
    found = [(command.at(member), command.text(member)) for member in ("working-directory", "container-name")]
    for member in ("environment-variables", "ports", "container-labels"):
        for name, value in command.table(member).items():
            found += [(f"{member}.{name}", name), (f"{member}.{name}", value)]
    return found + [(p.at("path"), p.text("path")) for p in command.parts("mounts") + command.parts("outputs")]


def _wrapper_texts(wrapper: CommandPart) -> Texts:
    found = [(each.at(member), each.text(member)) for each in inputs(wrapper) for member in ("matcher", "parser")]
    for handler in wrapper.parts("output-handlers"):
        found += [(handler.at(member), handler.text(member)) for member in _HANDLER_TEXTS]
        found += [(f"{handler.at('tags')}[{index}]", tag) for index, tag in enumerate(handler.texts("tags"))]
    return found


def _all_texts(command: CommandPart) -> Texts:
    wrappers = command.parts("xnat")
    line = [(command.at("command-line"), command.text("command-line"))]
    return line + _command_texts(command) + [text for wrapper in wrappers for text in _wrapper_texts(wrapper)]


def _values(command: CommandPart) -> Texts:
    externals = [each for wrapper in command.parts("xnat") for each in wrapper.parts("external-inputs")]
    found = [(each.at("default-value"), each.text("default-value")) for each in command.parts("inputs") + externals]
    for each in command.parts("inputs"):
        listed = enumerate(each.texts("select-values"))
        found += [(f"{each.at('select-values')}[{index}]", value) for index, value in listed]
    return found


def _carets(command: CommandPart) -> Iterator[str]:
    """A text can have one look-up in the document. Of several, the service reads everything between as a single one."""
    for where, text in _all_texts(command) + _values(command):
        path = json_path(text)
        if path is not None and ("^" in path or not path.startswith("$")):
            yield f"{where}: from the first ^ to the last the service reads a JSONPath; keep one ^ at most"


def _unknown(text: str, keys: Collection[str]) -> list[str]:
    """What looks like a key in a text and is none of these."""
    return _KEY.findall(_without(text, keys))


def _without(text: str, keys: Collection[str]) -> str:
    for key in sorted(keys, key=len, reverse=True):
        text = text.replace(key, "\0")
    return text


def _line_keys(command: CommandPart) -> Iterator[str]:
    keys = [each.key for each in command.parts("inputs")]
    line = _without(command.text("command-line"), keys)
    foreign = {each.key: each for wrapper in command.parts("xnat") for each in inputs(wrapper)}
    for key in dict.fromkeys(_unknown(line, ())):
        if key in foreign:
            fix = "let it provide the value of a command input, and write that one's key"
            yield f"command-line: {key} belongs to {foreign[key].path} and is not filled in here; {fix}"
        else:
            yield f"command-line: {key} is the key of no command input; {hint(key, keys)}"


def _other_keys(command: CommandPart) -> Iterator[str]:
    own = {each.key for each in command.parts("inputs")}
    wrappers = command.parts("xnat")
    theirs = {wrapper.path: {each.key for each in inputs(wrapper)} for wrapper in wrappers}
    groups = [(_command_texts(command), own.union(*theirs.values()))]
    groups += [(_wrapper_texts(wrapper), own | theirs[wrapper.path]) for wrapper in wrappers]
    for texts, keys in groups:
        for where, text in texts:
            for key in _unknown(text, keys):
                yield f"{where}: {key} is the key of no input; {hint(key, sorted(keys))}"


def _unused(command: CommandPart) -> Iterator[str]:
    wrappers = command.parts("xnat")
    helpers = [each.text("via-setup-command") for wrapper in wrappers for each in inputs(wrapper)]
    helpers += [each.text("via-wrapup-command") for wrapper in wrappers for each in wrapper.parts("output-handlers")]
    if any(helpers):
        return  # the command lines of setup and wrapup commands are filled in with these values too
    texts = [text for _, text in _all_texts(command) + _values(command)]
    for each in command.parts("inputs"):
        named = any(each.key in text or each.name in (json_path(text) or "") for text in texts)
        # An uploaded file is in the first writable mount, where a program can look for it.
        if not named and kind(each) != "file":
            yield f"{each.path}: {each.key} is used nowhere, so the value is lost; put it into the command-line"


def _lost_words(command: CommandPart) -> Iterator[str]:
    """Without a shell an empty quoted word is dropped. The option before it then takes the next word."""
    if command.flag("override-entrypoint"):
        return
    keys = {each.key: each for each in command.parts("inputs")}
    for option, word in re.findall(r"(?<!\S)(-[^\s=]*)\s+('[^']*'|\"[^\"]*\")(?!\S)", command.text("command-line")):
        held = [each for key, each in keys.items() if key in word]
        if held and not _without(word[1:-1], keys).strip("\0") and all(_may_be_empty(command, e) for e in held):
            fix = f"write {option}={word}"
            yield f"command-line: {word} after {option} disappears when {held[0].path} is empty; {fix}"


def _may_be_empty(command: CommandPart, each: CommandPart) -> bool:
    # A flag comes and goes with the value, and so does what a boolean is written as.
    if each.text("command-line-flag").strip() or kind(each) == "boolean":
        return False
    if kind(each) == "select-one":
        return "" in each.texts("select-values") or not (each.flag("required") or each.given("default-value"))
    wrappers = command.parts("xnat")
    if wrappers and all(_is_fed(wrapper, each.name) for wrapper in wrappers):
        return False
    return not each.flag("required") or (each.given("default-value") and not each.text("default-value"))


def _is_fed(wrapper: CommandPart, name: str) -> bool:
    return any(
        each.text("provides-value-for-command-input") == name and each.flag("required", True)
        for each in inputs(wrapper)
    )


RULES: tuple[CommandRule, ...] = (_carets, _line_keys, _other_keys, _unused, _lost_words)
