"""Pages that are made from the program, and the image's labels: `make pages` writes them anew.

A test holds that they are what this would write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from xnat_ingest.commands.container.document import labels, load_command
from xnat_ingest.core.errors import EXIT_MEANING
from xnat_ingest.core.model import NOTES
from xnat_ingest.report.advice import PROBLEMS, REASONS, VERDICTS, Advice
from xnat_ingest.settings.options import TABLE, env_name, flag, help_text

ROOT = Path(__file__).parent.parent


def settings() -> str:
    """docs/settings.md."""
    return "\n".join(_settings()) + "\n"


def _settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Each option is a flag, an environment variable and a key of the config file (`--config FILE`, JSON)."
    yield "A flag comes before the environment, the environment before the config file, the file before the default."
    yield "Rules (`exclude`, `include`) add up over all of these. `-vv` shows each value and where it came from."
    yield ""
    yield "The server and the credentials also come from `XNAT_HOST`, `XNAT_USER` and `XNAT_PASS` (or `XNAT_URL`,"
    yield "`XNAT_SERVER`, `XNAT_USERNAME`, `XNAT_PASSWORD`), from `--password-file`, from `~/.netrc`, or from a prompt,"
    yield "in this order. If `XNAT_HOST` names another server than the one that is used, `--password-file` comes first."
    yield "No flag takes a password."
    groups: dict[str, list[str]] = {}
    for name, row in TABLE.items():
        groups.setdefault(row.group, []).append(name)
    for group, names in groups.items():
        yield ""
        yield f"## {group[0].upper()}{group[1:]}"
        yield ""
        yield "| flag | environment | what it does | commands |"
        yield "|---|---|---|---|"
        for name in names:
            row = TABLE[name]
            shown = f"`{row.short}/{flag(name)}`" if row.short else f"`{flag(name)}`"
            value = f" `{row.metavar}`" if row.metavar else ""
            yield f"| {shown}{value} | `{env_name(name)}` | {_cell(help_text(name))} | {', '.join(row.commands)} |"


def troubleshooting() -> str:
    """docs/troubleshooting.md."""
    return "\n".join(_troubleshooting()) + "\n"


def _troubleshooting() -> Iterator[str]:
    yield "# Troubleshooting"
    yield ""
    yield "Look up the word that the summary, the page or `report.json` shows. The sentence beside it in the report names"
    yield "the files, folders and sessions."
    yield ""
    yield "## Exit codes"
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    for code, meaning in EXIT_MEANING.items():
        yield f"| {int(code)} | {_cell(meaning)} |"
    yield ""
    yield "## What became of a session (`sessions[].verdict`)"
    yield ""
    yield from _rows(VERDICTS, ordered=False)
    yield ""
    yield "The last line of a run has no column for what is counted. A run that ends with `8 planned, 0 verified, 0 missing,"
    yield "0 failed` and `exit 0` has counted 8 instances, and a line above says so."
    yield ""
    yield "## Problems (`problems[].kind`)"
    yield ""
    yield from _rows(PROBLEMS)
    yield ""
    yield "## Files set aside (`set_aside[].reason`)"
    yield ""
    yield "`blank` is said of DICOM folders, and `empty` by `xnat-ingest nifti`. Other empty files are `not-dicom`."
    yield ""
    yield "Files of these kinds make exit code 3:"
    yield ""
    yield from _rows({word: advice for word, advice in REASONS.items() if word not in NOTES})
    yield ""
    yield "These are notes. They do not change the exit code, unless `--strict` is given:"
    yield ""
    yield from _rows({word: advice for word, advice in REASONS.items() if word in NOTES})
    yield ""
    yield COMPLAINTS.strip()


def _rows(table: dict[str, Advice], *, ordered: bool = True) -> Iterator[str]:
    yield "| word | what you see | what to do |"
    yield "|---|---|---|"
    for word, advice in sorted(table.items()) if ordered else table.items():
        yield f"| `{word}` | {_cell(advice.means)} | {_cell(advice.fix)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


COMPLAINTS = """
## What people ask most often

**1. "Upload included files for multiple imaging sessions", then repairs in the prearchive.** One folder holds two studies: someone was registered twice, or a capture was saved beside the scan. Nothing of that session is sent (`two-studies`). Split the folder, use `--split-studies`, or use `--layout headers`.

**2. The upload looked finished, but series are incomplete.** Run `xnat-ingest verify` on the same folder: it names every instance that is not there. If the server's series import filter dropped them, the report says `server-filter` and names the rule. Then run `upload` again: only what is missing is sent.

