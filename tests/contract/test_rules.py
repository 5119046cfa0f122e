"""Exclusion and inclusion: what each matcher takes, in which order, and which rules are reported as unused."""

from __future__ import annotations

import gc
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.conftest import Ingest
from tests.dicom_trees import Series, make_session
from tests.unit.test_plan import dicom, plan_of, reasons
from xnat_ingest.core.errors import UsageError
from xnat_ingest.core.model import Plan
from xnat_ingest.planning.rules import make_rule, parse_rule
from xnat_ingest.settings.layers import resolve

# One session with the folders of a real head protocol.
FOLDERS = ("Localizers_0001", "AAHead_Scout_0002", "T1-MPRAGE_0010", "T1-MPRAGE_0010/MoCoSeries", "dti, b=1000 (x)")
TREE = {f"007/pre/{name}/1": dicom("1", 1, str(n)) for n, name in enumerate(FOLDERS)}
ORIGINAL = ["Localizers", "AAHEAD", "MoCoSeries", "JJWANGS"]


def configured(tmp_path: Path, config: Mapping[str, Any], files: Mapping[str, bytes] = TREE, **options: object) -> Plan:
    """The plan with a config file."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return plan_of(files, config=str(path), **options)


def left_out(plan: Plan) -> set[str]:
    """The part of each path that lies below the session folder."""
    assert all(aside.reason.startswith("excluded:") and not aside.is_problem for aside in plan.set_aside)
    return {aside.path.split("/", 2)[2].rsplit("/", 1)[0] for aside in plan.set_aside}


def unused(plan: Plan) -> list[str]:
    return [problem.detail for problem in plan.problems if problem.kind == "rule-unused"]


def test_the_original_config_works_unchanged(tmp_path: Path) -> None:
    """A folder whose name contains one of the strings goes, with all below it; case counts."""
    plan = configured(tmp_path, {"Exclude": ORIGINAL})
    assert left_out(plan) == {"Localizers_0001", "T1-MPRAGE_0010/MoCoSeries"}
    assert set(reasons(plan).values()) == {"excluded:Localizers", "excluded:MoCoSeries"}
    first, second = unused(plan)
    assert "AAHEAD" in first
    assert "AAHead_Scout_0002" in first
    assert "--ignore-case" in first
    assert "JJWANGS" in second
    assert "case" not in second


def test_ignore_case_is_for_folder_rules_alone(tmp_path: Path) -> None:
    """The commonest mistake mended by one flag; path globs stay exact."""
    config = {"Exclude": ORIGINAL, "ignore_case": True}
    assert "AAHead_Scout_0002" in left_out(configured(tmp_path, config))
    plan = configured(tmp_path, {"exclude": [{"path": "**/t1-*/**"}], "ignore_case": True})
    assert left_out(plan) == set()


@pytest.mark.parametrize("word", ["007", "pre", "1"], ids=["subject", "session", "file"])
def test_folder_rules_look_below_the_session_folder_only(word: str) -> None:
    """Neither subject nor session nor file name: excluding `pre` must not drop every session `pre`."""
    plan = plan_of({"007/pre/x/1": dicom("1"), "007/pre/1": dicom("1", 2), "1/1_post/y/z": dicom("2")}, exclude=[word])
    assert plan.set_aside == ()
    assert len(unused(plan)) == 1


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"layout": "session", "subject": "S"}, {"pre/x/1": dicom("1"), "other/pre/1": dicom("2")}),
        ({"subject": "S", "experiment": "E"}, {"x/1": dicom("1"), "pre/1": dicom("1", 2)}),
    ],
    ids=["session", "one-session"],
)
def test_the_session_folder_depends_on_the_layout(options: dict[str, object], files: dict[str, bytes]) -> None:
    """With -S and -E the session folder is ROOT, so that every folder lies below it."""
    plan = plan_of(files, exclude=["pre"], **options)
    assert list(reasons(plan)) == [path for path in files if path.endswith("pre/1")]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("**/MoCo*/**", {"T1-MPRAGE_0010/MoCoSeries"}),
        ("**/T1-MPRAGE_0010/*", {"T1-MPRAGE_0010"}),
        ("**/T1-MPRAGE_0010/**", {"T1-MPRAGE_0010", "T1-MPRAGE_0010/MoCoSeries"}),
        ("007/pre/*/1", {"Localizers_0001", "AAHead_Scout_0002", "T1-MPRAGE_0010", "dti, b=1000 (x)"}),
        ("*/*/Local?zers*/*", {"Localizers_0001"}),
        ("007/**", set(FOLDERS)),
        ("**", set(FOLDERS)),
        ("**/pre/dti, b=1000 (x)/1", {"dti, b=1000 (x)"}),
        ("Localizers_0001/*", set()),
        ("**/LOCALIZERS_0001/**", set()),
    ],
)
def test_path_globs_match_the_whole_path_below_root(glob: str, expected: set[str], tmp_path: Path) -> None:
    """`*` stays in one folder, `**` crosses folders or none; all else is literal."""
    assert left_out(configured(tmp_path, {"exclude": [{"path": glob}]})) == expected


TAGGED = {
    "a/x/mr/1": dicom("1", 1, "1", ImageType="ORIGINAL\\PRIMARY\\M", ImageComments="AAHead scout"),
    "a/x/sr/1": dicom("1", 1, "2", ImageType="DERIVED \\SECONDARY", ImageComments="Kopf, quer"),
    "a/x/none/1": dicom("1", 1, "3"),
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"tag": "ImageComments", "matches": "(?i)aahead"}, {"mr"}),
        ({"tag": "ImageComments", "matches": "aahead"}, set()),
        ({"tag": "ImageComments", "matches": "quer$"}, {"sr"}),
        ({"tag": "ImageComments", "matches": "^$"}, {"none"}),
        ({"tag": "ImageComments", "in": ["Kopf, quer", "other"]}, {"sr"}),
        ({"tag": "ImageComments", "in": ["Kopf"]}, set()),
        ({"tag": "ImageType", "in": ["PRIMARY"]}, {"mr"}),
        ({"tag": "ImageType", "in": ["DERIVED"]}, {"sr"}),
        ({"tag": "ImageType", "in": ["ORIGINAL\\PRIMARY\\M"]}, {"mr"}),
        ({"tag": "ImageType", "matches": r"^ORIGINAL\\PRIMARY"}, {"mr"}),
        ({"tag": "ImageType", "matches": "SECONDARY"}, {"sr"}),
        ({"tag": "SOPClassUID", "in": ["RawDataStorage"]}, {"mr", "sr", "none"}),
        ({"tag": "SOPClassUID", "in": ["1.2.840.10008.5.1.4.1.1.66", "CTImageStorage"]}, {"mr", "sr", "none"}),
        ({"tag": "SOPClassUID", "in": ["SecondaryCaptureImageStorage"]}, set()),
        ({"tag": "SeriesInstanceUID", "in": ["1.2.1.3"]}, {"none"}),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_tag_rules_look_at_values(rule: dict[str, object], expected: set[str], tmp_path: Path) -> None:
    """`matches` finds anywhere; `in` takes the whole value or one of several; absent is empty; padding is nothing."""
    plan = configured(tmp_path, {"exclude": [rule]}, TAGGED)
    assert left_out(plan) == expected
    assert len(unused(plan)) == (not expected)


def test_short_series_are_left_out(tmp_path: Path) -> None:
    """Counted per series and session, each instance once however many copies there are."""
    files = {f"a/x/long/{n}": dicom("1", n, "1") for n in range(3)} | {
        f"a/x/short/{n}": dicom("1", n, "2") for n in range(2)
    }
    files |= {"a/x/copies/1": dicom("1", 1, "2"), "a/y/z/1": dicom("2", 1, "1")}
    plan = configured(tmp_path, {"exclude": [{"series_instances": {"fewer_than": 3}}]}, files)
    assert left_out(plan) == {"short", "copies", "z"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["Localizers"], {"Localizers_0001"}),
        (["Localizers,AAHead"], {"Localizers_0001", "AAHead_Scout_0002"}),
        (["Localizers", " AAHead , "], {"Localizers_0001", "AAHead_Scout_0002"}),
        (["SeriesInstanceUID=1\\.[12]$"], {"AAHead_Scout_0002", "T1-MPRAGE_0010"}),
        (["SeriesInstanceUID=1\\.(1|2){1,2}$"], {"AAHead_Scout_0002", "T1-MPRAGE_0010"}),
        (["b=1000 (x)"], set()),
    ],
    ids=["word", "commas", "both", "tag", "tag-with-comma", "equals"],
)
def test_rules_of_the_command_line(given: list[str], expected: set[str]) -> None:
    """A bare word is a folder rule, commas separate words, KEYWORD=pattern is a tag rule."""
    if given == ["b=1000 (x)"]:
        with pytest.raises(UsageError, match="b is not a DICOM keyword"):
            plan_of(TREE, exclude=given)
    else:
        assert left_out(plan_of(TREE, exclude=given)) == expected


RULES: dict[str, tuple[str, ...]] = {
    "Localizers, Modality=SR": ("Localizers", "Modality=SR"),
    "Modality=SR,SeriesDescription=x": ("Modality=SR", "SeriesDescription=x"),
    "Modality=SR , path=**/x,preset:localizers, ImageType=y": (
        "Modality=SR",
        "path=**/x",
        "preset:localizers",
        "ImageType=y",
    ),
    "preset:localizers, T1": ("preset:localizers", "T1"),
    "SeriesDescription=^T1,9{1,2}": (),
    "Localizers,SeriesDescription=9{1,2}": ("Localizers", "SeriesDescription=9{1,2}"),
    "SeriesDescription=(a,b|[,)]),Modality=SR": ("SeriesDescription=(a,b|[,)])", "Modality=SR"),
    "SeriesDescription=[],a],Modality=SR": ("SeriesDescription=[],a]", "Modality=SR"),
    "SeriesDescription=[^],a],Modality=SR": ("SeriesDescription=[^],a]", "Modality=SR"),
    "SeriesDescription=a\\, b, Modality=SR": ("SeriesDescription=a\\, b", "Modality=SR"),
    "SeriesDescription=a\\(, Modality=SR": ("SeriesDescription=a\\(", "Modality=SR"),
    "SeriesDescription=a\\\\, Modality=SR": ("SeriesDescription=a\\\\", "Modality=SR"),
    "SeriesDescription=(a, Modality=SR": (),
    "SeriesDescription=(a, T1": ("SeriesDescription=(a, T1",),
    "SeriesDescription=[a-z, Modality=[SR]": (),
    "SeriesDescription=[\\d],Modality=SR": ("SeriesDescription=[\\d]", "Modality=SR"),
    "SeriesDescription=[^\\w\\],]x, Modality=SR": ("SeriesDescription=[^\\w\\],]x", "Modality=SR"),
    "SeriesDescription=[\\s], Localizers": (),
    "SeriesDescription=a{b,Modality=SR": ("SeriesDescription=a{b", "Modality=SR"),
    "SeriesDescription=a{1,Modality=SR": ("SeriesDescription=a{1", "Modality=SR"),
    "SeriesDescription=a{,2},Modality=SR": ("SeriesDescription=a{,2}", "Modality=SR"),
    "path=**/x (1, Modality=SR": ("path=**/x (1", "Modality=SR"),
    "path=**/[x, preset:localizers": ("path=**/[x", "preset:localizers"),
    "path=**/x\\, Modality=SR": ("path=**/x\\", "Modality=SR"),
    "path=**/T1 (a, b)/**, Modality=SR": ("path=**/T1 (a, b)/**", "Modality=SR"),
    "path=**/T1 (a, Modality=SR)": (),
    "path=**/T1, b": (),
    "Modality=SR, Localizers": (),
    "Modality=SR|PR, preset:localizers, Localizers": ("Modality=SR|PR", "preset:localizers", "Localizers"),
    "T1 (a, b), x": ("T1 (a", "b)", "x"),
    "Modality=SR,": ("Modality=SR",),
    "SeriesDescription=T1 ": ("SeriesDescription=T1 ",),
}


@pytest.mark.parametrize("text", RULES)
def test_commas_separate_rules_in_any_order(text: str) -> None:
    """What a word behind a pattern means cannot be known, so it is refused: what it names must not be sent."""
    if RULES[text]:
        assert resolve("plan", {"exclude": [text]}, {}).exclude == RULES[text]
        return
    with pytest.raises(UsageError, match=r"may be a rule of its own, or the rest of the pattern before it"):
        resolve("plan", {"exclude": [text]}, {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("Modality = SR", "leave the blanks around = out: Modality=SR"),
        ("Localizers,Modality =SR|PR", "leave the blanks around = out: Modality=SR|PR"),
        ("(0008,0060)=SR", "name the element by its keyword"),
        ("(0008,103e) = T1", "name the element by its keyword"),
        ("Localizers, (0008,0060)=SR", "name the element by its keyword"),
    ],
)
def test_slips_in_rules_are_no_words(given: str, says: str) -> None:
    """They would match nothing, and what they were to leave out would be sent."""
    with pytest.raises(UsageError, match=re.escape(says)):
        plan_of(TREE, exclude=[given])


def test_a_folder_may_have_an_equals_sign() -> None:
    assert left_out(plan_of(TREE, exclude=["b =1000"])) == set()


def test_words_of_a_config_file_are_taken_whole(tmp_path: Path) -> None:
    """Folder names hold commas and equals signs."""
    assert left_out(configured(tmp_path, {"Exclude": ["dti, b=1000"]})) == {"dti, b=1000 (x)"}
    assert left_out(configured(tmp_path, {"exclude": [{"folder": "b=1000 (x)"}]})) == {"dti, b=1000 (x)"}


def test_include_comes_before_exclude(tmp_path: Path) -> None:
    """Only what an include rule takes goes on, and exclude rules take from that."""
    config = {"include": [{"folder": "T1"}, {"folder": "Localizers"}], "exclude": [{"folder": "MoCo"}]}
    plan = configured(tmp_path, config)
    assert [i.path.split("/")[2] for i in plan.sessions[0].instances] == ["Localizers_0001", "T1-MPRAGE_0010"]
    assert left_out(plan) == {"AAHead_Scout_0002", "T1-MPRAGE_0010/MoCoSeries", "dti, b=1000 (x)"}
    assert unused(plan) == []


def test_include_rules_on_paths_and_content_add_up(tmp_path: Path) -> None:
    """What either takes is in; an include rule that took nothing is reported."""
    config = {"include": [{"folder": "mr"}, {"tag": "ImageComments", "matches": "Kopf"}, {"folder": "nowhere"}]}
    plan = configured(tmp_path, config, TAGGED)
    assert left_out(plan) == {"none"}
    assert len(unused(plan)) == 1
    assert "nowhere" in unused(plan)[0]


@pytest.mark.parametrize("word", ["T1*", "T?_0010", "T1 T2"])
def test_a_folder_rule_has_no_wildcards(word: str) -> None:
    (said,) = unused(plan_of({"007/pre/T1_0010/1": dicom("1")}, exclude=[word]))
    assert "without wildcards, and commas separate several rules" in said


def test_other_rules_may_have_wildcards() -> None:
    (said,) = unused(plan_of({"007/pre/T1_0010/1": dicom("1")}, exclude=["SeriesDescription=no *"]))
    assert "wildcards" not in said


@pytest.fixture
def without_garbage_collector() -> Iterator[None]:
    """As deep as Python can go, what the collector finalizes for other tests would fail for lack of depth."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("pattern", ["(" * 3000 + ")" * 3000, "a{99999999999}", "("])
def test_a_pattern_that_cannot_be_used(pattern: str, without_garbage_collector: None) -> None:
    with pytest.raises(UsageError, match="the pattern"):
        make_rule(parse_rule(f"SeriesDescription={pattern}"))


def test_the_first_rule_gives_the_reason_and_overlap_makes_none_unused(tmp_path: Path) -> None:
    """Two rules that match the same files both matched, in whatever order; one file has one reason."""
    for words in (["T1", "MPRAGE", "MoCo"], ["MoCo", "MPRAGE", "T1"]):
        plan = configured(tmp_path, {"exclude": [{"folder": word} for word in words]})
        assert reasons(plan)["007/pre/T1-MPRAGE_0010/MoCoSeries/1"] == f"excluded:{words[0]}"
        assert unused(plan) == []
    rules = [{"tag": "ImageType", "in": ["PRIMARY"]}, {"tag": "ImageType", "matches": "ORIGINAL"}]
    assert unused(configured(tmp_path, {"exclude": rules}, TAGGED)) == []


def test_an_exclude_rule_is_not_unused_because_include_left_its_files_out(tmp_path: Path) -> None:
    """Its folder is there: calling it unused would send the user after a mistake that is none."""
    config = {"include": [{"folder": "T1"}], "exclude": [{"folder": "Localizers"}]}
    assert unused(configured(tmp_path, config)) == []


def test_path_rules_spare_the_reading_of_content() -> None:
    """A file that a folder rule takes is excluded, whatever is wrong inside it."""
    plan = plan_of({**TREE, "007/pre/Localizers_0001/2": b"text"}, exclude=["Localizers"])
    assert reasons(plan)["007/pre/Localizers_0001/2"] == "excluded:Localizers"


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("seriesdescription=x", "SeriesDescription"),
        ("SeriesDescription=(", "regular expression"),
        ({"tag": "Modalty", "in": ["MR"]}, "Modality"),
    ],
    ids=["keyword", "pattern", "config"],
)
def test_wrong_rules_are_usage_errors(rule: object, word: str) -> None:
    """The sentence says what is wrong, or what was meant."""
    with pytest.raises(UsageError, match=word):
        plan_of(TREE, exclude=[rule])


