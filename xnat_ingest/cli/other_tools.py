"""What users of other tools type, and what to type here: one table for usage errors and docs/coming-from.md.

The flags are those of xnatctl 0.6.0, xnatio (xio), xnatpy 0.8.1's `xnat`, dicomUpload.py, bxl's scripts and DCMTK's
storescu. Flags with the same name and meaning here are not in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ONLY_IN = "this program only brings data into XNAT"
_ENVIRONMENT = "the environment variables XNAT_HOST, XNAT_USER and XNAT_PASS"
_TREES = ("plan", "upload", "verify")
_TABLES = ("prearchive", "resource")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of another tool.

    names: its spellings there, with `=value` when the entry is for one value.
    here: what to use here, "" for nothing.
    why: the reason, or what differs.
    commands: our commands that the entry applies to, () for all.
    """

    tools: tuple[str, ...]
    names: tuple[str, ...]
    here: str
    why: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command of another tool.

    name: as typed there, without the program's name.
    here: our command, "" for none.
    why: the reason, or what differs.
    """

    tools: tuple[str, ...]
    name: str
    here: str
    why: str = ""


def _flag(tools: str, names: str, here: str, why: str = "", commands: tuple[str, ...] = ()) -> Flag:
    return Flag(tuple(tools.split()), tuple(names.split()), here, why, commands)


def _command(tools: str, name: str, here: str, why: str = "") -> Command:
    return Command(tuple(tools.split()), name, here, why)


FLAGS = (
    # server and credentials
    _flag("xnatctl", "--url", "--server"),
    _flag("xnatpy bxl", "--host", "--server"),
    _flag("bxl", "-H", "--server"),
    _flag("xnatctl", "--host", "--dicom-host", commands=("plan", "upload", "verify", "ping")),
    _flag("xnatctl", "--username", "--user"),
    _flag("xnatctl xnatpy bxl", "-u", "--user"),
    _flag("xnatctl", "--password", "the environment variable XNAT_PASS, or --password-file"),
    _flag("xnatctl", "--password-stdin", "--password-file /dev/stdin"),
    _flag("xnatctl", "-p --profile", f"{_ENVIRONMENT}, or a file of options for --config"),
    _flag("xnatpy bxl", "-p", "-P/--project"),
    _flag("xnatio", "--env", _ENVIRONMENT),
    _flag("xnatpy", "--netrc", "", "~/.netrc is read if it lists the server"),
    _flag("xnatpy", "--jsession", "", "each run logs in once, and again if the session expires"),
    _flag("xnatctl", "--no-verify-ssl", "--insecure"),
    # where it goes
    _flag("xnatctl xnatio", "--session", "-E/--experiment"),
    _flag("xnatpy", "--experiment", "--label", commands=("prearchive archive",)),
    _flag("xnatpy", "-l --label", "the session's label, without a flag", commands=("prearchive delete",)),
    _flag("xnatpy", "--resource", "--label", commands=("resource",)),
    _flag("bxl", "-rc --resource_collection", "--label", commands=("resource",)),
    _flag("xnatpy", "--resource", "another command, resource put, with --label", commands=_TREES),
    _flag("bxl", "-t --type", "which of -P, -S, -E and --scan are given", commands=("resource",)),
    _flag("bxl", "-id --identifier", "-P, -S or -E", commands=("resource",)),
    _flag("bxl", "-i --input", "PATH, without a flag", commands=("resource",)),
    _flag("xnatio", "--zip-name", "--archive-name", "stores one tar; without it the files are stored one by one"),
    _flag("xnatpy", "--names", "", "files are stored under their own names", ("resource",)),
    _flag("xnatctl", "--misc-label --attach-only", "another command, resource put, with --label"),
    # how it goes there
    _flag("xnatctl", "--mode=tar", "--archive-format tar"),
    _flag("xnatctl", "--mode=zip", "--archive-format zip"),
    _flag("xnatctl", "--mode=gradual", "--transport gradual"),
    _flag("xnatctl", "--mode", "--transport, or --archive-format"),
    _flag("xnatctl", "--gradual", "--transport gradual"),
    _flag("xnatpy", "--import_handler=DICOM-zip", "--transport archive"),
    _flag("xnatpy", "--import_handler=gradual-DICOM", "--transport gradual"),
    _flag("xnatpy", "--import_handler", "--transport"),
    _flag("xnatctl xnatio", "--direct-archive", "--destination direct-archive"),
    _flag("xnatio", "--no-direct-archive", "--destination archive"),
    _flag("xnatctl", "--prearchive", "--destination prearchive"),
    _flag("xnatctl xnatio", "--overwrite=none", "--existing fail", "XNAT itself takes none as append"),
    _flag("xnatctl xnatio", "--overwrite=append", "--existing resume"),
    _flag("xnatctl xnatio", "--overwrite=delete", "--existing overwrite", "replaces files, deletes none"),
    _flag("xnatctl xnatio", "--overwrite", "--existing overwrite"),
    _flag(
        "xnatctl xnatpy",
        "--overwrite",
        "",
        "files that are missing in the archived session are added; on a conflict use upload --existing overwrite",
        ("prearchive",),
    ),
    _flag(
        "xnatctl xnatio",
        "--ignore-unparsable --no-ignore-unparsable",
        "",
        "only DICOM is sent, and the report names the rest",
    ),
    _flag(
        "xnatpy",
        "--trigger_pipelines --trigger-pipelines",
        "",
        "XNAT always starts the project's pipelines when it archives",
    ),
    _flag("xnatpy", "--quarantine", "", "the project's setting decides on quarantine"),
    _flag("xnatctl", "--skip-resources", "", "upload sends only DICOM"),
    _flag("xnatctl", "--zip-to-tar", "", "a zip is read in place"),
    _flag(
        "xnatctl",
        "--wait --wait-for-archive --wait-timeout",
        "",
        "a run always waits until XNAT has archived; see also prearchive wait",
    ),
    _flag("xnatctl", "--dry-run", "leaving out --yes", commands=("prearchive delete", "resource delete")),
    _flag("xnatctl", "--dry-run", "", "plan sends nothing", ("plan",)),
    _flag("xnatctl", "-y", "--yes", commands=("prearchive delete", "resource delete")),
    # how fast
    _flag("xnatio", "--batches", "--part-size", "how much one request carries"),
    _flag("xnatio", "--upload-workers --dicom-batches", "-w/--workers"),
    _flag("dicomUpload.py", "--procs", "-w/--workers", commands=_TREES),
    _flag("dicomUpload.py", "--procs", "the environment variable XNAT_INGEST_WORKERS", commands=("dicomUpload",)),
    _flag("xnatio", "--archive-workers", "", "parts are packed while they are sent"),
    _flag("dicomUpload.py", "--zipmode", "", "a zip in the place of a session is read directly"),
    _flag("dicomUpload.py", "--debugmode", "-v/--verbose", commands=_TREES),
    _flag("dicomUpload.py", "--debugmode", "the environment variable XNAT_INGEST_VERBOSE=2", commands=("dicomUpload",)),
    # DICOM receivers
    _flag("xnatctl", "--port", "--dicom-port"),
    _flag("xnatio", "--dicom-called-aet", "-aec/--called-aet"),
    _flag("xnatio", "--dicom-calling-aet", "-aet/--calling-aet"),
    _flag("storescu", "--call", "-aec/--called-aet"),
    _flag("storescu", "--aetitle", "-aet/--calling-aet"),
    _flag("xnatio", "--dicom-cleanup", "", "there are no temporary files"),
    _flag("xnatctl", "--tls", "--dicom-tls-ca"),
    _flag("xnatctl", "--tls-ca-bundle", "--dicom-tls-ca"),
    _flag("xnatctl", "--tls-cert", "--dicom-tls-cert"),
    _flag("xnatctl", "--tls-key", "--dicom-tls-key"),
    _flag("storescu", "+tls --enable-tls", "--dicom-tls-key and --dicom-tls-cert"),
    _flag("storescu", "+tla --anonymous-tls +cf --add-cert-file", "--dicom-tls-ca"),
    _flag("storescu", "-ic --ignore-peer-cert", "", "a receiver's certificate is always verified"),
    _flag("storescu", "-to -ts --socket-timeout -ta --acse-timeout -td --dimse-timeout", "--timeout"),
    _flag("storescu", "-pdu --max-pdu --max-send-pdu", "", "the receiver's limit is respected"),
    _flag("storescu", "+sd --scan-directories +r --recurse", "", "ROOT is always read with all its folders"),
    _flag(
        "storescu",
        "+sp --scan-pattern",
        "",
        "DICOM is recognised by content; a path rule in --config selects files by name",
    ),
    _flag("storescu", "--no-halt", "", "a run always goes on after an instance that fails, and names it"),
    _flag("storescu", "-R --required +C --combine", "", "exactly what the files need is proposed"),
    _flag(
        "storescu",
        "-xe -xb -xi -xs -xy -xx -xv -xw -xt -xu -xr -xd --propose-uncompr --propose-little --propose-big "
        "--propose-implicit --propose-lossless --propose-jpeg8 --propose-jpeg12 --propose-j2k-lossless "
        "--propose-j2k-lossy --propose-jls-lossless --propose-jls-lossy --propose-rle --propose-deflated",
        "",
        "each file's own transfer syntax is proposed",
    ),
    _flag("storescu", "+II --invent-instance +IR --invent-series +IS --invent-study", "", "UIDs are kept"),
    _flag("storescu", "+rn --rename", "--report", "files are never renamed"),
    _flag("storescu", "-usr -pwd", "", "a receiver only gets the AE title"),
    # output
    _flag("xnatctl", "-o --output", "--json", commands=_TABLES),
    _flag("xnatctl", "-o --output", "--report", commands=(*_TREES, "nifti")),
    _flag("xnatpy", "--output-format", "--json", commands=_TABLES),
    _flag("xnatctl", "--no-color", "", "there are no colours"),
    _flag("xnatctl", "--no-headers --columns --sort-by", "--json", commands=("prearchive list", "resource list")),
    _flag("xnatctl", "--filter", "a label, or --status", commands=("prearchive list",)),
    _flag("xnatctl", "--filter", "--label", commands=("resource list",)),
    _flag("xnatctl", "--limit", "", "all are listed", ("prearchive list", "resource list")),
    _flag("xnatctl", "--log-file", "--log-format json, with 2> FILE", commands=(*_TREES, "nifti")),
    _flag("dicomUpload.py", "--logname", "--report", commands=_TREES),
    _flag("dicomUpload.py", "--logname", "", "the log is stderr, the report is in --workdir", ("dicomUpload",)),
    _flag("xnatpy", "--loglevel", "-v/--verbose"),
    _flag("storescu", "-ll --log-level", "-v/--verbose"),
    _flag("storescu", "-d --debug", "-v/--verbose, given twice"),
)

COMMANDS = (
    _command("xnatio", "upload-dicom", "upload ROOT -P PROJECT -S SUBJECT -E LABEL"),
    _command("xnatio", "upload-zip", "upload ARCHIVE -P PROJECT -S SUBJECT -E LABEL"),
    _command("xnatio", "upload-resource", "resource put PATH -P PROJECT -S SUBJECT -E SESSION --label LABEL"),
    _command("xnatio", "download-session", "", _ONLY_IN),
    _command("xnatio", "extract-session", "", _ONLY_IN),
    _command("xnatio", "create-project", "", "create the project in XNAT"),
    _command("xnatio", "list-scans", "verify ROOT -P PROJECT --report FILE", "only scans that ROOT has"),
    _command("xnatio", "delete-scans", "", "archived data is never deleted, except resources"),
    _command("xnatctl", "session upload-dicom", "upload ROOT -P PROJECT --transport cstore"),
    _command("xnatctl", "session upload-exam", "upload for the DICOM, then resource put for each other folder"),
    _command("xnatctl", "session upload", "upload ROOT -P PROJECT -S SUBJECT -E LABEL"),
    _command("xnatctl", "session", "", _ONLY_IN),
    _command("xnatctl", "scan", "", _ONLY_IN),
    _command("xnatctl", "subject", "", "a subject is created with its first session"),
    _command("xnatctl", "project create", "", "create the project in XNAT"),
    _command("xnatctl", "project", "ping -P PROJECT"),
    _command("xnatctl xnatpy", "resource upload", "resource put PATH -P PROJECT --label LABEL"),
    _command("xnatctl", "resource show", "resource list --label LABEL"),
    _command("xnatctl", "resource download", "", _ONLY_IN),
    _command("xnatctl", "prearchive settings", "ping -P PROJECT", "shows the setting, does not change it"),
    _command("xnatctl", "whoami", "ping"),
    _command("xnatctl", "health ping", "ping"),
    _command("xnatctl", "auth", "ping", "each run logs in by itself"),
    _command("xnatctl", "config", "", f"there are no profiles, but {_ENVIRONMENT}, and --config FILE"),
    _command("xnatctl", "dicom inspect", "plan ROOT -P PROJECT"),
    _command("xnatctl", "dicom", "", "files are sent as they are"),
    _command("xnatctl", "command create", "command register"),
    _command("xnatctl", "command update", "command register"),
    _command("xnatpy", "import", "upload ROOT -P PROJECT -S SUBJECT -E LABEL"),
    _command("xnatpy", "login", "ping", "each run logs in by itself"),
    _command("xnatpy", "download", "", _ONLY_IN),
    _command("bxl", "resource_creator.py", "resource put PATH -P PROJECT --label LABEL"),
    _command(
        "bxl", "migrate_session.py", "upload ARCHIVE -P PROJECT --layout headers", "of a session downloaded before"
    ),
    _command("bxl", "pipeline_launcher.py", "", "pipelines are started in XNAT"),
    _command("storescu", "storescu", "upload ROOT -P PROJECT --transport cstore --dicom-host HOST"),
    _command("storescu", "echoscu", "ping --transport cstore --dicom-host HOST"),
)


def flag_sentence(word: str, following: str, command: Sequence[str]) -> str:
    """What to use instead of a flag; "" when no known tool has it.

    following: the word after it.
    command: our command, such as ("prearchive", "list").
    """
    name, equals, value = word.partition("=")
    value = value if equals else following
    rows = [row for row in FLAGS if name in row.names or f"{name}={value}" in row.names]
    rows = [row for row in rows if not row.commands or any(_covers(one, command) for one in row.commands)]
    # An entry for this value or this command is better than the same tool's general one.
    valued = [row for row in rows if name not in row.names] or rows
    special = {tool for row in valued if row.commands for tool in row.tools}
    found = [row for row in valued if row.commands or special.isdisjoint(row.tools)]
    if not found:
        return ""
    said = f"{name} {value}" if name not in found[0].names else name
    if not found[0].here:
        return f"{said} is another tool's flag; leave it out: {found[0].why}"
    ways = dict.fromkeys(row.here for row in found if row.here)
    if len(ways) > 1:
        tools = {here: ", ".join(tool for row in found if row.here == here for tool in row.tools) for here in ways}
        return f"{said} is a flag of other tools; here it is {'; or '.join(f'{h} (of {t})' for h, t in tools.items())}"
    return f"{said} is another tool's flag; here it is {found[0].here}{_note(found[0].why)}"


def command_sentence(words: Sequence[str]) -> str:
    """What to use instead of another tool's command; "" when the words are not one. words: of the command line."""
    found = next((one for one in COMMANDS if list(words[: len(one.name.split())]) == one.name.split()), None)
    if found is None:
        return ""
    if not found.here:
        return f"{found.name} is another tool's command; there is none here: {found.why}"
    return f"{found.name} is another tool's command; here it is {found.here}{_note(found.why)}"


def _covers(name: str, command: Sequence[str]) -> bool:
    words = name.split()
    return list(command[: len(words)]) == words


def _note(why: str) -> str:
    return f" ({why})" if why else ""
