"""One option table: flags, environment names, config schema, defaults and help all come from the fields of Settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

ENV_PREFIX = "XNAT_INGEST_"
TREE = ("plan", "upload", "verify")
IMAGES = (*TREE, "nifti")
PROJECT = (*TREE, "ping")
ALL = (*PROJECT, "nifti", "register", "resource", "prearchive")

Parse = Callable[[str], object]


def whole_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("must be an integer >= 1")
    return int(text)


def worker_count(text: str) -> int:
    """Each is a thread with connections of its own."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ValueError("wants a whole number from 1 to 256")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("wants a whole number from 0")
    return int(text)


def count(text: str) -> int:
    """How often a flag without a value was given."""
    return natural(text)


def size(text: str) -> int:
    """Bytes; K, M and G are powers of 1024."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in ("", "K", "M", "G") or int(number) < 1:
        raise ValueError("wants a size such as 128M (K, M, G)")
    return int(number) << (10 * (" KMG".index(unit or " ")))


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise ValueError("wants a number of seconds above 0")
    return value


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError("wants a port number, 1 to 65535")
    return int(text)


def ae_title(text: str) -> str:
    if not (text.isascii() and text.isprintable() and 1 <= len(text.strip()) <= 16) or "\\" in text:
        raise ValueError("wants an AE title: 1 to 16 ASCII characters without a backslash")
    return text.strip()


def switch(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise ValueError("wants 1, true, yes, 0, false or no")
    return text.lower() in ("1", "true", "yes")


class OneOf(tuple[str, ...]):
    """The words that an option takes."""

    __slots__ = ()

    def __call__(self, text: str) -> str:
        if text not in self:
            raise ValueError(f"wants one of {', '.join(self)}")
        return text


def option(
    default: object,
    help: str,  # noqa: A002 - argparse's own word
    *,
    short: str = "",
    parse: Parse = str,
    metavar: str = "",
    group: str = "what is sent",
    commands: tuple[str, ...] = TREE,
    shared: bool | tuple[str, ...] = False,
) -> Any:
    """A row of the table.

    parse: text -> value, raising ValueError with what it wants.
    shared: whether, or to which values, a configuration file may set it that others than the person who runs the
        program can write.

    Such a file may choose rules, layout, labels and speed, never where data or credentials go, what is written here, or
    how far a result is trusted.
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


