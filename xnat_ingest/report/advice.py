"""What each word of a report means, and what to do about it: for the page, and for docs/troubleshooting.md.

A test holds that every kind of problem and every reason that the code can give has its row here.
"""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """means: what you see.
    fix: what to do, "" when nothing needs to be done.
    """

    means: str
    fix: str = ""


PROBLEMS: dict[str, Advice] = {
    "ambiguous-label": Advice(
        "A label template uses a DICOM keyword that has several values within one session.",
        "Use another keyword or the folder names, or name the session in a label sheet (--labels).",
    ),
    "bad-sidecar": Advice(
        "A JSON file beside a NIfTI image cannot be read.", "Mend the file, or leave it out with --exclude."
    ),
    "blank": Advice(
        "Files that should be images hold nothing but zero bytes.",
        "Copy them again from the scanner or the backup. To go on without them, leave them out with --exclude.",
    ),
    "bug": Advice(
        "xnat-ingest met an error that it does not know. Nothing of this session is proven.",
        "Run the same command again. If it happens again, report the block that was printed.",
    ),
    "burned-in": Advice(
        "Objects that may have a patient's name written into the pixels were not sent.",
        "Look at them, then allow them or blacken the text in your profile (docs/deidentify.md).",
    ),
    "corrupt": Advice(
        "What the server stored differs from what was sent.",
        "Tell the server's administrator. If a script on the server changes pixels on purpose, use --proof listing.",
    ),
    "left-beside": Advice(
        "Files that lie beside NIfTI images are neither images nor sidecars, and were not sent.",
        "Store them with xnat-ingest resource put if they matter.",
    ),
    "dicomdir-absent": Advice(
        "The DICOMDIR names files that are not there: the medium was copied incompletely.",
        "Copy the medium again.",
    ),
    "dicomdir-unreadable": Advice("The DICOMDIR cannot be read. All files were still judged by their content."),
    "dicomdir-unreferenced": Advice(
        "There are DICOM files that the DICOMDIR does not name. They are sent all the same."
    ),
    "doubled": Advice("The server lists some instances of this session twice.", "Delete one copy of each in XNAT."),
    "duplicate": Advice("The same instance is there twice with the same bytes. One copy is sent."),
    "event-handler": Advice(
        "A Python program's own event handler failed. The run went on without it.", "Mend the handler."
    ),
    "existing": Advice(
        "The session is archived already, and --existing fail stops the run then.",
        "Use --existing resume to add what is missing, or skip to leave archived sessions alone.",
    ),
    "followed-links": Advice("Links that lead out of ROOT were followed, as --follow-links says."),
    "filter-not-evaluated": Advice(
        "The server filters incoming series by a rule that cannot be judged here. What it drops shows as missing.",
        "Compare what is missing with the filter on XNAT's page Administer > Site Administration.",
    ),
    "foreign-row": Advice(
        "The prearchive holds a session with this label that another tool or user sent.",
        "Archive or delete it first: xnat-ingest prearchive list, then archive or delete.",
    ),
    "identifying": Advice(
        "The headers of this session tell who the patient is, and --require-deidentified forbids that.",
        "De-identify with --deidentify PROFILE. xnat-ingest identity shows which elements it is about.",
    ),
    "identifying-sidecar": Advice(
        "A JSON file beside a NIfTI image has fields that may name the patient.",
        "Remove these fields, or leave the file out with --exclude.",
    ),
    "illegal-label": Advice(
        "A label is empty or longer than 64 characters, or some of its characters were replaced by an underscore.",
        "Rename the folder, or give the label in a sheet (--labels).",
    ),
    "insecure": Advice(
        "The server's certificate was not verified, because --insecure was given.",
        "Give the certificate with --ca-bundle instead.",
    ),
    "label-collision": Advice(
        "Two different folders would become one session or one subject.",
        "Rename a folder, or give the labels one by one in a sheet: plan --labels-template, then upload --labels.",
    ),
    "label-changed": Advice(
        "A label in the sheet looks like what a spreadsheet makes of another one: 7 for 007.",
        "Write it with its zeros, as text. If it is meant so, put an apostrophe before it.",
    ),
    "label-default": Advice(
        "The label sheet does not name these sessions.",
        "Add them to the sheet (plan --labels-template writes a fresh one), or use --labels-partial.",
    ),
    "label-sheet": Advice("The label sheet was not in UTF-8 and was read as Windows-1252.", "Save it as CSV UTF-8."),
    "label-study": Advice(
        "The label sheet gives a folder another study than it holds: its lines may have been sorted apart.",
        "Correct the lines, or empty the column study_uid to go by the folders alone.",
    ),
    "label-unused": Advice(
        "The label sheet has a line that no session in the tree matches.",
        "Correct or remove the line, or use --labels-partial.",
    ),
    "live-row": Advice(
        "Somebody else is sending into the same session right now.", "Wait until that has ended, then run again."
    ),
    "mixed-patients": Advice(
        "One session or subject folder holds several patients.",
        "Check ROOT: it may be one level too high. If it is right, use --allow-mixed-patients.",
    ),
    "mixed-series": Advice("A folder of NIfTI images holds several series.", "Give each series a folder of its own."),
    "name-collision": Advice(
        "XNAT would store two instances under one file name.", "Send one of the two in a session of its own."
    ),
    "new-subject": Advice("The project asks upload tools not to create subjects. XNAT takes them all the same."),
    "nifti": Advice("There are NIfTI images here and no DICOM.", "Use xnat-ingest nifti."),
    "not-archived": Advice(
        "The instances lie in the prearchive and not in the archive.",
        "Archive the session on XNAT's prearchive page, or run upload again.",
    ),
    "one-patient": Advice(
        "All subjects have one and the same PatientID. ROOT may lie a level too deep, or the data were anonymised so.",
        "If ROOT is a subject's folder, give the folder above it.",
    ),
    "one-spelling": Advice("Two subject folders differ only in how an accent is written. They are one subject."),
    "not-read-back": Advice(
        "The server listed these instances, but they could not be read back to be compared.",
        "Run xnat-ingest verify later. If it stays so, ask the administrator to look at these files.",
    ),
    "one-top-folder": Advice(
        "Everything in the archive lies in one folder, so it may have been packed with one folder too many.",
        "Pack the archive from inside: tar czf study.tar.gz -C study .",
    ),
    "other-label": Advice(
        "The study is archived already, under another label.",
        "Use that label (--labels or -E), or delete the other session in XNAT if it is wrong.",
    ),
    "other-series": Advice(
        "The scan number is taken by another series in this session.", "Give the scan another folder name."
    ),
    "other-study": Advice(
        "The label is taken by another study.", "Give this session another label (--labels), or check the folder."
    ),
    "other-subject": Advice(
        "The session's label belongs to another subject in the project.",
        "Check the subject folder, or give the session another label (--labels).",
    ),
    "other-type": Advice("The session exists already, with another type.", "Check the session's label."),
    "petmr-split": Advice(
        "The project separates PET from MR, and this session holds both.",
        "Split the session's folder, or ask the project's owner to change the PET/MR setting.",
    ),
    "receiver-note": Advice("The DICOM receiver took the instances and added a remark."),
    "refused": Advice(
        "The server refuses this user or this project.",
        "Check the user name, the password and the project's id. xnat-ingest ping -P PROJECT shows what is allowed.",
    ),
    "rerouted": Advice(
        "The server put the files into another project or into Unassigned. Nothing was committed.",
        "Check the project's id, and ask an administrator to look in the prearchive.",
    ),
    "root-too-high": Advice("ROOT looks one level too high.", "Give the folder below it as ROOT."),
    "rule-unused": Advice(
        "An exclusion rule matched nothing.", "Check its spelling. Case counts without --ignore-case."
    ),
    "run-failed": Advice(
        "The run ended before its end.", "The sentence says why. Run the same command again after that."
    ),
    "same-number": Advice(
        "Two series have one series number, and XNAT would not merge what is sent now with what is archived.",
        "Upload a tree that holds all series of that number, with --destination archive.",
    ),
    "sent-by-another-tool": Advice(
        "The series is on the server under names that do not tell its instances, and it has fewer of them.",
        "Use --existing overwrite to send the whole series.",
    ),
    "server-fault": Advice(
        "The server failed or broke off.", "Run the same command again. It sends only what is missing."
    ),
    "server-filter": Advice(
        "The server's series import filter would drop these instances, so they were not sent.",
        "If they are wanted, ask the project's owner to change the filter, or use --ignore-server-filter.",
    ),
    "shard-absent": Advice(
        "The report of a shard is missing, so what it was to send is not proven.",
        "Run that shard again, then merge all reports.",
    ),
    "source-changed": Advice(
        "A file changed while it was sent.", "Wait until nothing writes to the tree, then run again."
    ),
    "split-study": Advice(
        "One study lies in two session folders.",
        "Put it into one folder, or use --layout headers to ignore the folders.",
    ),
    "stale-row": Advice(
        "An older upload of this session still lies in the prearchive. The archive has everything.",
        "Delete it when nobody needs it: xnat-ingest prearchive delete.",
    ),
    "studies-split": Advice("One folder holds several studies, and --split-studies made a session of each."),
    "subject-exists": Advice(
        "Characters of a subject's name were replaced, and the result is the label of another subject in the project.",
        "If it is the same person, give the label in a sheet (--labels). If it is not, rename the folder.",
    ),
    "strict": Advice(
        "Files were left out without a rule of yours, and --strict takes that for a problem.",
        "Write a rule for them (--exclude), or mend them.",
    ),
    "truncated-sent": Advice(
        "Files that end before their data ends were sent as they are, because --accept-truncated was given."
    ),
    "two-studies": Advice(
        "One session folder holds two studies.",
        "Split the folder, use --split-studies to make a session of each, or --layout headers to ignore the folders.",
    ),
    "unfinished": Advice(
        "An upload of this session was not finished. What it sent lies in the prearchive.",
        "Run upload again: it sends what is missing and finishes the session.",
    ),
    "unknown-type": Advice("No session type is known for this modality.", "Give --session-type."),
}

