"""The server's series import filter evaluated here: as the server does, or not at all."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword

from tests.dicom_trees import IDENTITY, Memory, part10
from tests.standin import filters
from tests.standin.dicomhead import read_head
from xnat_ingest.core.model import Instance, Plan, Session
from xnat_ingest.delivery.precheck import filter_keywords, set_aside_filtered
from xnat_ingest.inputs.dicom_headers import scan
from xnat_ingest.xnat.projects import Project, SiteRules
from xnat_ingest.xnat.series_filter import ELEMENTS, NOT_LISTED, Filter, NotEvaluated, parse_filter

VRS = {"SeriesDescription": "LO", "Modality": "CS", "ImageType": "CS", "BurnedInAnnotation": "CS", "ProtocolName": "LO"}


def contents(listing: str, mode: str = "blacklist", **more: object) -> str:
    return json.dumps({"mode": mode, "list": listing, **more})


def dicom(values: Mapping[str, str]) -> bytes:
    """A file in UTF-8 with these elements and no others but its UIDs; what is not in values is absent."""
    texts = {int(ELEMENTS[word], 16): (VRS[word], text.encode()) for word, text in values.items()}
    texts[0x00080005] = "CS", b"ISO_IR 192"
    return part10({**IDENTITY, **{tag: (vr, raw + b" " * (len(raw) % 2)) for tag, (vr, raw) in texts.items()}})


def scanned(values: Mapping[str, str], keywords: frozenset[str]) -> Instance:
    (found,) = scan(Memory({"a": dicom(values)}), lambda _: None, keywords)
    assert isinstance(found, Instance)
    return found


def verdict(text: str, **values: str) -> str | NotEvaluated | None:
    """What is said of a file with these values."""
    found = parse_filter(text)
    assert isinstance(found, Filter), found
    return found.drops(scanned(values, found.keywords))


def stored(text: str, values: Mapping[str, str]) -> bool:
    """Whether the stand-in takes the file."""
    config: dict[str, Any] = json.loads(text)
    return filters.accepts(config, read_head(io.BytesIO(dicom(values)), 0x00400000).data)


TABLE: list[tuple[str, str, dict[str, str], str | None]] = [
    ("blacklist", "localizer", {"SeriesDescription": "AAHead LOCALIZER 3"}, "localizer"),
    ("blacklist", "^loc", {"SeriesDescription": "my loc"}, None),
    ("blacklist", "# loc\n\n  scout  ", {"SeriesDescription": "Scout"}, "scout"),
    ("blacklist", "# loc", {"SeriesDescription": "# loc"}, None),
    ("blacklist", "loc\r\nscout", {"SeriesDescription": "scout"}, "scout"),
    ("blacklist", "loc\\nscout", {"SeriesDescription": "scout"}, "scout"),
    ("blacklist", "", {"SeriesDescription": "x"}, None),
    ("whitelist", "", {"SeriesDescription": "x"}, NOT_LISTED),
    ("whitelist", "t1\nt2", {"SeriesDescription": "T2 tse"}, None),
    ("whitelist", "t1\nt2", {"SeriesDescription": "dwi"}, NOT_LISTED),
    ("whitelist", "t1", {"Modality": "MR"}, NOT_LISTED),
    ("blacklist", "x\n[Modality]\n^SR$\nPR", {"SeriesDescription": "y", "Modality": "PR"}, "Modality=PR"),
    ("blacklist", "[Modality]\nSR", {"SeriesDescription": "SR", "Modality": "MR"}, None),
    ("blacklist", "[0008,0060]\nsr", {"Modality": "SR"}, "Modality=sr"),
    ("blacklist", "[(0008,103e)]\nsr", {"SeriesDescription": "SR"}, "sr"),
    ("whitelist", "t1\n[Modality]\nCT", {"SeriesDescription": "x", "Modality": "CT"}, None),
    ("blacklist", "[Modality]\nSR\n[SeriesDescription]\nloc", {"SeriesDescription": "loc"}, "loc"),
    ("blacklist", "[BurnedInAnnotation]\nEXISTS", {"BurnedInAnnotation": "NO"}, "BurnedInAnnotation=EXISTS"),
    ("whitelist", "[BurnedInAnnotation]\n!EXISTS", {"BurnedInAnnotation": "NO"}, NOT_LISTED),
    ("blacklist", "[ImageType]\nLOCALIZER", {"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, "ImageType=LOCALIZER"),
    ("blacklist", "[ImageType]\n^PRIMARY", {"ImageType": "ORIGINAL\\PRIMARY\\M"}, None),
    ("blacklist", "[ImageType]\nORIGINAL\\\\PRIM", {"ImageType": "ORIGINAL\\PRIMARY"}, "ImageType=ORIGINAL\\\\PRIM"),
    ("blacklist", "(?i)Scout", {"SeriesDescription": "aascout"}, "(?i)Scout"),
    ("blacklist", "sch.del", {"SeriesDescription": "Schädel"}, "sch.del"),
    ("blacklist", "SCHÄDEL", {"SeriesDescription": "Schädel"}, None),
]


@pytest.mark.parametrize(("mode", "listing", "values", "expected"), TABLE)
def test_filters_as_the_server_reads_them(
    mode: str, listing: str, values: dict[str, str], expected: str | None
) -> None:
    """Found anywhere, whatever the case of ASCII letters, in all values of an element; the stand-in agrees."""
    text = contents(listing, mode)
    assert verdict(text, **values) == expected
    assert stored(text, values) is (expected is None)


@pytest.mark.parametrize(
    ("listing", "values"),
    [
        ("[BurnedInAnnotation]\nEXISTS", {"SeriesDescription": "x"}),
        ("[BurnedInAnnotation]\n!EXISTS", {"BurnedInAnnotation": ""}),
        (".*", {"Modality": "MR"}),
        ("[ImageType]\nDERIVED\\\\PRIMARY", {"ImageType": "DERIVED \\PRIMARY"}),
        (r"sch\b", {"SeriesDescription": "schädel"}),
        ("x.y", {"SeriesDescription": "x\vy"}),
    ],
    ids=["absent", "empty", "nothing", "padded", "boundary", "line-end"],
)
@pytest.mark.parametrize("mode", ["whitelist", "blacklist"])
def test_what_can_be_read_in_two_ways_is_not_told(mode: str, listing: str, values: dict[str, str]) -> None:
    """The scan cannot tell absent from empty, nor how several values are padded; Java has its own word boundaries and
    line ends."""
    found = verdict(contents(listing, mode), **values)
    assert isinstance(found, NotEvaluated)
    assert "are ambiguous" in found.reason


def test_what_decides_whichever_way_it_is_read_is_told() -> None:
    """A description that is absent or empty is in no whitelist of words; EXISTS beside !EXISTS takes everything."""
    assert verdict(contents("t1", "whitelist"), Modality="MR") == NOT_LISTED
    assert verdict(contents("[ImageType]\nPRIMARY"), ImageType="DERIVED \\PRIMARY") == "ImageType=PRIMARY"
    both = contents("[BurnedInAnnotation]\n!EXISTS\nEXISTS\n", "whitelist")
    assert verdict(both, Modality="MR") is None
    assert verdict(contents("[BurnedInAnnotation]\nEXISTS\n[Modality]\nMR"), Modality="MR") == "Modality=MR"


def test_element_that_is_not_in_the_tags_is_absent() -> None:
    found = parse_filter(contents("[BurnedInAnnotation]\n!EXISTS", "whitelist"))
    assert isinstance(found, Filter)
    assert found.drops(scanned({"Modality": "MR"}, frozenset())) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mode": "modalityMap", "MR": "\'#Modality#\' == \'MR\'"}', "JavaScript"),
        (contents("a++"), "a++ may mean something else in Java"),
        (contents(r"\p{Lu}x"), "may mean"),
        (contents(r"\Qa.b\E"), "may mean"),
        (contents("(?<name>x)"), "may mean"),
        (contents("(?s)x"), "may mean"),
        (contents("(?>x)"), "may mean"),
        (contents("x[a[b]]y"), "may mean"),
        (contents("[a-z&&[^b]]+"), "may mean"),
        (contents(r"\x41"), "may mean"),
        (contents(r"(a)\1"), "may mean"),
        (contents("a{,2}"), "may mean"),
        (contents("("), "may mean"),
        (contents("*"), "may mean"),
        (contents("fine\n[Modality]\na\\Zb"), r"a\Zb may mean"),
        (contents("[Ll]oc.*[0-9]"), "it uses [Ll]oc.*[0-9]"),
        (contents("[modality]\nMR"), "it uses [modality]"),
        (contents("[ Modality ]\nMR"), "it uses [ Modality ]"),
        (contents("[0008,0060)]\nMR"), "it uses"),
        (contents("[Rows]\n5"), "it uses [Rows]"),
        (contents("[ReferencedImageSequence]\nEXISTS"), "it uses"),
        ('{"list": "x"}', "its mode or its list"),
        (contents("x", "Blacklist"), "its mode or its list"),
        ('{"mode": "blacklist"}', "its mode or its list"),
        ('{"mode": "blacklist", "list": ["x"]}', "its mode or its list"),
        ("not JSON", "not a JSON object"),
        ("[1]", "not a JSON object"),
    ],
)
def test_what_is_not_evaluated_here(text: str, words: str) -> None:
    """Java's own expressions, scripts, elements that the server reads in its own way, and what breaks the server."""
    found = parse_filter(text)
    assert isinstance(found, NotEvaluated)
    assert words in found.reason