DEFAULT_TEMPLATES = ("{subject}", "{subject}_{session}")
SERVER = "server and credentials"
SPEED = "speed"
PRIVACY = "de-identification"
DICOM = "DICOM, for --transport cstore"
OUTPUT = "output"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of one run. sources: option name -> where its value came from."""

    server: str = option("", "XNAT's address", metavar="URL", group=SERVER, commands=ALL)
    user: str = option("", "user name", metavar="NAME", group=SERVER, commands=ALL)
    password_file: str = option("", "file whose first line is the password", metavar="FILE", group=SERVER, commands=ALL)
    ca_bundle: str = option("", "certificates to trust, PEM", metavar="FILE", group=SERVER, commands=ALL)
    insecure: bool = option(False, "do not verify the server's certificate", parse=switch, group=SERVER, commands=ALL)
    allow_http: bool = option(
        False, "send the password over plain http to another machine", parse=switch, group=SERVER, commands=ALL
    )

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
        "(folder names do not matter)",
        parse=OneOf(("subject/session", "project/subject/session", "session", "headers")),
        shared=True,
    )
    subject_label: str = option(
        DEFAULT_TEMPLATES[0],
        "subject label: folder names and DICOM keywords",
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
        False, "the sheet need not name every session, and may name others", parse=switch, shared=True
    )
    allow_mixed_patients: bool = option(
        False, "several PatientIDs in one subject are no conflict", parse=switch, shared=True
    )
    split_studies: bool = option(
        False, "make a session of each study in a session's folder: 007_pre, 007_pre_2", parse=switch, shared=True
    )
    follow_links: bool = option(False, "follow links that lead out of ROOT (annexed trees)", parse=switch)
    strict: bool = option(
        False, "any file that is left out without a rule of yours is a problem", parse=switch, shared=True
    )
    json: str = option("", "write the plan here, for review and upload --plan", metavar="FILE", commands=("plan",))
    plan: str = option("", "execute this plan, as plan --json wrote it", metavar="FILE", commands=("upload",))
    labels_template: str = option("", "write the labels here, to be edited", metavar="FILE", commands=("plan",))
    config: str = option("", "JSON file with any of these options, and rules", metavar="FILE", commands=ALL)
    exclude: tuple[Any, ...] = option(
        (),
        "leave out: a folder name part, path=GLOB, KEYWORD=pattern or preset:NAME",
        metavar="RULE",
        commands=IMAGES,
        shared=True,
    )
    include: tuple[Any, ...] = option((), "take only what a rule matches", metavar="RULE", commands=IMAGES, shared=True)
    accept_truncated: bool = option(
        False, "send files that lack some of their data, too; the report names each", parse=switch
    )
    ignore_case: bool = option(False, "folder rules ignore case", parse=switch, commands=IMAGES, shared=True)

    deidentify: str = option(
        "",
        "rewrite headers by this profile before they leave: basic, research-mr, dates-kept, or a JSON file",
        metavar="PROFILE",
        group=PRIVACY,
    )
    deid_key_file: str = option(
        "",
        "the key that new UIDs and moved dates are made with; else it is in XNAT_INGEST_DEID_KEY",
        metavar="FILE",
        group=PRIVACY,
    )
    require_deidentified: bool = option(
        False,
        "send only sessions in which nothing tells who the patient is, as `identity` looks for it",
        parse=switch,
        group=PRIVACY,
        commands=("plan", "upload"),
    )
    redact_paths: bool = option(
        False, "keep names of folders and files out of report and log", parse=switch, group=PRIVACY
    )
    crosswalk: str = option(
        "", "write here, for nobody else, which patient and study became which", metavar="FILE", group=PRIVACY,
        commands=("upload",),
    )  # fmt: skip

    transport: str = option(
        "archive",
        "how instances travel: archive; gradual, each in a request of its own; or cstore, to the DICOM receiver",
        parse=OneOf(("archive", "gradual", "cstore")),
        group="delivery",
        commands=PROJECT,
    )
    archive_format: str = option(
        "auto",
        "request body for --transport archive: tar, or zip for slow links; auto is tar",
        parse=OneOf(("auto", "tar", "zip")),
        group="delivery",
        shared=True,
    )
    destination: str = option(
        "archive",
        "where sessions end up: archive, prearchive, or direct-archive (skips the prearchive if the server allows it)",
        parse=OneOf(("archive", "prearchive", "direct-archive")),
        group="delivery",
        shared=("archive", "prearchive"),
    )
    existing: str = option(
        "resume",
        "what to do with sessions that already exist on the server",
        parse=OneOf(("resume", "skip", "overwrite", "fail")),
        group="delivery",
        shared=("resume", "skip", "fail"),
    )
    online: bool = option(False, "ask the server too", parse=switch, group="delivery", commands=("plan",))
    ignore_server_filter: bool = option(
        False, "send what the server's series import filter would drop, too", parse=switch, group="delivery",
        commands=("plan", "upload"),
    )  # fmt: skip
    dry_run: bool = option(
        False, "send nothing, only tell what would be sent", short="-n", parse=switch, group="delivery",
        commands=("upload", "nifti"),
    )  # fmt: skip
    no_verify: bool = option(False, "skip the check of what the server stored", parse=switch, group="delivery")
    proof: str = option(
        "spot",
        "how deep to look at what the server holds: listing; spot, one instance of each kind read back; or pixels, all",
        parse=OneOf(("listing", "spot", "pixels")),
        group="delivery",
        commands=("upload", "verify"),
    )
    allow_empty: bool = option(
        False, "exit 0 if there is nothing to upload", parse=switch, group="delivery", commands=IMAGES, shared=True
    )

    workers: int = option(
        4,
        "requests in parallel",
        short="-w",
        parse=worker_count,
        metavar="N",
        group=SPEED,
        commands=IMAGES,
        shared=True,
    )
    part_size: int = option(
        128 * 1024**2, "bytes per request, 128M", parse=size, metavar="SIZE", group=SPEED, shared=True
    )
    shard: str = option(
        "",
        "take only the K-th of N parts of the subjects; auto asks Kubernetes (Indexed Job) or Slurm (array)",
        metavar="K/N|auto",
        group=SPEED,
    )
    timeout: float = option(
        60.0, "seconds without progress, 60", parse=seconds, metavar="SECONDS", group=SPEED, commands=ALL, shared=True
    )

    retry_budget: int = option(
        20,
        "requests that may be repeated in a row; ten successes give one back; 20",
        parse=natural,
        metavar="N",
        group=SPEED,
        commands=ALL,
        shared=True,
    )

    dicom_host: str = option(
        "", "the DICOM receiver's host; the server's, unless given", metavar="HOST", group=DICOM, commands=PROJECT
    )
    dicom_port: int = option(8104, "its port, 8104", parse=port, metavar="PORT", group=DICOM, commands=PROJECT)
    called_aet: str = option(
        "XNAT", "its AE title, XNAT", short="-aec", parse=ae_title, metavar="TITLE", group=DICOM, commands=PROJECT
    )
    calling_aet: str = option(
        "XNAT_INGEST", "our AE title, XNAT_INGEST", short="-aet", parse=ae_title, metavar="TITLE", group=DICOM,
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
        "", "certificates to trust, PEM; with it DICOM goes over TLS", metavar="FILE", group=DICOM, commands=PROJECT
    )
    dicom_tls_cert: str = option("", "our certificate, PEM", metavar="FILE", group=DICOM, commands=PROJECT)
    dicom_tls_key: str = option("", "its key, PEM", metavar="FILE", group=DICOM, commands=PROJECT)

    report: str = option("", "write the report here, JSON", metavar="FILE", group=OUTPUT, commands=IMAGES)
    html: str = option(
        "", "write the report here as a page for people, HTML", metavar="FILE", group=OUTPUT, commands=IMAGES
    )
    no_thumbnails: bool = option(
        False, "draw no pictures of series on the page", parse=switch, group=OUTPUT, commands=IMAGES
    )
    junit: str = option(
        "", "write the report here as JUnit XML, for CI systems", metavar="FILE", group=OUTPUT, commands=IMAGES
    )
    csv: str = option("", "write a table of the sessions here, CSV", metavar="FILE", group=OUTPUT, commands=IMAGES)
    log_format: str = option(
        "text", "text, or json: JSON lines on stderr", parse=OneOf(("text", "json")), group=OUTPUT, commands=IMAGES
    )
    verbose: int = option(0, "say more; twice: every setting, too", short="-v", parse=count, group=OUTPUT, commands=ALL)
    quiet: bool = option(False, "only the result", short="-q", parse=switch, group=OUTPUT, commands=ALL)

    sources: Mapping[str, str] = field(default_factory=dict)

    def shown(self) -> list[str]:
        """Each value with its source, for -vv. No option holds a secret: no flag takes a password."""
        return [f"{name} = {getattr(self, name)!r} ({self.sources.get(name, 'default')})" for name in TABLE]


TABLE: dict[str, OptionRow] = {f.name: f.metadata["row"] for f in fields(Settings) if "row" in f.metadata}
_LISTS = frozenset(f.name for f in fields(Settings) if f.default == ())


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def env_name(name: str) -> str:
    return ENV_PREFIX + name.upper()


def given_text(text: str) -> str:
    """A value; "" for an empty one and for a literal #key#, the container service's ways of saying "not given"."""
    text = text.strip()
    return "" if len(text) > 2 and text[0] == text[-1] == "#" else text


def is_list(name: str) -> bool:
    return name in _LISTS


def help_text(name: str) -> str:
    """What an option does, with its words and its default (but sizes, and off) where the table's text lacks them."""
    row, text, default = TABLE[name], TABLE[name].help, getattr(Settings, name)
    if isinstance(row.parse, OneOf):
        known = all(word in text for word in row.parse)
        return f"{text}{'' if known else ': ' + ', '.join(row.parse)}; default {default}"
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return text if not default or row.parse is size or shown in text else f"{text}; default {shown}"


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """The command's flags. Every value stays text: flags, environment and config are parsed by the same functions."""
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