@pytest.mark.wide
def test_include_picks_a_session_or_a_series(tmp_path: Path, ingest: Ingest) -> None:
    for name in ("007/pre", "007/post"):
        make_session(tmp_path / "t" / name, [Series("T1_1"), Series("T2_2", 2)], name)
    session = ingest("plan", tmp_path / "t", "--include", "path=007/pre/**")
    assert [s["label"] for s in session.report["sessions"]] == ["007_pre"]
    assert session.totals["planned"] == 5
    series = ingest("plan", tmp_path / "t", "--include", "T2")
    assert [s["instances"] for s in series.report["sessions"]] == [2, 2]
    both = ingest("plan", tmp_path / "t", "--include", "path=007/pre/**", "--exclude", "T1")
    assert both.totals["planned"] == 2


@pytest.mark.parametrize(("of_rule", "of_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize(
    "rule",
    [
        {"folder": "Schädel"},
        {"path": "*/*/Schädel_?/*"},
        {"tag": "ImageComments", "matches": "^Sch[ä]del$"},
        {"tag": "ImageComments", "in": ["Schädel"]},
    ],
    ids=["folder", "path", "matches", "in"],
)
def test_accents_count_the_same_in_both_spellings(
    rule: Mapping[str, Any], of_rule: Literal["NFC", "NFD"], of_disk: Literal["NFC", "NFD"], tmp_path: Path
) -> None:
    """A Mac writes one letter as two characters. Files are still found under the names that the disk has."""
    text = unicodedata.normalize(of_disk, "Schädel")
    said = {"SpecificCharacterSet": "ISO_IR 192", "ImageComments": text}
    files = {f"a/x/{text}_1/1": dicom("1", 1, "1", **said), "a/x/Knie_1/1": dicom("1", 1, "2")}
    typed = json.loads(unicodedata.normalize(of_rule, json.dumps(rule, ensure_ascii=False)))
    excluding = configured(tmp_path, {"exclude": [typed]}, files)
    assert left_out(excluding) == {f"{text}_1"}
    assert unused(excluding) == []
    assert left_out(configured(tmp_path, {"include": [typed]}, files)) == {"Knie_1"}
