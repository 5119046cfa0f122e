"""De-identification beside other tools: what leaves, what survives, how fast. `python -m bench.deidentify`.

The words of one invented patient are planted into real images, in one kind of place each (tests/planted.py), 500
objects in all. Ours runs with `basic`; dicognito, deid and dicom-anonymizer run at their defaults, in an environment of
their own, which is made on the way: `python -m bench.deidentify --tools /tmp/tools`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

OBJECTS = 500
# How a file that is called after the patient is called.
NAMED_FILE = "file-name_quastenflosser"
TOOLS = ("dicognito", "deid", "dicom-anonymizer")
# What an analysis of images reads; 16 of those that the samples have.
NEEDED = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "EchoTime"),
    *("PixelSpacing", "SliceThickness", "RepetitionTime", "FlipAngle", "ImagePositionPatient", "SeriesNumber"),
    *("ImageOrientationPatient", "InstanceNumber"),
)


def make(folder: Path) -> int:
    """Writes the planted objects; returns how many kinds of places there are."""
    from tests.dicom_trees import save, uid
    from tests.planted import PLACES, planted

    number = 0
    while number < OBJECTS:
        for name, dataset in planted():
            if number >= OBJECTS:
                break
            number += 1
            dataset.SOPInstanceUID, dataset.InstanceNumber = uid(name, number), number
            for keyword in ("PatientAddress", "PatientTelephoneNumbers"):  # others keep these: they would hide the rest
                if name != "phone_in_sequence_name":
                    del dataset[keyword]
            save(dataset, folder / f"{number:04d}_{name}.dcm")  # type: ignore[arg-type]
        for path in sorted(folder.glob(f"{number:04d}_*")):  # one in each round is called after the patient
            path.rename(folder / f"{number:04d}_{NAMED_FILE}.dcm")
    return len(PLACES) + 1


def found(source: Path, target: Path) -> dict[str, object]:
    """What left: objects with a planted word, kinds of places, elements that an analysis needs."""
    import pydicom

    from tests.planted import ACCENTED, PERSON, leaks

    leaking, places, kept, there = 0, set(), 0, 0
    written = sorted(target.rglob("*.dcm"))
    names = json.loads((target / "names.json").read_text()) if (target / "names.json").exists() else {}
    for path in written:
        was = names.get(path.name, path.name)
        data = path.name.encode() + path.read_bytes()
        accented = [w for w in ACCENTED.words[:2] for e in ("utf-8", "latin-1") if w.lower().encode(e) in data.lower()]
        if leaks(data, PERSON) or accented:
            leaking += 1
            places.add(was.partition("_")[2])
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        before = pydicom.dcmread(source / was, stop_before_pixels=True)
        there += sum(keyword in before for keyword in NEEDED)
        kept += sum(keyword in before and dataset.get(keyword) == before.get(keyword) for keyword in NEEDED)
    return {
        "sent": len(written),
        "objects that leak": leaking,
        "places that leak": len(places),
        "needed elements kept": f"{100 * kept / max(there, 1):.0f} %",
    }


# -- drivers: each writes what it makes of a folder into another


def ours(source: Path, target: Path) -> None:
    from xnat_ingest.core.model import Instance, Plan, Session
    from xnat_ingest.deidentify.objects import Deidentifier
    from xnat_ingest.deidentify.profile import load_profile
    from xnat_ingest.deidentify.pseudonyms import Key
    from xnat_ingest.inputs import FolderSource
    from xnat_ingest.inputs.dicom_headers import scan
    from xnat_ingest.inputs.outgoing import Outgoing

    deidentifier = Deidentifier(load_profile("basic"), Key(b"a key for a measurement, and nothing else"))
    folder = FolderSource(source)
    found = (deidentifier.examine(folder, one) for one in scan(folder, lambda _: None) if isinstance(one, Instance))
    members = tuple(one for one in found if isinstance(one, Instance))
    session = Session("P", "S01", "S01_a", "", ".", members)
    names = {}
    for instance in deidentifier.settle(Plan("P", (session,), (), (), len(members))).sessions[0].instances:
        names[instance.name] = instance.path  # the server stores it under a name made of UIDs
        with Outgoing(folder, instance, deidentifier.rewrite).open() as blocks:
            (target / instance.name).write_bytes(b"".join(blocks))
    (target / "names.json").write_text(json.dumps(names))


def dicognito(source: Path, target: Path) -> None:
    import pydicom
    from dicognito.anonymizer import Anonymizer  # type: ignore[import-not-found]

    anonymizer = Anonymizer()
    for path in sorted(source.iterdir()):
        with pydicom.dcmread(path) as dataset:
            anonymizer.anonymize(dataset)
            dataset.save_as(target / path.name)


def dicom_anonymizer(source: Path, target: Path) -> None:
    from dicomanonymizer import anonymize_dicom_file  # type: ignore[import-not-found]

    for path in sorted(source.iterdir()):
        anonymize_dicom_file(str(path), str(target / path.name))


def deid(source: Path, target: Path) -> None:
    from deid.dicom import get_files, get_identifiers, replace_identifiers  # type: ignore[import-not-found]

    files = list(get_files(str(source), pattern="*.dcm"))
    ids = get_identifiers(files)
    replace_identifiers(dicom_files=files, ids=ids, save=True, output_folder=str(target), overwrite=True)


DRIVERS: dict[str, Callable[[Path, Path], None]] = {
    "ours": ours,
    "dicognito": dicognito,
    "deid": deid,
    "dicom-anonymizer": dicom_anonymizer,
}


def drive(name: str, python: str, source: Path, target: Path) -> tuple[float, str]:
    """Seconds of processor time of a driver's own work, and what went wrong."""
    target.mkdir()
    words = [python, "-W", "ignore", "-m", "bench.deidentify", "--drive", name, str(source), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    seconds = float(last[0]) if done.returncode == 0 else 0.0
    return seconds, "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:200]


def headers(times: int) -> tuple[float, float]:
    """Seconds in which so many MR headers are rewritten and searched: by the clock, and of processor time."""
    from tests.dicom_trees import SAMPLES
    from xnat_ingest.deidentify.encoding import LITTLE_EXPLICIT
    from xnat_ingest.deidentify.profile import load_profile
    from xnat_ingest.deidentify.pseudonyms import Key
    from xnat_ingest.deidentify.rewriting import Rewriting

    raw = (SAMPLES / "MR_small.dcm").read_bytes()
    begin, end = raw.index(b"\x08\x00\x08\x00CS"), raw.index(b"\xe0\x7f\x10\x00OW")
    profile, key, data = load_profile("basic"), Key(b"a key for a measurement, and nothing else"), raw[begin:end]
    start, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        work = Rewriting(data, LITTLE_EXPLICIT, profile, key)
        work.residue(work.rewrite("S01", "S01_a").data)
    return time.perf_counter() - start, time.process_time() - used


def headers_a_second(processes: int, times: int = 1500) -> tuple[float, float]:
    """MR headers that so many processes rewrite and search in a second: by the clock, and of processor time."""
    with ProcessPoolExecutor(processes) as pool:
        found = list(pool.map(headers, [times] * processes))
    return processes * times / max(clock for clock, _ in found), sum(times / used for _, used in found)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def objects_a_second(source: Path, base: Path, processes: int) -> tuple[float, float]:
    """Objects that so many processes take through all steps, each its share: by the clock, and of processor time."""
    for number in range(processes):
        (base / f"in{number}").mkdir()
        (base / f"out{number}").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        (base / f"in{number % processes}" / path.name).symlink_to(path)
    spent, start = _children_seconds(), time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        places = [(base / f"in{number}", base / f"out{number}") for number in range(processes)]
        list(pool.map(ours, *zip(*places, strict=True)))
    clock, spent = time.perf_counter() - start, _children_seconds() - spent
    return OBJECTS / clock, OBJECTS / spent * processes


def table(tools: Path) -> Iterator[str]:
    if not (tools / "bin" / "python").exists():
        venv.create(tools, with_pip=True)
        subprocess.run([tools / "bin" / "pip", "install", "--quiet", *TOOLS], check=True)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "in").mkdir()
        kinds = make(base / "in")
        yield f"{OBJECTS} objects, {kinds} kinds of places; load of the machine {os.getloadavg()[0]:.1f}"
        for number in (1, 2):
            clock, spent = headers_a_second(number)
            yield f"{number} processes: {clock:.0f} MR headers a second by the clock, {spent:.0f} of processor time"
        clock, spent = objects_a_second(base / "in", base, 2)
        yield f"2 processes: {clock:.0f} whole objects a second by the clock, {spent:.0f} of processor time"
        for name in DRIVERS:
            python = sys.executable if name == "ours" else str(tools / "bin" / "python")
            seconds, fault = drive(name, python, base / "in", base / name)
            speed = f"{OBJECTS / seconds:.0f}" if seconds else "-"
            yield json.dumps(
                {"tool": name, **found(base / "in", base / name), "objects a second": speed, "fault": fault}
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", default="/tmp/deidentify-tools", help="the environment of the other tools")
    parser.add_argument("--drive", nargs=3, metavar=("TOOL", "IN", "OUT"))
    given = parser.parse_args()
    if given.drive:
        name, source, target = given.drive
        start = time.process_time()  # the processor's time: other work on the machine does not count
        DRIVERS[name](Path(source), Path(target))
        print(time.process_time() - start)
        return 0
    for line in table(Path(given.tools)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
