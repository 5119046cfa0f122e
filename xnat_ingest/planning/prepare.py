"""Turns settings into rules and label templates. Raises UsageError before anything is contacted."""

from __future__ import annotations

from collections.abc import Mapping

from xnat_ingest.core import UsageError, printable
from xnat_ingest.planning.label_sheet import NO_SHEET, Sheet, read_sheet
from xnat_ingest.planning.labels import HEADER_TEMPLATES, LAYOUTS, Template, require_legal
from xnat_ingest.planning.rules import MATCHERS, Rule, RuleSet, make_rule, parse_rule
from xnat_ingest.planning.sessions import LabelRules
from xnat_ingest.settings.options import DEFAULT_TEMPLATES, TreeSettings


def label_rules(settings: TreeSettings) -> LabelRules:
    """The rules for labels, from -S, -E, the layout and the templates."""
    subject, label, layout = settings.subject, settings.experiment, settings.layout
    fixed = None
    if label:
        if not subject:
            raise UsageError("-E names one session of one subject: also give -S SUBJECT")
        require_legal(subject, "-S")
        require_legal(label, "-E")
        layout, fixed = "fixed", (subject, label)
    elif subject:
        if layout != "session":
            raise UsageError("-S without -E needs --layout session; give -E LABEL to make ROOT one session")
        require_legal(subject, "-S")
    if layout == "session" and not subject and settings.subject_label == "{subject}":
        raise UsageError("--layout session has no subject folders: give -S SUBJECT, or --subject-label with a keyword")
    if settings.split_studies and layout in ("headers", "fixed"):
        why = "--layout headers makes one session per study anyway" if layout == "headers" else "-E names one session"
        raise UsageError(f"leave --split-studies out: {why}")
    levels = frozenset(LAYOUTS[layout]) | ({"subject"} if subject else frozenset())
    subject_template, session_template = (Template.parse(text, levels) for text in _templates(settings, layout))
    _check_keywords(subject_template.keywords | session_template.keywords)
    return LabelRules(
        settings.project,
        layout,
        subject_template,
        session_template,
        subject,
        fixed,
        _sheet(settings, layout),
        labels_partial=settings.labels_partial,
        mixed_patients=settings.allow_mixed_patients,
        split_studies=settings.split_studies,
    )


def _sheet(settings: TreeSettings, layout: str) -> Sheet:
    if not settings.labels:
        return NO_SHEET
    if layout == "fixed":
        raise UsageError(
            "--labels cannot be combined with -S and -E, which name the one session; leave one of them out"
        )
    return read_sheet(settings.labels, "study_uid" if layout == "headers" else "folder")


def _templates(settings: TreeSettings, layout: str) -> tuple[str, str]:
    """The texts of the subject's and the session's template. They are not used when ROOT is one session."""
    given = settings.subject_label, settings.session_label
    if layout == "fixed":
        return "", ""
    if layout != "headers":
        return given
    subject, session = (
        of_headers if text == default else text
        for text, default, of_headers in zip(given, DEFAULT_TEMPLATES, HEADER_TEMPLATES, strict=True)
    )
    return subject, session


def rule_set(settings: TreeSettings, depth: int) -> RuleSet:
    """The exclusion and inclusion rules, in the order given."""
    exclude = [_rule(entry, settings.ignore_case) for entry in settings.exclude]
    include = [_rule(entry, settings.ignore_case) for entry in settings.include]
    rules = RuleSet(exclude, include, depth)
    _check_keywords(rules.keywords)
    return rules


def _check_keywords(keywords: frozenset[str]) -> None:
    if keywords:
        from xnat_ingest.inputs.dicom_keywords import check_keywords

        check_keywords(keywords)


def _refuse_blanks(text: str) -> None:
    """A keyword with a blank behind it would be taken for a part of a folder's name, and match nothing.

    Raises UsageError.
    """
    keyword, equals, pattern = text.partition("=")
    word = keyword.rstrip()
    if equals and word != keyword and word.isidentifier():
        from xnat_ingest.inputs.dicom_keywords import is_keyword

        if is_keyword(word):
            raise UsageError(
                f"{printable(text)!r}: leave the blanks around = out: {printable(f'{word}={pattern.strip()}')}"
            )


def _rule(entry: object, ignore_case: bool) -> Rule:
    """entry: a text, or what a config file may say, and was checked then. A program may give anything."""
    config: object = parse_rule(entry) if isinstance(entry, str) else entry
    if isinstance(entry, str):
        _refuse_blanks(entry)
    if not (isinstance(config, Mapping) and MATCHERS.keys() & config.keys()):
        raise UsageError(f"{printable(str(entry))} is not a rule: give a text such as Localizers or Modality=SR")
    if str(config.get("tag", "")).endswith("UID") and "in" in config:
        from xnat_ingest.inputs.dicom_keywords import uid_of

        config = {**config, "in": [uid_of(value) for value in config["in"]]}
    return make_rule(config, ignore_case)
