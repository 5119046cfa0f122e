"""How many headers one core reads in a second: `python -m bench.headers [ROOT]`.

The files are in memory, in the common encodings. Each is a series of real headers with UIDs and numbers of its own, in
which numbers and positions have several lengths, as scanners write them. With a ROOT, its files are scanned, too, from
the disk. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Iterator

from pydicom.uid import UID

from tests.dicom_trees import read, uid
from xnat_ingest.core.model import Instance, SourceFile
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.inputs.pydicom_header import library_instance
from xnat_ingest.inputs.quick_header import QuickReader

SAMPLES = {
    "explicit (MR)": "MR_small.dcm",
    "explicit (CT)": "CT_small.dcm",
    "implicit (MR)": "MR_small_implicit.dcm",
    "RLE (MR)": "MR_small_RLE.dcm",
    "JPEG 2000 (MR)": "JPEG2000.dcm",
}
FILES, SERIES = 1000, 200


def files(sample: str) -> Iterator[tuple[SourceFile, bytes]]:
    dataset = read(sample)
    for number in range(FILES):
        dataset.SeriesInstanceUID = uid(sample, number // SERIES)
        dataset.SOPInstanceUID = UID(f"{dataset.SeriesInstanceUID[:-8]}.{number + 1}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number % SERIES + 1
        dataset.SliceLocation = f"{number % SERIES * 1.25 - 100:g}"
        dataset.ImagePositionPatient = ["-120", "-93.5", f"{number % SERIES * 1.25 - 100:g}"]
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
        yield SourceFile(f"{number:06d}.dcm", out.tell(), 1), out.getvalue()


def measure(sample: str) -> tuple[float, float]:
    """Headers a second: by the quick reader, by the library."""
    found = list(files(sample))
    reader = QuickReader({}, {})
    begun = time.process_time()
    answers = [reader.instance(file, io.BytesIO(data)) for file, data in found]
    quick = time.process_time() - begun
    if None in answers:
        raise SystemExit(f"{sample} is left to the library")
    few = found[:SERIES]
    begun = time.process_time()
    for file, data in few:
        library_instance(file, io.BytesIO(data), {}, {})
    return len(found) / quick, len(few) / (time.process_time() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.headers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("root", nargs="?", help="a tree to scan, too")
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}\n\n| encoding | quick, headers/s | library, headers/s |\n|---|---:|---:|")
    for name, sample in SAMPLES.items():
        quick, library = measure(sample)
        print(f"| {name} | {quick:,.0f} | {library:,.0f} |", flush=True)
    if given.root:
        source = open_source(given.root, None, lambda: None)
        begun = time.process_time()
        number = sum(isinstance(found, Instance) for found in scan(source, lambda _: None))
        print(f"\n{number:,} files of a tree: {number / (time.process_time() - begun):,.0f} a second, opened and read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
