"""Files that may hold a session and cannot be read: programs that unpack, encrypted and encoded content."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.unit.test_plan import dicom, plan_of, plan_source, reasons
from xnat_ingest.inputs import open_source
from xnat_ingest.inputs.archive_kinds import is_plain_text
from xnat_ingest.inputs.system_names import hides_content

GOOD = {"a/x/T1/1": dicom("1")}
NOISE = random.Random(4).randbytes(30_000)
HEAD = (
    b"#!/bin/sh\n# This script was generated using Makeself 2.4.5\n" + b'echo "Verifying archive integrity..."\n' * 500
)
STUB = b"MZ" + random.Random(1).randbytes(150_000)
PLACES = ("a/x/T1", "b/y/T1", "b/y", "a/x", "a", "")


def tar_of(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


TAR = tar_of({"T1/IM1": dicom("2"), "T1/IM2": NOISE})
ZIP = zip_of({"T1/IM1": dicom("2")})


def uu(data: bytes, front: bytes = b"") -> bytes:
    lines = (front + binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45))
    return b"begin 644 post.tgz\n" + b"".join(lines) + b"`\nend\n"


def lines_of(data: bytes) -> bytes:
    return base64.encodebytes(data)


def script(body: bytes) -> bytes:
    return b"#!/bin/sh\nbase64 -d <<EOF | tar xzf -\n" + body + b"EOF\n"


PROGRAMS = {
    "tar behind a script": HEAD + TAR,
    "pax tar behind a script": HEAD + tar_of({"T1/IM1": NOISE}, tarfile.PAX_FORMAT),
    "gz": HEAD + gzip.compress(TAR, mtime=0),
    "bz2": HEAD + bz2.compress(TAR),
    "xz": HEAD + lzma.compress(TAR),
    "short head": b"#!/bin/sh\ntail -n +3 $0 | tar xz; exit\n" + gzip.compress(TAR, mtime=0),
    "tar behind a program": STUB + TAR,
    "gz behind a program": STUB + gzip.compress(TAR, mtime=0),
    "xz behind a program for Linux": b"\x7fELF" + STUB + lzma.compress(TAR),
    "zip behind a program for Linux": b"\x7fELF" + STUB + zip_of({"list": b"words"}),
    "gz at the end of a long program": b"MZ" + bytes((1 << 20) - 12) + gzip.compress(TAR, mtime=0),
    "zst": HEAD + b"\x28\xb5\x2f\xfd" + NOISE,
    "lz4": HEAD + b"\x04\x22\x4d\x18" + NOISE,
    "lzip": HEAD + b"LZIP\x01" + NOISE,
    "compress": HEAD + b"\x1f\x9d\x90" + NOISE,
    "lzo": HEAD + b"\x89LZO\0\r\n\x1a\n" + NOISE,
    "lzma": HEAD + lzma.compress(TAR, format=lzma.FORMAT_ALONE),
    "openssl": HEAD + b"Salted__" + NOISE,
    "uuencoded in a script": b"#!/bin/sh\nuudecode <<EOF\n" + uu(ZIP) + b"EOF\n",
    "with X in front": b"#!/bin/sh\nsed 's/^X//' <<EOF | uudecode\n" + uu(ZIP, b"X") + b"EOF\n",
    "begin-base64": b"#!/bin/sh\nuudecode <<EOF\nbegin-base64 644 x\n" + lines_of(NOISE) + b"====\nEOF\n",
    "base64 tar.gz": script(lines_of(gzip.compress(TAR, mtime=0))),
    "base64 in one line": script(base64.b64encode(gzip.compress(TAR, mtime=0)) + b"\n"),
    "base64 image": script(lines_of(dicom("3") + NOISE)),
    "shar": b"#!/bin/sh\n# This is a shell archive (produced by GNU sharutils 4.15.2).\nsed 's/^X//' > x <<E\nXa\nE\n",
    "shar without a program": b": This is a shell archive.\necho x - a\n",
}
DER = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03" + NOISE
SMIME = b'MIME-Version: 1.0\nContent-Type: application/x-pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\n\n'


def armored(what: str) -> bytes:
    return f"-----BEGIN {what}-----\n\n".encode() + lines_of(NOISE) + f"-----END {what}-----\n".encode()


ENCRYPTED = {
    "pgp": armored("PGP MESSAGE"),
    "pgp behind blank lines": b"\xef\xbb\xbf\r\n\n" + armored("PGP MESSAGE"),
    "age": b"age-encryption.org/v1\n-> X25519 abc\nxyz\n--- mac\n" + NOISE,
    "age, armored": armored("AGE ENCRYPTED FILE"),
    "openssl": b"Salted__" + NOISE,
    "openssl -a": lines_of(b"Salted__" + NOISE),
    "pkcs7": armored("PKCS7"),
    "cms": armored("CMS"),
    "smime": SMIME + lines_of(NOISE),
    "cms, binary": DER,
    "cms, binary with lengths": b"\x30\x82\x75\x40" + DER[2:],
    "cms, authenticated": b"\x30\x82\x75\x40\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17" + NOISE,
    "scrypt": b"scrypt\0\x0e" + NOISE,
    "aescrypt": b"AES\2\0\0" + NOISE,
    "crypt4gh": b"crypt4gh\1\0\0\0\1" + NOISE,
    "luks": b"LUKS\xba\xbe\0\2" + NOISE,
    # As gpg 2.2 and 2.4 write them: with a passphrase, with AEAD, for a key of RSA and one of Curve25519, for both.
    "gpg -c": b"\x8c\x0d\x04\x09\x03\x0a" + bytes(8) + b"\xff\xd2\xed\1" + NOISE,
    "gpg -c, aead": b"\x8c\x0d\x04\x09\x03\x0a" + bytes(8) + b"\xff\xd4\xed\1" + NOISE,
    "gpg -e, rsa": b"\x85\x02\x0c\x03" + bytes(523) + b"\xd2\xed\1" + NOISE,
    "gpg -e, two": b"\x84\x5e\x03" + bytes(93) + b"\xc1\xc0\x4c\x03" + bytes(267) + b"\xd2\xff\0\0\x75\0\1" + NOISE,
}
ENCODED = {
    "uuencoded": uu(gzip.compress(TAR, mtime=0)),
    "uuencoded, lines of Windows": uu(ZIP).replace(b"\n", b"\r\n"),
    "base64 zip": lines_of(ZIP),
    "base64 tar.gz": base64.b64encode(gzip.compress(TAR, mtime=0)),
    "base64 image": lines_of(dicom("3") + NOISE),
    "base64 compressed image": lines_of(gzip.compress(dicom("3"), mtime=0)),
    "begin-base64": b"begin-base64 644 x\n" + lines_of(NOISE),
    "ascii85": base64.a85encode(ZIP, wrapcol=76, adobe=True),
    "ascii85 image": base64.a85encode(dicom("3") + NOISE, wrapcol=76, adobe=True),
}
DISCS = {
    "raw": b"".join(b"\0" + b"\xff" * 10 + b"\0" + bytes((0, 2, at, 1)) + bytes(2336) for at in range(20)),
    "nero 5": NOISE + b"NER5" + bytes(8),
    "nero": NOISE + b"NERO" + bytes(4),
}


@pytest.mark.parametrize(
    "data",
    [*PROGRAMS.values(), *ENCRYPTED.values(), *ENCODED.values(), *DISCS.values()],
    ids=[*PROGRAMS, *ENCRYPTED, *ENCODED, *DISCS],
)
def test_content_that_cannot_be_read(data: bytes) -> None:
    """It is judged by its place, whatever its name."""
    for place in PLACES:
        for name in ("post", "post.txt"):
            path = f"{place}/{name}".removeprefix("/")
            (found,) = plan_of({**GOOD, path: data}).set_aside
            assert (found.path, found.reason) == (path, "unreadable")
            assert found.detail.endswith(", or leave it out with --exclude")
    assert reasons(plan_of({**GOOD, "a/x/papers/p": data, "a/x/papers/list": b"words"})) == {
        "a/x/papers/p": "nested-archive",
        "a/x/papers/list": "not-dicom",
    }


@pytest.mark.parametrize(
    "data",
    [
        data
        for name, data in (PROGRAMS | ENCRYPTED | ENCODED).items()
        if "zip behind" not in name and "long" not in name
    ],
)
def test_such_content_in_a_compressed_file(data: bytes) -> None:
    (found,) = plan_of({**GOOD, "b/post.gz": gzip.compress(data)}).set_aside
    assert found.reason == "unreadable"


@pytest.mark.parametrize("name", ["gz behind a program", "tar behind a script", "zst", "base64 tar.gz"])
def test_a_program_in_a_session_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / "a/x/T1").mkdir(parents=True)
    (tmp_path / "a/x/T1/1").write_bytes(dicom("1"))
    with zipfile.ZipFile(tmp_path / "a/y.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("T1/1", dicom("2"))
        archive.writestr("T2.run", PROGRAMS[name])
    plan = plan_source(open_source(str(tmp_path), 2))
    assert reasons(plan) == {"a/y.zip/T2.run": "unreadable"}


def test_what_to_do_about_it() -> None:
    def told(data: bytes) -> str:
        (found,) = plan_of({**GOOD, "b/post": data}).set_aside
        return found.detail.partition(", or")[0]

    assert told(ENCRYPTED["age"]) == (
        "a file encrypted with age, which cannot be read here; decrypt it, and unpack it there"
    )
    assert told(PROGRAMS["gz"]) == "a program that unpacks a tar archive, which cannot be read here; unpack it there"


def crc_of_xz(front: bytes) -> bytes:
    return front + zlib.crc32(front[6:8]).to_bytes(4, "little")


@pytest.mark.parametrize(
    "data",
    [
        b"#!/bin/sh\necho ustar; gzip -dc $1 | tar x\n" * 90,
        HEAD + gzip.compress(NOISE, mtime=0),
        HEAD + bz2.compress(NOISE),
        HEAD + lzma.compress(NOISE),
        HEAD + crc_of_xz(b"\xfd7zXZ\0\0\4"),
        STUB + b"\x1f\x8b\x08" + NOISE,
        STUB + b"BZh91AY&SY" + NOISE,
        STUB + b"\xfd7zXZ\0" + NOISE,
        STUB + b"ustar\x0000" + NOISE,
        STUB + TAR[:148] + b"0000000\0" + TAR[156:512],
        STUB + b"\x28\xb5\x2f\xfd" + NOISE,
        b"#!/bin/sh\nif test $1 = Salted__; then exit; fi\n",
        b"#!/bin/sh\n# unpacks what begins with\n# begin 644 name\necho done\n",
        b"#!/bin/sh\nbegin 644 words of a text\nthat goes on here\n",
        script(lines_of(gzip.compress(b"settings" * 90, mtime=0))),
        script(lines_of(NOISE)),
        b"ssh-ed25519 " + b"A" * 60 + b" me\n",
        b"#!/usr/bin/env python3\n'''\n# Makes what says: This is a shell archive.\n'''\n",
        b"# Notes\nHow to unpack:\nThis is a shell archive, they say\n",
        b"MZ" + bytes(1 << 20) + gzip.compress(TAR, mtime=0),
        armored("PGP SIGNATURE"),
        armored("PGP PUBLIC KEY BLOCK"),
        armored("CERTIFICATE"),
        b"Notes about -----BEGIN PGP MESSAGE-----\n",
        b"age: 34\n",
        b"Salted water was given\n",
        b"AES\0x",
        b"MIME-Version: 1.0\nContent-Type: text/plain\n\nwords\n",
        b"begin 644 words\n of a text\n",
        b"beginning\n",
        lines_of(NOISE),
        b"H50" + b"A" * 99,
        b"<~ words ~>",
        base64.a85encode(NOISE, adobe=True),
        b"<~\xff\xfe",
        ENCRYPTED["gpg -c"][:15],
        ENCRYPTED["gpg -c"][:15] + b"\xd2\xed\7" + NOISE,
        ENCRYPTED["gpg -c"][:15] + NOISE,
        b"\xd2\xed\1" + NOISE,
        b"\x85\1" + NOISE,
        DER[: -len(NOISE) - 1] + b"\2" + NOISE,
        b"\0" + b"\xff" * 9 + b"\0\0" + bytes(5000) + b"x",
        NOISE + b"NER5" + bytes(9),
    ],
)
def test_what_only_resembles_it(data: bytes) -> None:
    assert reasons(plan_of({**GOOD, "a/x/T1/more": data})) == {"a/x/T1/more": "not-dicom"}


def test_many_marks_take_no_time() -> None:
    marks = {b"\x1f\x8b\x08": gzip.compress(TAR, mtime=0), b"ustar": TAR, b"BZh91AY&SY": bz2.compress(TAR)}
    for mark, archive in marks.items():
        assert reasons(plan_of({**GOOD, "b/post": STUB + mark * 90_000 + archive})) == {"b/post": "not-dicom"}


@pytest.mark.parametrize("name", ["notes.txt.asc", "report.pdf.age", "list.csv.enc", "x.xml.gz.gpg"])
def test_texts_that_are_encrypted(name: str) -> None:
    """What the name says is below the suffix is no image and no archive."""
    assert reasons(plan_of({**GOOD, f"b/{name}": ENCRYPTED["pgp"]})) == {f"b/{name}": "nested-archive"}
    assert reasons(plan_of({**GOOD, f"b/{name}": ENCODED["base64 zip"]})) == {f"b/{name}": "unreadable"}


def test_a_signature_and_a_message_with_one_suffix() -> None:
    for data, said in ((armored("PGP SIGNATURE"), "not-dicom"), (armored("PGP MESSAGE"), "unreadable")):
        assert reasons(plan_of({**GOOD, "b/post.asc": data})) == {"b/post.asc": said}


def test_encoded_content_is_no_plain_text() -> None:
    """Uuencoded lines are words to is_plain_text, so more is looked at under any name."""
    assert is_plain_text(ENCODED["uuencoded"][:1024])
    assert reasons(plan_of({**GOOD, "b/subject.age": ENCODED["uuencoded"]})) == {"b/subject.age": "unreadable"}


@pytest.mark.parametrize(
    "name",
    [
        *("post.zip.part1", "post.tar.gz.part02", "post.zip-part", "post.tar.br", "post.br", "post.zip.!ut"),
        *("post.zip.aria2", "post.zip.opdownload", "post.zip.temp", "post.zip.openssl", "post.scrypt", "post.zip.old"),
        *("post.tar.gz.bak", "post.zip.orig", "post.tar.uu", "post.zip.unfinished"),
    ],
)
def test_endings_of_archives_that_are_encrypted_or_not_complete(name: str) -> None:
    for place in PLACES:
        path = f"{place}/{name}".removeprefix("/")
        assert reasons(plan_of({**GOOD, path: NOISE})) == {path: "unreadable"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "index.html.br",
            "x.css.part1",
            "part1",
            "-part",
            "IM1.part1",
            "IM1-part",
            "notes.old",
            "x.orig",
            "body-part",
        ),
        *("x.temp", "counterpart", "post.zip.oldest"),
    ],
)
def test_endings_that_say_nothing(name: str) -> None:
    assert not hides_content(name)


@pytest.mark.parametrize("suffix", ["old", "bak", "orig", "1"])
def test_an_archive_that_was_set_by(suffix: str) -> None:
    """Its content tells: it is a problem when it holds images, and a note when it holds none."""
    path = f"b/y/T2.zip.{suffix}"
    assert reasons(plan_of({**GOOD, path: ZIP})) == {path: "unreadable"}
    assert reasons(plan_of({**GOOD, path: zip_of({"list": b"words"})})) == {path: "nested-archive"}


def test_a_root_of_sessions() -> None:
    """It may be a medium with programs. Nobody encrypts those."""

    def said(data: bytes) -> str:
        return reasons(plan_of({"x/T1/1": dicom("1"), "more": data}, layout="session", subject="S"))["more"]

    assert said(PROGRAMS["gz behind a program"]) == "nested-archive"
    assert said(ENCRYPTED["age"]) == "unreadable"
    assert said(ENCODED["uuencoded"]) == "unreadable"
