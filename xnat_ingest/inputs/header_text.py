"""Values of header elements as text: as they are written, or in the file's character set."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping
from sys import intern

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from xnat_ingest.inputs.dicom_keywords import tags_of
from xnat_ingest.inputs.instances import CHARACTER_SET, NotConvertible

# The library removes nulls only where the standard pads with them.
_PADDING = " \0"


def raw_text(dataset: Dataset, tag: int) -> str:
    """The first value of a string element as written, trimmed; "" when absent. Without conversion it cannot fail."""
    if tag not in dataset:
        return ""
    value = dataset.get_item(tag).value
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return text.split("\\", 1)[0].strip(" \0\t\r\n")


def full_text(dataset: Dataset, tag: int) -> str:
    """An element's value as text in the file's character set. Several values are joined by a backslash."""
    if tag not in dataset:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset[tag].value
    except Exception:  # noqa: BLE001 - a value that breaks its VR is still text to a rule
        value = dataset.get_item(tag).value
    if value is None or isinstance(value, Sequence):
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    if isinstance(value, (MultiValue, list)):  # binary numbers come as a plain list
        return "\\".join(str(v).strip() for v in value).rstrip(_PADDING)
    return str(value).rstrip(_PADDING).strip()


def converted_text(elements: bytes, tag: int, *, explicit: bool) -> str:
    """As full_text, of an element in a few encoded ones, little endian. Raises NotConvertible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return full_text(read_dataset(io.BytesIO(elements), not explicit, True), tag)
        except Exception as error:
            raise NotConvertible from error


def header_values(head: bytes, keywords: Iterable[str]) -> Mapping[str, str]:
    """The values of DICOM keywords in a Part 10 object in memory, complete except perhaps for its pixels."""
    wanted = tags_of(keywords)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags: list[BaseTag | int] = [CHARACTER_SET, *wanted.values()]
        dataset = read_partial(io.BytesIO(head), force=True, specific_tags=tags)
    return {keyword: intern(full_text(dataset, tag)) for keyword, tag in wanted.items()}