**3. An upload is marked complete although a file beside the images failed.** Files that are not DICOM go by `xnat-ingest resource put`. It looks for each file in the server's listing and ends with 3 when one is not there. The same command again sends what is missing.

**4. The direct archive is slower than it should be, or does nothing.** The server falls back to the prearchive when the session exists already. That is noticed, and the session is finished through the prearchive. The report says where it is.

**5. I want to push thousands of files from Python.** `from xnat_ingest import upload`: see [Python](api.md). With `destination="prearchive"` the sessions are left there, ready, for somebody to look at.

**6. The server says 400, 422 or 500 and no reason; or the wrong project was noticed after the upload.** `xnat-ingest ping -P MYPROJECT` tells before the first byte whether the login works, what you may do, and what the project's settings will do. An error of the server is told with the server's own sentence. A session that the server put into another project is `rerouted`: it is named and left alone.

**7. Archives with equal series numbers stick in the prearchive and fail every night.** Two series of one number are told apart (`same-number`). What shall never be sent is left out by a rule: `--exclude 'path=007/pre/**'`, or a line in the config file. A rule of yours does not make the exit code 3.

**8. One unreadable file stops the import, and half a session is archived.** Every file is read before anything is sent. One that cannot be sent is set aside (`unreadable`, `truncated`, `not-dicom`) and named. A session is archived only after all that was sent is seen in it.

**9. The login is lost in a long upload.** One login serves all connections and is kept alive. When the server forgets it all the same, there is one new login, and the request is repeated. Proxies that answer 502 are waited for. When all fails, run the same command again: it sends only what is missing.

**10. "Invalid modification of session UID".** The label belongs to another study on the server (`other-study`). Nothing is sent. Give this session another label with a sheet (`--labels`), or look which of the two folders is wrong.

**11. Where are my data? / My session is in CONFLICT.** `xnat-ingest prearchive list -P MYPROJECT --status CONFLICT` shows it with the server's last word. Archiving it as it is fails again for the same reason. Three things do work:

- It is an older upload of the same session: run your `upload` again, which finishes it.
- You want to keep it: `xnat-ingest prearchive archive -P MYPROJECT LABEL --label NEW` archives it under a label that is free.
- You do not need it: `xnat-ingest prearchive delete -P MYPROJECT LABEL --yes` deletes it with its files.

