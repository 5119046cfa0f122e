"""Names of stored files: XNAT's templated namer, the request's own name, and the scan directory.

Behaviour taken from TemplatizedDicomFileNamer, GradualDicomImporter.getSafeFile and the rules of section 2.3.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from tests.standin.dicomhead import Header

_VARIABLE = re.compile(r"\$\{([A-Za-z0-9]+)\}")
_EXTENSION = re.compile(r"\.[A-z0-9]+")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def value_of(header: Header | Dataset, keyword: str) -> str | None:
    """The first value of an element as it stands in the file, trimmed; blank counts as absent."""
    if isinstance(header, Header):
        return header.text(keyword)
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in header:
        return None
    raw: object = header.get_item(tag)
    if isinstance(raw, RawDataElement):
        return Header(values={tag: (raw.VR or "", raw.value or b"")}).text(keyword)
    value = header[tag].value
    parts = [] if value is None else list(value) if isinstance(value, MultiValue) else [value]
    found = str(getattr(parts[0], "original_string", None) or parts[0]) if parts else ""
    return found.split("\\")[0].strip(" \0") or None


def string_hash(text: str) -> int:
    """Java's String.hashCode, as a signed 32-bit number."""
    total = 0
    units = text.encode("utf-16-be")
    for position in range(0, len(units), 2):
        total = (31 * total + (units[position] << 8 | units[position + 1])) & 0xFFFFFFFF
    return total - (1 << 32) if total & 0x80000000 else total


def list_hash(values: list[str]) -> str:
    """Java's List.hashCode of the strings, unsigned, in base 36."""
    total = 1
    for value in values:
        total = (31 * total + string_hash(value)) & 0xFFFFFFFF
    digits = ""
    while total:
        total, rest = divmod(total, 36)
        digits = _DIGITS[rest] + digits
    return digits or "0"


def template_tags(template: str) -> list[str]:
    """The keywords a template reads, those inside hashes included."""
    found: list[str] = []
    for name in _VARIABLE.findall(template):
        found += name[4:].split("With") if name.startswith("Hash") else [name]
    return found


def make_file_name(template: str, header: Header | Dataset) -> str:
    """Fill in the template; what is absent gives ``no-value-for-TAG``, a missing extension ``.dcm``."""
    last = template[template.rfind(".") :] if "." in template else ""
    if not _EXTENSION.fullmatch(last):
        template += ".dcm"

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.startswith("Hash"):
            return list_hash([plain(part) for part in name[4:].split("With")])
        return plain(name)

    def plain(keyword: str) -> str:
        return value_of(header, keyword) or f"no-value-for-{keyword}"

    return _VARIABLE.sub(fill, template).lstrip(".")


def base_name(entry: str) -> str:
    """The last component of an archive entry's name; both slashes separate."""
    return re.split(r"[/\\]", entry)[-1]


def file_name_chars(name: str) -> str:
    """A name asked for by the sender, with what is outside ``[\\w.-]`` replaced."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def below(folder: Path, name: str) -> Path:
    """A file under a folder. A slash in a made name makes a folder, as with Java's File; here none leads up."""
    parts = [part for part in name.split("/") if part]
    if not parts or ".." in parts or "\0" in name:
        raise ValueError(f"no name for a file: {name!r}")
    return folder.joinpath(*parts)


def valid_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+", name, flags=re.ASCII) is not None


def label_chars(text: str) -> str:
    """A label taken from a header: everything but letters, digits, ``_`` and ``-`` becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def scan_directory(header: Header) -> str:
    """SeriesNumber when it is a valid file name, else the cleaned SeriesInstanceUID, else ``NA``."""
    number = value_of(header, "SeriesNumber")
    if number and valid_name(number):
        return number
    uid = value_of(header, "SeriesInstanceUID")
    return file_name_chars(uid) if uid else "NA"
