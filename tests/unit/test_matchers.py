"""The matchers on numbers, sizes and ImageType, and what is said of entries of a config file that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.test_rules import TAGGED, TREE, configured, left_out, unused
from tests.unit.test_plan import dicom, plan_of
from xnat_ingest.core.errors import UsageError
from xnat_ingest.planning.rules import MATCHERS


@pytest.mark.parametrize(
    ("limits", "expected", "name"),
    [
        ({"fewer_than": 3}, {"two"}, "series_instances<3"),
        ({"more_than": 3}, {"four"}, "series_instances>3"),
        ({"fewer_than": 3, "more_than": 3}, {"two", "four"}, "series_instances<3 or >3"),
        ({"fewer_than": 2}, set(), "series_instances<2"),
        ({"more_than": 4}, set(), "series_instances>4"),
    ],
)
def test_series_by_number_of_instances(limits: dict[str, int], expected: set[str], name: str, tmp_path: Path) -> None:
    """Fewer than the one, or more than the other; the numbers themselves stay."""
    counts = {"two": 2, "three": 3, "four": 4}
    files = {f"a/x/{word}/{n}": dicom("1", n, str(many)) for word, many in counts.items() for n in range(many)}
    plan = configured(tmp_path, {"exclude": [{"series_instances": limits}]}, files)
    assert left_out(plan) == expected
    assert {aside.reason for aside in plan.set_aside} <= {f"excluded:{name}"}
    assert all(name in text for text in unused(plan))


@pytest.mark.parametrize(
    ("limits", "expected", "name"),
    [
        ({"smaller_than": "1K"}, {"small"}, "file_size<1K"),
        ({"larger_than": 1024}, {"large"}, "file_size>1024"),
        ({"smaller_than": "1k", "larger_than": "2K"}, {"small", "large"}, "file_size<1k or >2K"),
        ({"larger_than": "1G"}, set(), "file_size>1G"),
    ],
)
def test_files_by_size(limits: dict[str, object], expected: set[str], name: str, tmp_path: Path) -> None:
    """K is 1024; a file of just that size is neither smaller nor larger."""
    least = len(dicom("1", ImageComments=""))
    sizes = {"small": 1022, "even": 1024, "large": 2050}
    files = {
        f"a/x/{word}/1": dicom("1", number, ImageComments="x" * (many - least))
        for number, (word, many) in enumerate(sizes.items())
    }
    assert {path.split("/")[2]: len(data) for path, data in files.items()} == sizes
    plan = configured(tmp_path, {"exclude": [{"file_size": limits}]}, files)
    assert left_out(plan) == expected
    assert {aside.reason for aside in plan.set_aside} <= {f"excluded:{name}"}
    assert all(name in text for text in unused(plan))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["M"], {"mr"}),
        (["SECONDARY", "M"], {"mr", "sr"}),
        (["DERIVED"], {"sr"}),
        (["m"], set()),
        (["PRIMARY\\M"], set()),
        ([" M"], set()),
    ],
)
def test_image_type_has_a_value(values: list[str], expected: set[str], tmp_path: Path) -> None:
    """Any value in any position; absent has none; a value is whole, and its case counts."""
    plan = configured(tmp_path, {"exclude": [{"image_type": values}]}, TAGGED)
    assert left_out(plan) == expected
    assert {aside.reason for aside in plan.set_aside} <= {f"excluded:image_type={','.join(values)}"}


def test_new_matchers_include_as_well(tmp_path: Path) -> None:
    config_file = {"include": [{"image_type": ["M"]}, {"file_size": {"larger_than": "1G"}}]}
    plan = configured(tmp_path, config_file, TAGGED)
    assert left_out(plan) == {"sr", "none"}
    assert unused(plan) == ["the rule file_size>1G matched nothing"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"file_size": {"smaller_than": "10X"}}, "file_size: smaller_than: '10X' is not valid; it must be a size"),
        ({"file_size": {"larger_than": 0}}, "file_size: larger_than: 0 is not valid; it must be a size"),
        (
            {"file_size": {"smaller_than": "2K", "larger_than": "1K"}},
            "smaller_than 2K with larger_than 1K matches everything",
        ),
        ({"series_instances": {"fewer_than": 9, "more_than": 2}}, "fewer_than 9 with more_than 2 matches everything"),
    ],
    ids=["size", "no-size", "all-sizes", "all-series"],
)
def test_limits_that_cannot_be_meant(rule: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_of(TREE, exclude=[rule])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"series_instances": {"fewer": 3}}, ["exclude[0].series_instances", "'fewer'", "fewer_than"]),
        ({"series_instances": {"fewer_than": 0}}, ["exclude[0].series_instances.fewer_than"]),
        ({"series_instances": {}}, ["exclude[0].series_instances"]),
        ({"file_size": {"bigger_than": 3}}, ["exclude[0].file_size", "'bigger_than'", "larger_than"]),
        ({"file_size": {"larger_than": [3]}}, ["exclude[0].file_size.larger_than"]),
        ({"file_size": "10K"}, ["exclude[0].file_size"]),
        ({"image_type": "LOCALIZER"}, ["exclude[0].image_type"]),
        ({"image_type": []}, ["exclude[0].image_type"]),
        ({"image_types": ["LOCALIZER"]}, ["exclude[0]", "did you mean image_type?"]),
        ({"preset": ["localizers"]}, ["exclude[0].preset"]),
        ({"preset": "localizers", "folder": "x"}, ["exclude[0]", "unknown key"]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_wrong_entries_name_their_key(rule: dict[str, object], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        configured(tmp_path, {"exclude": [rule]})
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text


def test_every_matcher_is_in_these_tests() -> None:
    """A new matcher comes with its rows; presets have tests of their own."""
    assert set(MATCHERS) == {"folder", "path", "tag", "image_type", "series_instances", "file_size", "preset"}


@pytest.mark.parametrize("matcher", MATCHERS)
def test_every_matcher_is_in_the_schema_and_on_its_page(matcher: str) -> None:
    schema = Path("xnat_ingest/settings/rules.schema.json").read_text()
    assert f'"{matcher}"' in schema
    assert f'"{matcher}"' in Path("docs/rules.md").read_text()
