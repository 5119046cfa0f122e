"""Pages that are made from the program, and the image's labels: `make pages` writes them anew.

A test holds that they are what this would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xnat_ingest.commands.container.document import labels, load_command
from xnat_ingest.core.errors import EXIT_MEANING
from xnat_ingest.core.model import NOTES
from xnat_ingest.report.advice import PROBLEMS, REASONS, Advice
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
    yield "`XNAT_SERVER`, `XNAT_USERNAME`, `XNAT_PASSWORD`), from `--password-file`, from `~/.netrc`, or from a prompt."
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
    yield "## Problems (`problems[].kind`)"
    yield ""
    yield from _rows(PROBLEMS)
    yield ""
    yield "## Files set aside (`set_aside[].reason`)"
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


def _rows(table: dict[str, Advice]) -> Iterator[str]:
    yield "| word | what you see | what to do |"
    yield "|---|---|---|"
    for word, advice in sorted(table.items()):
        yield f"| `{word}` | {_cell(advice.means)} | {_cell(advice.fix)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


COMPLAINTS = """
## What people ask most often

**Where are my data?** Run `xnat-ingest verify` on the same folder. It names what is missing, and an unfinished upload that still lies in the prearchive. `xnat-ingest prearchive list -P PROJECT` shows what lies there and why.

**The upload said success, but series are missing.** That is what this program is for: compare with `verify`. If the server's series import filter dropped them, the report says `server-filter` and names the rule.

**My session is in CONFLICT.** `xnat-ingest prearchive list -P PROJECT` shows the server's last word on it. If it is an older upload of the same session, run `upload` again: it finishes what is unfinished. If it is somebody else's, delete or archive it first (`xnat-ingest prearchive delete` or `archive`), then run again.

**One folder holds two studies.** Someone was registered twice, or a stray capture was saved beside the scan. Split the folder, use `--split-studies`, or use `--layout headers`.

**I get 401, 403 or exit code 6.** Run `xnat-ingest ping -P PROJECT`. It says whether the login works and what you may do. On sites with single sign-on your usual password does not work here: make an alias token on your XNAT account page, and use its alias as the user and its secret as the password.

**The proxy cuts large uploads (413, resets).** Parts are halved by themselves. If that is not enough, use `--part-size 16M` or `--transport gradual`.

**It broke off after hours.** Run the same command again. It asks the server what is there and sends only what is missing.

**PET and MR went into two sessions.** The project separates them. The report says `petmr-split`. Split the folder, or ask the project's owner to change that setting.

**The subject `007` became `7`.** A spreadsheet did it. Such a label is a conflict here. Write `'007` into the cell, or use the sheet that `plan --labels-template` writes, where such cells are text.

**A part of my files is not sent.** The report lists every file that was set aside, with its reason. `--strict` makes the run end with 3 when a file was left out without a rule of yours.

**It is slow.** `--workers 8` sends more at once. On a slow line `--archive-format zip` sends fewer bytes. The page of a run shows where the time went.

**I need the original names of my files.** XNAT names files by study, series and instance. The report's paths and the server's names belong together by SOP Instance UID.

**The direct archive is slower than before.** The server falls back to the prearchive when the session exists already. The report says so.

**Can I upload again after the site's administrator changed the anonymisation?** Yes, with `--existing overwrite`. Without it, what is there is left as it is.

**Nothing helps.** Run with `-vv` and read the log. If it says that this is a bug, report the block that it prints.
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
    "Dockerfile": dockerfile,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), "utf-8")
        print(name)
