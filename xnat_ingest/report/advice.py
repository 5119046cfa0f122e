"""What each word in a report means, and what to do about it. Used by the HTML page and docs/troubleshooting.md.

A test checks that every kind of problem and every reason in the code has a row here.
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
        "Use another keyword or the folder names, or list the session in a label sheet (--labels).",
    ),
    "bad-sidecar": Advice(
        "A JSON file beside a NIfTI image cannot be read.", "Repair the file, or leave it out with --exclude."
    ),
    "blank": Advice(
        "Files are empty, contain only zero bytes, or are pointers of Git LFS or git-annex, where an image is "
        "expected: beside images, where other sessions have theirs, or alone in a session's folder.",
        "Copy them again from the scanner or the backup, or leave them out with --exclude path=FILE.",
    ),
    "bug": Advice(
        "xnat-ingest stopped at an unexpected error. Nothing of this session is proven.",
        "Run the same command again. If it happens again, report the block that was printed.",
    ),
    "burned-in": Advice(
        "Objects that may show a patient's name in their pixels were not sent.",
        "Look at them. Then allow them in your profile, or blacken the text (docs/deidentify.md).",
    ),
    "corrupt": Advice(
        "What the server stored differs from what was sent.",
        "Report it to the server's administrator. If a script there changes pixels on purpose, use --proof listing.",
    ),
    "left-beside": Advice(
        "Files beside NIfTI images that are neither images nor sidecars were not sent.",
        "If they matter, store them with xnat-ingest resource put.",
    ),
    "dicomdir-absent": Advice(
        "The DICOMDIR lists files that do not exist, or hold no image any more: the medium was only partly copied.",
        "Copy the medium again.",
    ),
    "dicomdir-unreadable": Advice("The DICOMDIR cannot be read. All files were still judged by their content."),
    "dicomdir-unreferenced": Advice(
        "The DICOMDIR does not list some DICOM files, or lists other UIDs than all of them have."
        " They are sent all the same."
    ),
    "doubled": Advice("The server lists some instances of this session twice.", "Delete one copy of each in XNAT."),
    "duplicate": Advice("The same instance exists twice with the same bytes. One copy is sent."),
    "empty-folder": Advice(
        "A folder below ROOT has nothing in it, so nothing of it was sent.",
        "If images belong there, copy them again, or mount the disk that they are on. Else this is fine.",
    ),
    "event-handler": Advice(
        "A Python program's own event handler failed. The run went on without it.", "Fix the handler."
    ),
    "existing": Advice(
        "The session is already archived, so --existing fail stopped the run.",
        "Use --existing resume to add what is missing, or skip to leave archived sessions alone.",
    ),
    "elements-returned": Advice(
        "The server has written something into elements that --deidentify had removed.",
        "Look at them in XNAT. A script of the site or the project fills them.",
    ),
    "files-in-the-way": Advice(
        "Files of these names lie where XNAT would archive the session, and it has no such session. A session that was "
        "deleted without its files leaves them.",
        "Run again with --existing overwrite to replace them, or have an administrator remove them.",
    ),
    "followed-links": Advice("Links that point outside ROOT were followed, because --follow-links was given."),
    "filter-not-evaluated": Advice(
        "The server's series import filter cannot be evaluated here. What it drops shows as missing.",
        "Compare what is missing with the filter on XNAT's page Administer > Site Administration.",
    ),
    "foreign-row": Advice(
        "The prearchive has a session with this label or study that this program did not make for this session.",
        "If it holds another study, give this session another label. If it holds the same study, archive it "
        "(xnat-ingest prearchive archive, with --label NEW if it is in CONFLICT) or delete it (prearchive delete). "
        "Then run again.",
    ),
    "reidentified": Advice(
        "The server holds a name, an identifier or a date again that --deidentify had removed.",
        "Have the anonymisation script of the site or the project changed, then delete these objects in XNAT. If a run "
        "without --deidentify sent them, delete them and run again. If it had another profile, send them again with "
        "--existing overwrite.",
    ),
    "identifying": Advice(
        "The headers of this session identify the patient, and --require-deidentified forbids that.",
        "De-identify with --deidentify PROFILE. xnat-ingest identity shows the elements.",
    ),
    "identifying-sidecar": Advice(
        "A JSON file beside a NIfTI image has fields that may identify the patient.",
        "Remove these fields, or leave the file out with --exclude.",
    ),
    "illegal-label": Advice(
        "A label cannot be used as it is. Characters that XNAT does not take become an underscore, and the session is "
        "sent. A label that is empty or longer than 64 characters holds the session back.",
        "If you want another label, rename the folder, or give the label in a label sheet (--labels).",
    ),
    "insecure": Advice(
        "The server's certificate was not verified, because --insecure was given.",
        "Give the certificate with --ca-bundle instead.",
    ),
    "images-missing": Advice(
        "Images of the session could not be read or sent. XNAT would archive the rest as a session of another type, "
        "and then refuse to add them.",
        "Mend the files that are named, then run again. Or leave them out with --exclude.",
    ),
    "label-collision": Advice(
        "Two different folders would become one session or one subject.",
        "Rename a folder, or give the labels in a label sheet: plan --labels-template, then upload --labels.",
    ),
    "label-changed": Advice(
        "A spreadsheet seems to have changed a label in the sheet, such as 007 to 7.",
        "Write it as text, as it was. If it is correct, put an apostrophe before it.",
    ),
    "label-default": Advice(
        "These sessions are not in the label sheet, or it does not tell them apart.",
        "Add them to the sheet (plan --labels-template writes a fresh one), or use --labels-partial.",
    ),
    "label-sheet": Advice("The label sheet was not in UTF-8 and was read as Windows-1252.", "Save it as CSV UTF-8."),
    "label-study": Advice(
        "In the label sheet a folder has another study than on disk: its columns may have been sorted separately.",
        "Correct the lines, or empty the column study_uid to match by folder only.",
    ),
    "label-subject": Advice(
        "The label sheet changes a subject, and the session's label still names the old one.",
        "Change the column session, too, if the label is to follow.",
    ),
    "label-unused": Advice(
        "The label sheet has a line that no session in the tree matches.",
        "Correct or remove the line, or use --labels-partial.",
    ),
    "live-row": Advice(
        "Another client is sending into the same session right now.", "Wait until it has finished, then run again."
    ),
    "mixed-patients": Advice(
        "One session or subject folder contains several patients.",
        "Move the files that are in the wrong folder. If ROOT is one level too high, name the folder below it. If it "
        "is one person with several ids, use --allow-mixed-patients.",
    ),
    "mixed-series": Advice("A folder of NIfTI images contains several series.", "Give each series its own folder."),
    "moved-series": Advice(
        "Instances are on the server already, in another series than they come in now. XNAT would keep both copies.",
        "If the new series is right, delete the old copies in XNAT, then run again. If not, leave the new ones out.",
    ),
    "name-collision": Advice(
        "XNAT would store two instances under the same file name. One of them may be on the server already.",
        "Ask the site's administrator for a file name template that tells instances, or leave one of the two out.",
    ),
    "new-subject": Advice("The project is set not to let uploads create subjects. XNAT creates them all the same."),
    "nifti": Advice("There are NIfTI images here, but no DICOM.", "Use xnat-ingest nifti."),
    "not-archived": Advice(
        "The instances are in the prearchive, not in the archive.",
        "Archive the session on XNAT's prearchive page, or run upload again.",
    ),
    "not-taken": Advice(
        "A shard left files to another one, and no other report has them. Or one shard planned files that another set "
        "aside. The tree or the options changed meanwhile.",
        "Run all shards again with the same options, then merge all reports.",
    ),
    "one-patient": Advice(
        "All subjects have the same PatientID. ROOT may be one level too deep, or the anonymisation did this.",
        "If ROOT is a subject's folder, give the folder above it.",
    ),
    "one-spelling": Advice("Two subject folders differ only in how an accent is written. They are one subject."),
    "not-read-back": Advice(
        "The server lists these instances, but they could not be read back for comparison.",
        "Run xnat-ingest verify later. If that does not help, ask the administrator to look at these files.",
    ),
    "one-top-folder": Advice(
        "Everything in the archive is in one folder, so it may have been packed with one folder too many.",
        "Pack the archive from inside: tar czf study.tar.gz -C study .",
    ),
    "other-label": Advice(
        "The study is already archived under another label, or the same label in other upper and lower case.",
        "Use that label (--labels or -E), or delete the other session in XNAT if it is wrong.",
    ),
    "other-series": Advice(
        "Another series in this session already has the scan number.", "Give the scan another folder name."
    ),
    "other-study": Advice(
        "Another study already has the label.", "Give this session another label (--labels), or check the folder."
    ),
    "other-subject": Advice(
        "The session's label belongs to another subject in the project.",
        "Check the subject folder, or give the session another label (--labels).",
    ),
    "other-type": Advice(
        "The session exists already, with another type, or the new files alone would give it another type.",
        "Check the session's label. If it is right, upload a tree that also holds instances of the session's own type, "
        "or leave out what the message names.",
    ),
    "petmr-split": Advice(
        "The project splits PET and MR into two sessions, and this session contains both.",
        "Split the session's folder, or ask the project's owner to change the PET/MR setting.",
    ),
    "receiver-note": Advice("The DICOM receiver accepted the instances with a remark."),
    "refused": Advice(
        "The server refuses this user or this project.",
        "Check the user name, the password and the project's id. xnat-ingest ping -P PROJECT shows what is allowed.",
    ),
    "rerouted": Advice(
        "The server put the files into another project, or into Unassigned. Nothing was committed.",
        "Check the project's id, and ask an administrator to look in the prearchive.",
    ),
    "root-too-high": Advice("ROOT looks one level too high.", "Give the folder below it as ROOT."),
    "rule-unused": Advice(
        "A rule matched nothing.",
        "This is fine for a rule that is there just in case. Otherwise check its spelling: case matters without "
        "--ignore-case.",
    ),
    "run-failed": Advice(
        "The run stopped early.", "The message says why. Fix the cause, then run the same command again."
    ),
    "same-number": Advice(
        "Two series have the same number, or one has another number than before, and XNAT would not merge the new "
        "files with the archived ones.",
        "Upload a tree with all series of that number, with --destination archive.",
    ),
    "sent-by-another-tool": Advice(
        "The series is on the server under names that do not identify instances. Its files are fewer or more than were "
        "planned, or some are too small.",
        "Use --existing overwrite to send the whole series.",
    ),
    "server-fault": Advice(
        "The server failed, or the connection broke.", "Run the same command again. It sends only what is missing."
    ),
    "server-filter": Advice(
        "The server's series import filter would drop these instances, so they were not sent, or are not there.",
        "If you need them, ask the project's owner to change the filter, or use --ignore-server-filter.",
    ),
    "shard-absent": Advice(
        "The report of a shard is missing, so its share is not proven.",
        "Run that shard again, then merge all reports.",
    ),
    "shard-empty": Advice(
        "No file of the tree is this shard's. Other shards may have some, so the exit code is 0.",
        "Merge all reports. If every shard is empty, that ends with 4. Then look whether ROOT is right, and mounted.",
    ),
    "shared-session": Advice(
        "The session is shared into the project from another one, and instances are to be added or replaced.",
        "Upload to the project that it is in.",
    ),
    "source-changed": Advice(
        "A file changed while it was sent.", "Wait until nothing writes to the tree, then run again."
    ),
    "split-study": Advice(
        "One study is in two session folders.",
        "Put it into one folder, or use --layout headers to ignore the folders.",
    ),
    "stale-row": Advice(
        "An older upload of this session is still in the prearchive, finished or stuck there.",
        "Delete it (xnat-ingest prearchive delete) and run again, which sends what the archive does not have. Files "
        "that only the prearchive session holds are gone then. To keep it, archive it under a label that is "
        "free: xnat-ingest prearchive archive with --label NEW. Where the message says that XNAT would refuse it "
        "again, do what it says.",
    ),
    "studies-split": Advice("One folder contains several studies, and --split-studies made a session of each."),
    "subject-exists": Advice(
        "The project has this subject in other upper and lower case. Or characters in its name were replaced, and "
        "another subject in the project has the resulting label.",
        "If it is the same person, give the label in a sheet (--labels). If it is not, rename the folder.",
    ),
    "strict": Advice(
        "Files were left out without a rule of yours, which --strict reports as a problem.",
        "Write a rule for them (--exclude), or repair them.",
    ),
    "truncated-sent": Advice("Truncated files were sent as they are, because --accept-truncated was given."),
    "two-studies": Advice(
        "One session folder contains two studies.",
        "Split the folder, use --split-studies to make a session of each, or --layout headers to ignore the folders.",
    ),
    "unfinished": Advice(
        "An upload of this session was not finished. What it sent is in the prearchive.",
        "Run upload again: it sends what is missing and finishes the session.",
    ),
    "unknown-type": Advice("No session type is known for this modality.", "Give --session-type."),
}

REASONS: dict[str, Advice] = {
    "bad-nifti": Advice("Not a NIfTI image, in spite of its name.", "Convert it again, or leave it out."),
    "blank": PROBLEMS["blank"],
    "burned-in": PROBLEMS["burned-in"],
    "conflicting-duplicate": Advice(
        "The same instance exists twice, with different bytes. The first one is sent.",
        "Find out which copy is right, and leave the other out. If the wrong one was sent, add --existing overwrite.",
    ),
    "dicomdir": Advice("The directory of a DICOM medium. XNAT does not need it."),
    "dicomdir-absent": PROBLEMS["dicomdir-absent"],
    "duplicate": PROBLEMS["duplicate"],
    "empty": Advice(
        "A NIfTI image without content, such as a placeholder of git-annex.",
        "Fetch its content, or copy it again from its source.",
    ),
    "excluded": Advice("Left out by a rule of yours."),
    "illegal-name": Advice("XNAT does not accept this file name.", "Rename the file."),
    "link": Advice(
        "A symbolic link that points outside ROOT or into another session, or forms a loop.",
        "Upload its target separately if needed.",
    ),
    "nested-archive": Advice(
        "An archive inside the tree that contains no images, "
        "or a file of a kind that is not read (disk images, encrypted files) where no images are expected."
    ),
    "no-image": Advice("A sidecar without an image beside it.", "Find the image, or leave the file out."),
    "no-uid": Advice("A required UID is missing from the header or invalid.", "Export it again from its source."),
    "not-dicom": Advice("Not a DICOM file."),
    "other-shard": Advice("Another shard of this run sends it."),
    "not-deidentifiable": Advice(
        "The header cannot be rewritten safely, so the file was not sent.",
        "Export it again from its source, or leave it out with --exclude.",
    ),
    "outside-layout": Advice(
        "An image above the session folders, or in the folder of another one.",
        "Check --layout, or move the file into its session's folder.",
    ),
    "residual-identifier": Advice(
        "An identifier that was removed is still elsewhere in the header, so the file was not sent.",
        "The detail names the element. Add a rule for it to your profile (docs/deidentify.md).",
    ),
    "server-filter": PROBLEMS["server-filter"],
    "session-exists": Advice("The session is already archived, and --existing skip leaves it unchanged."),
    "source-changed": PROBLEMS["source-changed"],
    "system-folder": Advice("A hidden or system folder (.git, @eaDir, lost+found and the like). It was left out."),
    "too-large": Advice(
        "It would unpack to far more than its archive's size, or it lists more members than are read.",
        "Unpack it yourself if it is right.",
    ),
    "truncated": Advice(
        "The file ends before its data ends.",
        "Copy it again from its source. --accept-truncated sends it as it is.",
    ),
    "unreadable": Advice(
        "The file cannot be read, is not what its name says, or is encrypted, encoded or not complete.",
        "Look at the reason beside it: get the file again from its source, or check its permissions.",
    ),
    "unsafe-name": Advice("The path points outside the archive, or it is a link.", "Pack the archive again."),
}


VERDICTS: dict[str, Advice] = {
    "verified": Advice("Each instance was seen on the server, by its own name."),
    "counted": Advice(
        "The server has the right number of instances in each series, under file names that do not show which is "
        "which. No file there is known to be of another instance, but they are not proven one by one.",
        "Nothing, if the numbers are enough for you. --existing overwrite sends them again, under names that tell.",
    ),
    "missing": Advice(
        "Some instances are not on the server, or are there but incomplete.",
        "Run upload again: it sends what is missing.",
    ),
    "conflict": Advice(
        "The session was held back. Nothing of it was sent, because it could have ended up under a wrong name. The "
        "last line counts its instances as failed.",
        "The problem beside it says what to do. Then run upload again.",
    ),
    "failed": Advice("An error ended this session, or the server refused instances.", "Run the same command again."),
    "unverified": Advice(
        "Nobody looked for it: in a plan, with --no-verify, or because the run ended before. With --proof pixels: not "
        "every instance could be read back. A session that was not "
        "started has no fault of its own.",
        "Run upload again, or verify.",
    ),
    "skipped": Advice("Nothing of it was left to send, because of --existing skip or the server's filter."),
}


# Kinds of problems that are no session's and no note.
RUN_KINDS = ("run-failed", "bug")
# Kinds that are shown with a few words, because the word alone would mislead.
TITLES = {"run-failed": "the run stopped early (run-failed)"}


def advice_on(kind: str) -> Advice:
    """The advice on a kind of problem, a reason or a verdict. The part after a colon is ignored."""
    word = kind.partition(":")[0]
    return PROBLEMS.get(word) or REASONS.get(word) or VERDICTS.get(word) or Advice("")