REASONS: dict[str, Advice] = {
    "bad-nifti": Advice("Not a NIfTI image, in spite of its name.", "Convert it again, or leave it out."),
    "blank": PROBLEMS["blank"],
    "burned-in": PROBLEMS["burned-in"],
    "conflicting-duplicate": Advice(
        "The same instance is there twice, with different bytes. The first one is sent.",
        "Find out which copy is right and leave the other out.",
    ),
    "dicomdir": Advice("The directory of a DICOM medium. XNAT does not need it."),
    "dicomdir-absent": PROBLEMS["dicomdir-absent"],
    "duplicate": PROBLEMS["duplicate"],
    "empty": Advice("The file has no bytes.", "Copy it again from where it came."),
    "excluded": Advice("Left out by a rule of yours."),
    "illegal-name": Advice("XNAT does not take this file name.", "Rename the file."),
    "link": Advice(
        "A symbolic link that leads out of ROOT, in a circle or into another session.",
        "Upload its target on its own if it is needed.",
    ),
    "nested-archive": Advice("An archive inside the tree that holds no images."),
    "no-image": Advice("A sidecar without an image beside it.", "Find the image, or leave the file out."),
    "no-uid": Advice("The header lacks one of the UIDs that place an instance.", "Export it again from its source."),
    "not-dicom": Advice("Not a DICOM file."),
    "other-shard": Advice("Another shard of this run sends it."),
    "not-deidentifiable": Advice(
        "The header cannot be rewritten safely, so the file was not sent.",
        "Export it again from its source, or leave it out with --exclude.",
    ),
    "outside-layout": Advice(
        "DICOM that lies above the session folders.", "Check --layout, or move the file into a session folder."
    ),
    "residual-identifier": Advice(
        "A removed identifier was found again elsewhere in the header, so the file was not sent.",
        "The detail names the element. Add a rule for it to your profile (docs/deidentify.md).",
    ),
    "server-filter": PROBLEMS["server-filter"],
    "session-exists": Advice("The session is archived already, and --existing skip leaves it alone."),
    "source-changed": PROBLEMS["source-changed"],
    "system-folder": Advice("A hidden or system folder (.git, @eaDir, lost+found and the like). It was left out."),
    "too-large": Advice("It would unpack to far more than its archive's size.", "Unpack it yourself if that is right."),
    "truncated": Advice(
        "The file ends before its data ends.",
        "Copy it again from where it came. --accept-truncated sends it as it is.",
    ),
    "unreadable": Advice("The file cannot be read.", "Check its permissions, or copy it again."),
    "unsafe-name": Advice("The name in the archive leads out of it, or is a link.", "Pack the archive again."),
}


def advice_on(kind: str) -> Advice:
    """The row of a problem's kind or of a reason, without what stands behind a colon."""
    word = kind.partition(":")[0]
    return PROBLEMS.get(word) or REASONS.get(word) or Advice("")