@pytest.mark.parametrize(
    "line",
    [
        "(a+)+b",
        "(?:a*)*b",
        "((a|b)c?)+$",
        "(a|aa)+b",
        "(loc.*){2,}x",
        "(a?){300}",
        "a?" * 40 + "b",
        "(?:a|a)" * 30 + "b",
        ".*a.*b.*c.*d",
        "(((((a*)*)*)*)*)*",
        "[)(|]+[(]*(\\(+)+",
    ],
)
def test_patterns_that_would_never_end_are_not_tried(line: str) -> None:
    """Python's way of trying soars where a part that may match in many ways is repeated."""
    found = parse_filter(contents(line))
    assert isinstance(found, NotEvaluated)
    assert "may take too long" in found.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * (128 * 1024 + 1), "it has more than 131072 characters"),
        ("x\n" * (64 * 1024 + 1), "it has more than 131072 characters"),
        ("(" * 81, f"its pattern {'(' * 80}... may mean something else in Java"),
        (f"[{'x' * 200}]", f"it uses [{'x' * 79}..., which is not evaluated here"),
        ("(" * 80, f"its pattern {'(' * 80} may mean something else in Java"),
        ("\n".join(f".*{n}.*.*" for n in range(2)), "its pattern .*1.*.* may take too long"),
    ],
)
def test_a_filter_of_any_size_is_read_in_little_time_and_memory(text: str, reason: str) -> None:
    """Its words are quoted in part. Many patterns together may take no more time than one."""
    assert parse_filter(contents(text)) == NotEvaluated(reason)


