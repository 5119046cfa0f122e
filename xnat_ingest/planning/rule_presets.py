"""Named lists of rules, in the form of the config file, so that users can print them and keep a changed copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from xnat_ingest.core import UsageError, nearest

PREFIX = "preset:"


@dataclass(frozen=True, slots=True)
class Preset:
    """A named list of rules. The rules only look at content: folder names depend on the export tool."""

    about: str
    rules: tuple[Mapping[str, object], ...]


def _description(pattern: str) -> Mapping[str, object]:
    """A rule on SeriesDescription. ProtocolName is no use: GE writes the name of the whole examination there."""
    return {"tag": "SeriesDescription", "matches": f"(?i){pattern}"}


def _class(pattern: str) -> Mapping[str, object]:
    return {"tag": "SOPClassUID", "matches": pattern}


# A series that locates a brain region for a task is also called a "localizer", and must not be lost.
_NO_TASK = r"^(?!.*(bold|fmri|func|task|ep2d|epi|run|face|scene|motor|langu|visual|retino))"
_PLANES = (
    "ax|axial|sag|sagittal|cor|coronal|tra|oblique|plane|pl|scan|head|brain|spine|knee|heart|cardiac|breast|abdomen"
)

PRESETS: dict[str, Preset] = {
    "localizers": Preset(
        "planning scans: localizers, scouts, surveys, topograms",
        (
            # The third value in CT scouts of every vendor, and in enhanced MR images.
            {"image_type": ["LOCALIZER"]},
            # Siemens: localizer, AAHead_Scout, AAHScout, Topogram. GE: 3-Plane Loc, Scout. Philips: Survey,
            # SmartSurvey, Surview, fast pilot. Canon: Locator, Scanogram. Their MR images do not have LOCALIZER.
            _description(rf"{_NO_TASK}.*(?<![a-z])(fast |quick )?locali[sz]ers?(?![a-z])"),
            _description(rf"{_NO_TASK}(loc|.*(?<![a-z])({_PLANES})[ _-]*locs?)(?![a-z])"),
            _description(r"(?<![a-z])(aa[a-z]*|auto|test)?scouts?(?![a-z])"),
            _description(
                r"(?<![a-z])((smart)?survey|surview|topogram|scanogram|locator|(fast|tri)[ _-]?pilot)(?![a-z])"
            ),
        ),
    ),
    "secondary-capture": Preset(
        "screenshots and other secondary captures",
        (
            _class(r"^1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.|$)"),
            # Screenshots stored with the SOP class of the images they show.
            {"image_type": ["SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "SCREEN CAPTURE", "SCREEN_CAPTURE"]},
        ),
    ),
    "no-pixels": Preset(
        "SR (key objects and dose reports, too), PR, RAW, PDF and other encapsulated documents; not spectra, waveforms "
        "and radiotherapy",
        (
            _class(r"^1\.2\.840\.10008\.5\.1\.4\.1\.1\.88\."),  # structured reports, key objects
            _class(r"^1\.2\.840\.10008\.5\.1\.4\.1\.1\.11\."),  # presentation states
            _class(r"^1\.2\.840\.10008\.5\.1\.4\.1\.1\.66$"),  # raw data; 66.4, segmentations, has pixels
            _class(r"^1\.2\.840\.10008\.5\.1\.4\.1\.1\.104\."),  # encapsulated PDF, CDA, STL
            _class(r"^1\.3\.46\.670589\.11\.0\.0\.12\.[24]$"),  # Philips' MR series data and exam cards
        ),
    ),
}


def find_preset(name: str) -> Preset:
    """Raises UsageError."""
    if name not in PRESETS:
        near = nearest(name, list(PRESETS))
        hint = f"did you mean {near}?" if near else f"there are {', '.join(PRESETS)}"
        raise UsageError(f"{PREFIX}{name} is not a preset; {hint}")
    return PRESETS[name]


def preset_lines(name: str = "") -> str:
    """A preset as the text of a config file; without a name, one line about each. Raises UsageError."""
    if name:
        return json.dumps({"exclude": list(find_preset(name.removeprefix(PREFIX)).rules)}, indent=2)
    width = max(map(len, PRESETS))
    return "\n".join(f"{known:<{width}}  {preset.about}" for known, preset in PRESETS.items())
