"""`xnat-ingest nifti`: uploads a tree of NIfTI images and their sidecars, also in BIDS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xnat_ingest import report
from xnat_ingest.cli.outputs import check_outputs, write_outputs
from xnat_ingest.cli.signals import catch_signals
from xnat_ingest.commands.nifti.run import NiftiRun, NiftiRunOptions, tree_lines
from xnat_ingest.core import Event
from xnat_ingest.core.secrets import called
from xnat_ingest.core.stop import Stop
from xnat_ingest.settings.layers import credentials, launch_of, resolve, unknown_variables


def nifti(given: dict[str, Any], environ: Mapping[str, str]) -> int:
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
    for line in (*settings.shown(), f"server in use = {login.server}", f"user in use = {called(login.user)}"):
        reporter.emit(Event("setting", {"text": line}))
    if login.in_the_clear:
        reporter.emit(Event("warning", {"text": f"the password is sent in clear text to {login.server}; use https://"}))
    catch_signals(stop)
    result = replace(run.execute(login), launch=launch)
    if settings.dry_run:
        for line in tree_lines(run):
            print(line)
    return write_outputs(result, settings, reporter, 0o644 if launch else 0o600, environ, stop)
