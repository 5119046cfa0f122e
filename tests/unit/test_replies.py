"""What a page says, however it was written to keep its reader busy."""

from __future__ import annotations

import time

import pytest

from xnat_ingest.xnat.replies import SENTENCE, decoded, sentence, tags


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("<html><head><title>Status page</title></head><body><h3>No such  project</h3><p>more</p>", "No such project"),
        (
            "<h1>HTTP 401</h1><p><b>Message</b> Login attempt &lt;failed&gt;.</p><h3>Apache</h3>",
            "Login attempt <failed>.",
        ),
        ("plain <b>text</b>", "plain text"),
        ("<style>p {color: red}</style><script>x = '<p>'</script>said", "said"),
        ("<HEAD><title>t</title></HEAD>said", "said"),
        ("<header>said</header>", "said"),
        ("<h3>no end", "no end"),
        ("before <tag without end", "before"),
        ("<script>without end", ""),
        ("", ""),
        ("x" * 1000, "x" * SENTENCE),
    ],
)
def test_sentence(page: str, says: str) -> None:
    assert sentence(page) == says


SLOW = {
    "headings": "<h3>" * 250_000,
    "messages": "<b>Message</b>" * 80_000,
    "scripts": "<script>" * 120_000,
    "heads": "<head" * 200_000,
    "brackets": "<" * 1_000_000,
    "entities": "&" * 1_000_000,
    "a number": "&#" + "9" * 1_000_000,
    "blanks": " " * 1_000_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_pages_that_were_made_to_be_slow(name: str) -> None:
    begun = time.process_time()
    sentence(SLOW[name])
    assert time.process_time() - begun < 0.5


def test_tags() -> None:
    document = '<a:b x="1" y="&lt;"/><a:bc x="2"><a:b\n x="3">text</a:b><a:b/><a:b x="4"'
    assert list(tags(document, "a:b")) == [{"x": "1", "y": "&lt;"}, {"x": "3"}, {}]


@pytest.mark.parametrize("document", ["<a:b" * 1_000_000, "<a:b " + "x" * 4_000_000 + ">", '<a:b x="' * 500_000])
def test_documents_that_were_made_to_be_slow(document: str) -> None:
    begun = time.process_time()
    list(tags(document, "a:b"))
    assert time.process_time() - begun < 3.0


PASSED = "s3cr-Pä55w/rd"


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (PASSED.encode(), "text/html"),
        (PASSED.encode(), "text/html; charset=nobody-knows"),
        (b"\xef\xbb\xbf" + PASSED.encode(), "text/html;charset=utf-8"),
        (PASSED.encode() + b"\xc3", "text/html"),  # cut in a character
        (PASSED.encode("latin-1"), "text/html"),
        (PASSED.encode("latin-1"), "text/html;charset=ISO-8859-1"),
        (PASSED.encode("latin-1"), 'text/html; charset="windows-1252"'),
        (PASSED.encode("latin-1"), "text/html; charset=utf-8"),
        (PASSED.encode("utf-16"), "text/html"),
        (PASSED.encode("utf-16"), "text/html; charset=utf-16"),
        (PASSED.encode("utf-16-le"), "text/html; charset=utf-16"),  # without its mark
        (b" " * (len(PASSED.encode()) % 2) + PASSED.encode(), "text/html; charset=utf-16"),
        (PASSED.encode("utf-16-le"), "text/html; charset=UTF-16LE"),
        (PASSED.encode("utf-16-le"), "text/html"),
        (PASSED.encode("utf-16-be"), "text/html"),
    ],
)
def test_a_password_comes_out_as_it_is_written(raw: bytes, content_type: str) -> None:
    """Otherwise it is not recognised and hidden."""
    assert decoded(raw, content_type).endswith(PASSED)


def test_text_that_is_cut_in_a_character_stays_what_it_is() -> None:
    assert decoded("zu spät ü".encode()[:-1], "text/html") == "zu spät "
