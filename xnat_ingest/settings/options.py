"""The option table. Flags, environment names, config schema, defaults and help all come from the fields of Settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from xnat_ingest.core import PROOF_LEVELS

if TYPE_CHECKING:
    import argparse

ENV_PREFIX = "XNAT_INGEST_"
TREE = ("plan", "upload", "verify")
IMAGES = (*TREE, "nifti")
PROJECT = (*TREE, "ping")
ALL = (*PROJECT, "nifti", "register", "resource", "prearchive")

DEFAULT_TEMPLATES = ("{subject}", "{subject}_{session}")
SERVER = "server and credentials"
SENT = "what is sent"
PRIVACY = "de-identification"
DELIVERY = "delivery"
SPEED = "speed"
DICOM = "DICOM, for --transport cstore"
OUTPUT = "output"
_GROUPS = (SERVER, SENT, PRIVACY, DELIVERY, SPEED, DICOM, OUTPUT)

Parse = Callable[[str], object]


def positive_integer(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("must be an integer >= 1")
    return int(text)


def worker_count(text: str) -> int:
    """From 1 to 256: each worker is a thread with its own connections."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ValueError("must be an integer from 1 to 256")
    return int(text)


def non_negative_integer(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("must be an integer >= 0")
    return int(text)


def count(text: str) -> int:
    """How many times a flag without a value was given."""
    return non_negative_integer(text)


def size(text: str) -> int:
    """Bytes; K, M and G are powers of 1024."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in ("", "K", "M", "G") or int(number) < 1:
        raise ValueError("must be a size such as 128M (K, M, G)")
    return int(number) << (10 * (" KMG".index(unit or " ")))


# Seconds. With less than a millisecond no answer can ever be in time.
_SHORTEST = 0.001


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _SHORTEST <= value < 1e6:
        raise ValueError(f"must be a number of seconds, at least {_SHORTEST}")
    return value


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError("must be a port number, 1 to 65535")
    return int(text)


def host(text: str) -> str:
    """A name that can be looked up at all: with others every attempt is in vain."""
    wrong = any(sign.isspace() or sign in "/@" for sign in text) or text.count(":") == 1  # IPv6 has more colons
    try:
        text.encode("idna")
    except UnicodeError:
        wrong = True
    if wrong:
        raise ValueError("must be the name or the address of a host, without a port or a path")
    return text


def ae_title(text: str) -> str:
    if not (text.isascii() and text.isprintable() and 1 <= len(text.strip()) <= 16) or "\\" in text:
        raise ValueError("must be an AE title: 1 to 16 ASCII characters without a backslash")
    return text.strip()


def switch(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise ValueError("must be 1, true, yes, 0, false or no")
    return text.lower() in ("1", "true", "yes")


class OneOf(tuple[str, ...]):
    """The words that an option accepts."""

    __slots__ = ()

    def __call__(self, text: str) -> str:
        if text not in self:
            raise ValueError(f"must be one of {', '.join(self)}")
        return text


def option(
    default: object,
    help: str,  # noqa: A002 - argparse's own word
    *,
    short: str = "",
    parse: Parse = str,
    metavar: str = "",
    group: str = SENT,
    commands: tuple[str, ...] = TREE,
    shared: bool | tuple[str, ...] = False,
) -> Any:
    """A row of the table.

    parse: text -> value; raises ValueError that says what is valid.
    shared: whether a config file that other people can write may set the option, or which values it may set.

    Such a file may choose rules, layout, labels and speed. It may never choose where data or credentials go, what is
    written on this machine, or how much a result is trusted.
    """
    return field(default=default, metadata={"row": OptionRow(help, short, parse, metavar, group, commands, shared)})


@dataclass(frozen=True, slots=True)
class OptionRow:
    help: str
    short: str
    parse: Parse
    metavar: str
    group: str
    commands: tuple[str, ...]
    shared: bool | tuple[str, ...] = False


@dataclass(frozen=True, kw_only=True)
class RequestSettings:
    """What all connections share.

    sources: option name -> where its value came from.
    """

    timeout: float = option(
        60.0, "give up a request after this many seconds without progress", parse=seconds, metavar="SECONDS",
        group=SPEED, commands=ALL, shared=True,
    )  # fmt: skip
    retry_budget: int = option(
        20,
        "how many requests may be retried; ten successes give one retry back",
        parse=non_negative_integer,
        metavar="N",
        group=SPEED,
        commands=ALL,
        shared=True,
    )
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServerSettings(RequestSettings):
    """Where XNAT is, and who asks."""

    server: str = option("", "address of the XNAT server", metavar="URL", group=SERVER, commands=ALL)
    user: str = option("", "user name", metavar="NAME", group=SERVER, commands=ALL)
    password_file: str = option("", "file whose first line is the password", metavar="FILE", group=SERVER, commands=ALL)
    ca_bundle: str = option("", "CA certificates to trust, PEM", metavar="FILE", group=SERVER, commands=ALL)
    insecure: bool = option(False, "do not verify the server's certificate", parse=switch, group=SERVER, commands=ALL)
    allow_http: bool = option(
        False, "send the password over plain http to another machine", parse=switch, group=SERVER, commands=ALL
    )


@dataclass(frozen=True, kw_only=True)
class TreeSettings(RequestSettings):
    """Which files are sent, and under which labels."""

    project: str = option(
        "", "XNAT project", short="-P", metavar="PROJECT", commands=(*PROJECT, "nifti", "resource", "prearchive")
    )
    subject: str = option(
        "", "subject label; use with -E, or alone with --layout session", short="-S", metavar="SUBJECT",
        commands=(*IMAGES, "resource"),
    )  # fmt: skip
    experiment: str = option(
        "", "session label; makes ROOT one session", short="-E", metavar="LABEL", commands=(*IMAGES, "resource")
    )
    layout: str = option(
        "subject/session",
        "what the folders below ROOT are: subject/session, project/subject/session, session, or headers "
        "(folder names are ignored)",
        parse=OneOf(("subject/session", "project/subject/session", "session", "headers")),
        shared=("subject/session", "session", "headers"),
    )
    subject_label: str = option(
        DEFAULT_TEMPLATES[0],
        "template for subject labels, from folder names and DICOM keywords",
        metavar="TEMPLATE",
        commands=IMAGES,
        shared=True,
    )
    session_label: str = option(
        DEFAULT_TEMPLATES[1],
        "template for session labels, like --subject-label",
        metavar="TEMPLATE",
        commands=IMAGES,
        shared=True,
    )
    labels: str = option("", "CSV file of labels, as written by --labels-template", metavar="FILE")
    labels_partial: bool = option(
        False, "the label sheet may omit sessions, and may list others", parse=switch, shared=True
    )
    allow_mixed_patients: bool = option(False, "allow several PatientIDs in one subject", parse=switch, commands=IMAGES)
    split_studies: bool = option(
        False, "make one session per study in a session folder: 007_pre, 007_pre_2", parse=switch, shared=True
    )
    follow_links: bool = option(
        False, "follow symbolic links that point outside ROOT (git-annex)", parse=switch, commands=IMAGES
    )
    strict: bool = option(
        False, "exit 3 for any file that is left out without a rule of yours", parse=switch, shared=True
    )
    json: str = option(
        "", "write the plan to this file, for review and for upload --plan", metavar="FILE", commands=("plan",)
    )
    plan: str = option("", "carry out this plan, written by plan --json", metavar="FILE", commands=("upload",))
    labels_template: str = option(
        "", "write the labels to this CSV file, for editing", metavar="FILE", commands=("plan",)
    )
    config: str = option("", "JSON file with options and rules", metavar="FILE", commands=ALL)
    exclude: tuple[Any, ...] = option(
        (),
        "leave out what a rule matches: part of a folder name, path=GLOB, KEYWORD=pattern or preset:NAME",
        metavar="RULE",
        commands=IMAGES,
        shared=True,
    )
    include: tuple[Any, ...] = option((), "send only what a rule matches", metavar="RULE", commands=IMAGES, shared=True)
    accept_truncated: bool = option(False, "send truncated files, too; the report names each", parse=switch)
    ignore_case: bool = option(False, "ignore case in folder rules", parse=switch, commands=IMAGES, shared=True)
    shard: str = option(
        "",
        "take only the K-th of N shares of the subjects; auto reads K and N from Kubernetes (Indexed Job) or Slurm "
        "(array)",
        metavar="K/N|auto",
        group=SPEED,
    )


@dataclass(frozen=True, kw_only=True)
class PrivacySettings(RequestSettings):
    """What may leave this machine."""

    deidentify: str = option(
        "",
        "de-identify headers with this profile before sending: basic, research-mr, dates-kept, or a JSON file",
        metavar="PROFILE",
        group=PRIVACY,
    )
    deid_key_file: str = option(
        "",
        "file with the secret key for new UIDs and shifted dates (or set XNAT_INGEST_DEID_KEY)",
        metavar="FILE",
        group=PRIVACY,
    )
    require_deidentified: bool = option(
        False,
        "send only sessions in which the `identity` check finds nothing that identifies the patient",
        parse=switch,
        group=PRIVACY,
        commands=("plan", "upload"),
    )
    redact_paths: bool = option(
        False, "keep folder and file names out of the report and the log", parse=switch, group=PRIVACY
    )
    crosswalk: str = option(
        "",
        "write old and new patient and study identifiers to this file; keep it secret",
        metavar="FILE",
        group=PRIVACY,
        commands=("upload",),
    )


@dataclass(frozen=True, kw_only=True)
class DeliverySettings(RequestSettings):
    """How instances reach the server, and what is done there."""

    transport: str = option(
        "archive",
        "how to send instances: archive; gradual, one request per instance; or cstore, to the DICOM receiver",
        parse=OneOf(("archive", "gradual", "cstore")),
        group=DELIVERY,
        commands=PROJECT,
    )
    archive_format: str = option(
        "auto",
        "request body for --transport archive: tar; zip; or auto, zip below 20 MB/s if that makes files smaller",
        parse=OneOf(("auto", "tar", "zip")),
        group=DELIVERY,
        shared=True,
    )
    destination: str = option(
        "archive",
        "where sessions end up: archive, prearchive, or direct-archive (skips the prearchive if the server allows it)",
        parse=OneOf(("archive", "prearchive", "direct-archive")),
        group=DELIVERY,
        shared=("archive", "prearchive"),
    )
    existing: str = option(
        "resume",
        "what to do with sessions that already exist on the server",
        parse=OneOf(("resume", "skip", "overwrite", "fail")),
        group=DELIVERY,
        shared=("resume", "skip", "fail"),
    )
    online: bool = option(False, "also check against the server", parse=switch, group=DELIVERY, commands=("plan",))
    ignore_server_filter: bool = option(
        False, "also send what the server's series import filter would drop", parse=switch, group=DELIVERY,
        commands=("plan", "upload"),
    )  # fmt: skip
    dry_run: bool = option(
        False, "send nothing, only show what would be sent", short="-n", parse=switch, group=DELIVERY,
        commands=("upload", "nifti"),
    )  # fmt: skip
    no_verify: bool = option(False, "skip the check of what the server stored", parse=switch, group=DELIVERY)
    proof: str = option(
        "spot",
        "how to check what the server stored: listing; spot, read back one instance of each kind; or pixels, all of "
        "them",
        parse=OneOf(PROOF_LEVELS),
        group=DELIVERY,
        commands=("upload", "verify"),
    )
    allow_empty: bool = option(
        False, "exit 0 if there is nothing to upload", parse=switch, group=DELIVERY, commands=IMAGES, shared=True
    )
    workers: int = option(
        4,
        "sessions and parts in parallel",
        short="-w",
        parse=worker_count,
        metavar="N",
        group=SPEED,
        commands=IMAGES,
        shared=True,
    )
    part_size: int = option(
        128 * 1024**2, "bytes per request; default 128M", parse=size, metavar="SIZE", group=SPEED, shared=True
    )


@dataclass(frozen=True, kw_only=True)
class ReceiverSettings(RequestSettings):
    """The DICOM receiver, for --transport cstore."""

    dicom_host: str = option(
        "",
        "host of the DICOM receiver; default: the server's host",
        parse=host,
        metavar="HOST",
        group=DICOM,
        commands=PROJECT,
    )
    dicom_port: int = option(
        8104, "port of the DICOM receiver", parse=port, metavar="PORT", group=DICOM, commands=PROJECT
    )
    called_aet: str = option(
        "XNAT",
        "AE title of the DICOM receiver",
        short="-aec",
        parse=ae_title,
        metavar="TITLE",
        group=DICOM,
        commands=PROJECT,
    )
    calling_aet: str = option(
        "XNAT_INGEST", "our own AE title", short="-aet", parse=ae_title, metavar="TITLE", group=DICOM,
        commands=PROJECT,
    )  # fmt: skip
    route: str = option(
        "comments",
        "DICOM element that names project, subject and session: comments (PatientComments), study-description, or none",
        parse=OneOf(("comments", "study-description", "none")),
        group=DICOM,
        commands=PROJECT,
    )
    dicom_tls_ca: str = option(
        "", "CA certificates to trust, PEM; turns on TLS for DICOM", metavar="FILE", group=DICOM, commands=PROJECT
    )
    dicom_tls_cert: str = option("", "our own TLS certificate, PEM", metavar="FILE", group=DICOM, commands=PROJECT)
    dicom_tls_key: str = option(
        "", "private key of that certificate, PEM", metavar="FILE", group=DICOM, commands=PROJECT
    )


@dataclass(frozen=True, kw_only=True)
class OutputSettings(RequestSettings):
    """What a run writes on this machine."""

    report: str = option("", "write the report to this file, JSON", metavar="FILE", group=OUTPUT, commands=IMAGES)
    html: str = option(
        "", "write the report to this file as a page for people, HTML", metavar="FILE", group=OUTPUT, commands=IMAGES
    )
    no_thumbnails: bool = option(
        False, "leave pictures of series out of the HTML page", parse=switch, group=OUTPUT, commands=IMAGES
    )
    junit: str = option(
        "", "write the report to this file as JUnit XML, for CI systems", metavar="FILE", group=OUTPUT, commands=IMAGES
    )
    csv: str = option(
        "", "write a table of the sessions to this file, CSV", metavar="FILE", group=OUTPUT, commands=IMAGES
    )
    log_format: str = option(
        "text",
        "format of the log on stderr: text, or json (JSON lines)",
        parse=OneOf(("text", "json")),
        group=OUTPUT,
        commands=IMAGES,
    )
    verbose: int = option(
        0, "show more; twice: also every setting", short="-v", parse=count, group=OUTPUT, commands=ALL
    )
    quiet: bool = option(False, "print only the result", short="-q", parse=switch, group=OUTPUT, commands=ALL)


@dataclass(frozen=True, kw_only=True)
class PlanSettings(PrivacySettings, TreeSettings):
    """All that decides what a plan holds."""


@dataclass(frozen=True, kw_only=True)
class TransportSettings(ReceiverSettings, DeliverySettings):
    """All that decides how a session is sent."""


@dataclass(frozen=True, kw_only=True)
class Settings(OutputSettings, TransportSettings, PlanSettings, ServerSettings):
    """All option values of one run. Whoever needs only some of them takes the group, not the whole."""

    def shown(self) -> list[str]:
        """Each value with its source, for -vv. Nothing here is secret: no flag takes a password."""
        return [f"{name} = {getattr(self, name)!r} ({self.sources.get(name, 'default')})" for name in TABLE]


def _rows() -> dict[str, OptionRow]:
    """All options, in the order of their groups in the help."""
    rows = [(f.name, f.metadata["row"]) for f in fields(Settings) if "row" in f.metadata]
    return dict(sorted(rows, key=lambda one: _GROUPS.index(one[1].group)))


TABLE = _rows()
_LISTS = frozenset(f.name for f in fields(Settings) if f.default == ())


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def env_name(name: str) -> str:
    return ENV_PREFIX + name.upper()


def given_text(text: str) -> str:
    """The value; "" for a literal #key# too, which is how the container service says "not given"."""
    text = text.strip()
    return "" if len(text) > 2 and text[0] == text[-1] == "#" else text


def is_list(name: str) -> bool:
    return name in _LISTS


def help_text(name: str) -> str:
    """What an option does, with its choices and its default. Sizes name their default themselves."""
    row, text, default = TABLE[name], TABLE[name].help, getattr(Settings, name)
    if isinstance(row.parse, OneOf):
        known = all(word in text for word in row.parse)
        return f"{text}{'' if known else ': ' + ', '.join(row.parse)}; default {default}"
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return text if not default or row.parse is size else f"{text}; default {shown}"


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Adds the command's flags. Values stay text here: flags, environment and config share the same parsers."""
    groups: dict[str, Any] = {}
    for name, row in TABLE.items():
        if command not in row.commands:
            continue
        group = groups.get(row.group) or groups.setdefault(row.group, parser.add_argument_group(row.group))
        names = [row.short, flag(name)] if row.short else [flag(name)]
        if row.parse is switch:
            group.add_argument(*names, dest=name, action="store_const", const="true", help=help_text(name))
        elif row.parse is count:
            group.add_argument(*names, dest=name, action="count", help=help_text(name))
        else:
            action = "append" if is_list(name) else "store"
            group.add_argument(*names, dest=name, action=action, metavar=row.metavar or None, help=help_text(name))