def test_a_long_filter_is_evaluated() -> None:
    found = parse_filter(contents("\n".join([*(f"scout_{n:05}" for n in range(1000)), ".*loc.*", ".*survey.*"])))
    assert isinstance(found, Filter)
    assert len(found.patterns) == 1002
    assert isinstance(parse_filter(contents("#" * (128 * 1024))), Filter)


@pytest.mark.parametrize(
    "line",
    [
        ".*loc.*scout.*",
        "^.*(scout|localizer|survey).*$",
        "loc|scout|.*survey.*|.*topogram.*|^t1.*mpr.*|[|]a*",
        "(?:AA)?head_?scout",
        "t[12]{1,2}_[0-9]+",
        "(ab){2}c",
        r"\(a\)+\|",
    ],
)
def test_patterns_of_the_common_kind_are_tried(line: str) -> None:
    assert isinstance(parse_filter(contents(line)), Filter)


def test_contents_may_be_nested_or_blank_and_do_not_switch_it_off() -> None:
    """The configuration's status alone switches a filter; a project's page leaves `enabled` as it was."""
    plain = parse_filter(contents("loc"))
    assert parse_filter(json.dumps({"contents": contents("loc")})) == plain
    assert parse_filter(json.dumps({"content": contents("loc"), "projectId": "X"})) == plain
    assert parse_filter(contents("loc", enabled=False)) == plain
    assert parse_filter(" ") == Filter(whitelist=False, patterns=())


def test_elements_are_those_of_the_standard() -> None:
    """Each keyword has its tag, and its values are short text."""
    assert {word: f"{tag_for_keyword(word):08X}" for word in ELEMENTS} == ELEMENTS


WORDS = (
    "loc",
    "LOC",
    "T1",
    "t2 ",
    "",
    " x",
    "PRIMARY",
    "DERIVED",
    "DERIVED \\PRIMARY",
    "ORIGINAL\\PRIMARY\\M",
    "NO",
    "MR",
)
LINES = (
    "loc", "^t1", "x$", ".", "^$", ".*", "a|x", "[a-m]oc", "[^t]+", "EXISTS", "!EXISTS", "#loc", "", "  NO ", "PRIMARY",
    r"D\\P", r"\w \\", r"^\w+$", r"\s", "(?i)MR", "(?:t|l).{1,2}", r"\bx", "[Modality]", "[SeriesDescription]",
    "[ImageType]", "[0028,0301]", "[BurnedInAnnotation]", "[ProtocolName]",
)  # fmt: skip


