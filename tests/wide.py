"""The widest grids of the contract tests. `make test` runs some rows of each, `make test-wide` the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest

CONTRACT = "tests/contract/"
# How many rows of a grid `make test` runs, spread evenly over it. All of them run in continuous integration.
GRIDS = {
    "test_archives.py::test_a_stream_is_read_once_to_be_scanned_once_to_be_sent_and_once_to_be_compared": 2,
    "test_archives.py::test_an_archive_as_root_is_uploaded": 2,
    "test_archives_hostile.py::test_no_damage_ends_a_scan": 0,
    "test_changed_uids.py::test_an_interrupted_upload": 3,
    "test_changed_uids.py::test_second_upload_growth_and_overwrite": 1,
    "test_coming_from.py::test_a_line_of_the_document": 12,
    "test_contract.py::test_contract": 6,
    "test_cstore.py::test_every_transfer_syntax_goes_as_it_is_stored": 6,
    "test_cstore_upload.py::test_under_troubles": 1,
    "test_deidentify.py::test_nothing_planted_arrives": 2,
    "test_existing.py::test_archived": 20,
    "test_existing_rows.py::test_our_row_is_completed": 4,
    "test_faults.py::test_fault": 9,
    "test_gradual.py::test_faults": 3,
    "test_identity_command.py::test_every_place_is_seen": 12,
    "test_launch.py::test_values_arrive_as_they_were_typed_or_not_at_all": 7,
    "test_moved_by_a_build.py::test_a_reply_is_lost": 3,
    "test_moved_by_a_build.py::test_an_interrupted_upload_of_two_series_of_one_number": 3,
    "test_moved_by_a_build.py::test_either_of_two_series_of_one_number_grows": 3,
    "test_moved_by_a_build.py::test_the_row_is_found_open": 7,
    "test_no_identifiers_in_output.py::test_a_bug": 1,
    "test_no_identifiers_in_output.py::test_a_run_full_of_faults": 1,
    "test_no_identifiers_in_output.py::test_runs_that_come_to_nothing": 3,
    "test_output.py::test_a_full_disk_behind_stdout": 2,
    "test_output.py::test_signals_in_mid_run": 1,
    "test_output.py::test_texts_of_a_server": 3,
    "test_proof.py::test_a_pixel_that_is_stored_wrong": 3,
    "test_proof.py::test_a_read_that_fails_is_repeated": 2,
    "test_proof.py::test_pixels_reads_all": 3,
    "test_proof.py::test_spot_reads_one_of_each_kind": 3,
    "test_proof.py::test_what_cannot_be_read_back_is_there_all_the_same": 1,
    "test_proof.py::test_what_is_sent_rightly_is_stored_whole": 5,
    "test_proof.py::test_what_the_server_destroys_is_seen": 5,
    "test_resource_verbs_names.py::test_each_odd_name_alone": 3,
    "test_signals.py::test_killed_at_random_moments": 0,
    "test_signals.py::test_killed_while_headers_are_rewritten": 0,
    "test_signals.py::test_run_started_in_the_middle_of_another": 1,
    "test_signals.py::test_second_signal_ends_at_once": 1,
    "test_signals.py::test_signal_while_closing": 1,
    "test_signals.py::test_signal_while_parts_travel": 1,
    "test_signals.py::test_two_runs_started_together": 1,
    "test_stages.py::test_every_kind_of_object_through_every_stage": 1,
    "test_unlisted.py::test_upload_verify_again_growth_and_overwrite": 2,
}


def mark_wide(items: Iterable[pytest.Item]) -> None:
    """Marks the rows that `make test` leaves out."""
    grids = defaultdict(list)
    for item in items:
        grids[item.nodeid.partition("[")[0].removeprefix(CONTRACT)].append(item)
    for name, number in GRIDS.items():
        rows = grids[name]
        kept = {(2 * index + 1) * len(rows) // (2 * number) for index in range(number)}
        for index, row in enumerate(rows):
            if index not in kept:
                row.add_marker(pytest.mark.wide)
