"""`xnat-ingest nifti`: a tree of NIfTI images and their sidecars, also in BIDS, into the archive."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xnat_ingest.cli.signals import catch_signals, end_process
from xnat_ingest.settings.options import add_options


def add_words(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", metavar="ROOT", help="the folder that holds SUBJECT/SESSION/SCAN/, or a BIDS tree")
    group = command.add_argument_group("what is created")
    group.add_argument("--modality", default="", metavar="MR", help="of all scans: MR, PT, CT or NM, whatever they say")
    group.add_argument(
        "--session-type", default="", metavar="TYPE", help="XNAT's type of all sessions, such as xnat:petmrSessionData"
    )
    group.add_argument("--quality", default="usable", metavar="WORD", help="of new scans, usable")
    group.add_argument(
        "--one-resource", action="store_true", help="sidecars into NIFTI, beside the images, rather than into BIDS"
    )
    group.add_argument("--overwrite", action="store_true", help="replace files that are there with other bytes")
    add_options(command, "nifti")


def nifti(given: dict[str, Any], environ: Mapping[str, str]) -> int:
    from xnat_ingest import report
    from xnat_ingest.cli.outputs import check_outputs
    from xnat_ingest.commands.nifti.run import NiftiRun, NiftiRunOptions, tree_lines
    from xnat_ingest.core.model import Event
    from xnat_ingest.core.stop import Stop
    from xnat_ingest.settings.layers import credentials, launch_of, resolve, unknown_variables

    settings = resolve("nifti", given, environ)
    choices = NiftiRunOptions.of(
        given["modality"],
        given["session_type"],
        given["quality"],
        together=given["one_resource"],
        overwrite=given["overwrite"],
    )
    check_outputs(settings, given["root"])
    reporter = report.make_reporter(settings)
    stop = Stop()
    run = NiftiRun(given["root"], settings, choices, reporter.emit, stop)
    launch = launch_of(environ)
    login = credentials(settings, environ, http_is_warning=bool(launch))
    for line in unknown_variables(environ):
        reporter.emit(Event("warning", {"text": line}))
    for line in (*settings.shown(), f"server in use = {login.server}", f"user in use = {login.user}"):
        reporter.emit(Event("setting", {"text": line}))
    if login.in_the_clear:
        reporter.emit(Event("warning", {"text": f"the password travels in the clear to {login.server}; use https://"}))
    catch_signals(stop)
    result = replace(run.execute(login), launch=launch)
    if settings.dry_run:
        for line in tree_lines(run):
            print(line)
    return end_process(result, settings, reporter, 0o644 if launch else 0o600, environ)