[Quick start](quick-start.md#a-session-is-in-conflict) shows it step by step.

**12. The upload freezes my machine, or is slow.** `--workers 1` sends one part at a time. To be faster, try `--workers 8`; on a slow line, parts are sent as zips after the first one (`--archive-format`). The timeline on the page of a run shows where the time went.

**13. "Unexpected condition" when archiving; the proxy cuts large bodies (413, resets).** Parts are halved by themselves after a 413 or a second reset. If that is not enough, use `--part-size 16M` or `--transport gradual`. A server that fails while archiving is `server-fault` or `not-archived`: what it said stands beside the word, and is what its administrator needs.

**14. I need a list with a line for each session that a coordinator can read and run again.** `--csv table.csv` writes it, `--html report.html` is the page. The same `upload` command again is safe at any time.

**15. I want the original file names, or must check counts by hand.** XNAT names files by study, series and instance. The report's paths and the server's names belong together by SOP Instance UID. Counts are checked for you: `verified` means that each instance was seen. PET and MR of one study become two sessions where the project says so (`petmr-split`): split the folder, or ask the project's owner to change that setting.

## Other questions

**I uploaded a session under a wrong label.** See [Labels](labels.md#a-label-was-wrong-and-the-session-is-on-the-server).

**`verify` says MISSING, but the upload was fine.** Give it the same labels as the upload: the label sheet (`--labels`), the templates, or `-S` and `-E`. If the study is archived under another label, a line `other-label` names it.

**I get 401, 403 or exit code 6.** On sites with single sign-on your usual password does not work here. Make an alias token on your XNAT account page, and use its alias as the user and its secret as the password.

**The subject `007` became `7`.** A spreadsheet did it. Such a label is a conflict here (`label-changed`). Write `'007` into the cell, or use the sheet that `plan --labels-template` writes, where such cells are text.

**A part of my files is not sent.** The report lists every file that was set aside, with its reason. `--strict` makes the run end with 3 when a file was left out without a rule of yours.

**Can I upload again after the site's administrator changed the anonymisation?** Yes, with `--existing overwrite`. Without it, what is there is left as it is.

**Nothing helps.** Run with `-vv` and read the log. If it says that this is a bug, report the block that it prints.
"""


def report() -> str:
    """docs/report.md."""
    return "\n".join(_report()) + "\n"


def _report() -> Iterator[str]:
    yield REPORT.strip()
    whole = _schema("report")
    yield ""
    yield from _keys(whole)
    for name, title in PARTS.items():
        yield ""
        yield f"### {title}"
        yield ""
        part = whole["$defs"][name]
        if "description" in part:
            yield from (part["description"], "")
        if "properties" in part:
            yield from _keys(part)
    yield ""
    yield LOG.strip()
    events = _schema("events")
    yield ""
    yield from _keys(events)
    for one in events["oneOf"]:
        name = one["$ref"].rpartition("/")[2]
        part = events["$defs"][name]
        yield ""
        yield f"### `{name}`"
        yield ""
        yield part["description"]
        keys = {key: value for key, value in part["properties"].items() if key != "event"}
        if keys:
            yield ""
            yield from _keys({"properties": keys})


def _schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (resources.files("xnat_ingest.report") / f"{name}.schema.json").read_text("utf-8")
    )
    return found


def _keys(part: dict[str, Any]) -> Iterator[str]:
    yield "| key | what it is |"
    yield "|---|---|"
    for key, value in part["properties"].items():
        yield f"| `{key}` | {_cell(value['description'])} |"


# Parts of the report's schema, in the order in which a reader meets them.
PARTS = {
    "totals": "`totals`",
    "session": "`sessions[]`",
    "verdict": "`sessions[].verdict`",
    "scan": "`sessions[].scans[]`",
    "unproven": "`sessions[].unproven[]`",
    "aside": "`set_aside[]`",
    "problem": "`problems[]` and `sessions[].problems[]`",
    "proof": "`proof`",
    "not_compared": "`proof.skipped[]`",
    "deidentification": "`deidentification`",
    "not_searched": "`deidentification.not_searched[]`",
    "launch": "`launch`",
    "merged": "`merged[]`",
}

REPORT = """
# What comes out

The last line on stdout is `N planned, N verified, N missing, N failed, N set aside: exit C`. The [exit code](troubleshooting.md#exit-codes) says the same to scripts.

| file | for |
|---|---|
| `--html FILE` | people: what is wrong and what to do first, then session by session, with small pictures of the series, but not of objects that may show a name in their pixels |
| `--report FILE` | programs, and for later: JSON, described below |
| `--csv FILE` | spreadsheets: one line for each session |
| `--junit FILE` | CI systems: JUnit XML, a test case for each session. None fails at exit code 0; one that was not checked (`--no-verify`) is skipped |
| `--log-format json` | log collectors: stderr as JSON lines, described below |

![The page of a run with two problems](pictures/trouble.png)

In GitHub Actions the sessions that need attention become annotations (errors, or notices at exit code 0), and the step's summary gets a table.

What a run writes replaces nothing but an earlier file of its own kind, never an input. A report of a run that ended better is kept beside the new one (`report.1.json`). Names, birth dates and other identifying header values of patients do not appear in output. Labels, paths relative to ROOT, series descriptions and UIDs do.

A saved report becomes a page or JUnit XML later, and the schemas come out of the program:

```
xnat-ingest report show report.json --html report.html --junit junit.xml
xnat-ingest report schema > report.schema.json
xnat-ingest report schema events > events.schema.json
```

`report show` and `report merge` read what a report may hold by its schema. Anything else is refused, exit 1, with its place.

## The JSON report

It is written to a temporary file and renamed, also when the run fails. Later versions may add keys; none is renamed or removed while `schema` is 1.
"""

LOG = """
## The JSON log

Each line of stderr is one object. Later versions may add events and keys.
"""

LABELS = "# From command.json, by `make pages`:\n"


def dockerfile() -> str:
    """Dockerfile, whose last lines are the labels. In single quotes nothing is special but the quote itself."""
    above = (ROOT / "Dockerfile").read_text("utf-8").partition(LABELS)[0]
    lines = []
    for name, value in labels(load_command()).items():
        quoted = value.replace("'", r"\u0027")
        lines.append(f"LABEL {name}='{quoted}'\n")
    return above + LABELS + "".join(lines)


PAGES = {
    "docs/settings.md": settings,
    "docs/troubleshooting.md": troubleshooting,
    "docs/report.md": report,
    "Dockerfile": dockerfile,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), "utf-8")
        print(name)