@pytest.mark.wide
def test_the_stand_in_agrees_on_random_filters() -> None:
    """Whatever is told at all is what the stand-in does, and most is told."""
    drawn = random.Random(20240131)
    told: Counter[str] = Counter()
    for _ in range(1500):
        listing = "\n".join(drawn.choices(LINES, k=drawn.randint(0, 5)))
        text = contents(listing, drawn.choice(("blacklist", "whitelist")))
        values = {word: drawn.choice(WORDS) for word in VRS if drawn.random() < 0.7}
        if "Modality" in values:  # an instance holds the first of its values; the standard knows but one
            values["Modality"] = drawn.choice(["MR", "SR", "", "OT"])
        found = verdict(text, **values)
        told[type(found).__name__] += 1
        if not isinstance(found, NotEvaluated):
            assert stored(text, values) is (found is None), (text, values)
    assert min(told["str"], told["NoneType"]) > 400
    assert told["NotEvaluated"] < 450


def plan(*sessions: Session) -> Plan:
    return Plan("P", sessions, (), (), sum(len(s.instances) for s in sessions))


def session(label: str, *descriptions: str, project: str = "P") -> Session:
    keywords = frozenset({"SeriesDescription"})
    instances = tuple(scanned({"SeriesDescription": text}, keywords) for text in descriptions)
    return Session(project, "S", label, "1.2", label, instances)


def project(text: str | None, name: str = "P") -> Project:
    return Project(name, "4", may_edit=True, filter=parse_filter(text) if text else None)


def test_filtered_instances_leave_the_plan() -> None:
    """The site's filter, then the project's; each file has one reason, each rule one note; nothing is lost."""
    rules = SiteRules(filter=parse_filter(contents("loc")))
    before = plan(session("A", "loc", "loc t2", "t1"), session("B", "t2", "loc"), session("C", "t1"))
    after = set_aside_filtered(before, rules, {"P": project(contents("t1", "whitelist"))}, frozenset(ELEMENTS))
    assert [len(s.instances) for s in after.sessions] == [1, 0, 1]
    assert after.files_seen == after.planned + len(after.set_aside) == 6
    assert Counter(aside.reason for aside in after.set_aside) == {
        "server-filter:loc": 3,
        f"server-filter:{NOT_LISTED}": 1,
    }
    assert not any(aside.is_problem for aside in after.set_aside)
    first, second = after.problems
    assert (first.kind, first.sessions, second.sessions) == ("server-filter", ("A", "B"), ("B",))
    assert "the site's series import filter (blacklist) would drop 3 instances by loc" in first.detail
    assert "project P's series import filter (whitelist) would drop 1 instances" in second.detail


@pytest.mark.parametrize(
    ("filtered", "kept", "words"),
    [
        ('{"mode": "modalityMap"}', frozenset(ELEMENTS), "modalityMap"),
        (contents("[ImageType]\nx"), frozenset({"BodyPartExamined"}), "looks at ImageType, which was not read"),
    ],
)
def test_filter_that_is_not_evaluated_is_one_note(filtered: str, kept: frozenset[str], words: str) -> None:
    before = plan(session("A", "loc", "t1"), session("B", "t2"))
    after = set_aside_filtered(before, SiteRules(), {"P": project(filtered)}, kept)
    assert after.sessions == before.sessions
    (note,) = after.problems
    assert (note.kind, note.sessions) == ("filter-not-evaluated", ("A", "B"))
    assert "project P's series import filter was not evaluated for 3 instances" in note.detail
    assert words in note.detail


def test_each_project_has_its_own_filter() -> None:
    before = plan(session("A", "loc"), session("B", "loc", project="Q"), session("C", "loc", project="GONE"))
    after = set_aside_filtered(
        before, SiteRules(), {"P": project(contents("loc")), "Q": project(None, "Q")}, frozenset()
    )
    assert [len(s.instances) for s in after.sessions] == [0, 1, 1]


def test_what_a_scan_must_keep() -> None:
    """What the known filters look at, but for what each instance has anyway."""
    site = SiteRules(filter=parse_filter(contents("[ImageType]\nx")))
    assert filter_keywords(site, [project(contents("t1\n[Modality]\nx\n[ScanOptions]\nx"))]) == {
        "ImageType",
        "ScanOptions",
    }
    assert filter_keywords(SiteRules(), [project(None), project(contents("t1"))]) == frozenset()
    assert filter_keywords(site, []) == {"ImageType"}
    assert filter_keywords(SiteRules(filter=NotEvaluated("x")), [project('{"mode": "modalityMap"}')]) == frozenset()


def test_fields_of_an_instance_need_no_asking() -> None:
    instance = scanned({"SeriesDescription": "loc", "Modality": "MR"}, frozenset())
    for line in ("^loc$", "[Modality]\n^MR$", "[SOPClassUID]\n[.]1[.]66$", "[SeriesInstanceUID]\n^1.2.3.4.5$"):
        found = parse_filter(contents(line))
        assert isinstance(found, Filter)
        assert (found.keywords, bool(found.drops(instance))) == (frozenset(), True)
