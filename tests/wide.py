"""The widest grids, and what takes longest. `make test` runs some rows of each, `make test-wide` the others.

A test is named by its file below tests/ and its name; tests/unit/test_wide.py sees to it that there is such a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest

# How many rows of a grid `make test` runs, spread evenly over it. Continuous integration runs all of them.
GRIDS = {
    "contract/test_archives.py::test_a_stream_is_read_once_to_be_scanned_once_to_be_sent_and_once_to_be_compared": 2,
    "contract/test_archives.py::test_an_archive_as_root_is_uploaded": 2,
    "contract/test_archives_hostile.py::test_no_damage_ends_a_scan": 0,
    "contract/test_changed_uids.py::test_an_interrupted_upload": 3,
    "contract/test_changed_uids.py::test_second_upload_growth_and_overwrite": 1,
    "contract/test_coming_from.py::test_a_line_of_the_document": 12,
    "contract/test_contract.py::test_contract": 6,
    "contract/test_cstore.py::test_every_transfer_syntax_goes_as_it_is_stored": 6,
    "contract/test_cstore_upload.py::test_under_troubles": 1,
    "contract/test_deidentify.py::test_nothing_planted_arrives": 1,
    "contract/test_deidentify_references.py::test_every_reference_resolves_on_the_servers_disk": 1,
    "contract/test_demo.py::test_the_tree_goes_with_each": 2,
    "contract/test_existing.py::test_archived": 20,
    "contract/test_existing_rows.py::test_our_row_is_completed": 4,
    "contract/test_faults.py::test_fault": 9,
    "contract/test_faults.py::test_stalled_socket": 0,
    "contract/test_gradual.py::test_faults": 3,
    "contract/test_identity_command.py::test_every_place_is_seen": 12,
    "contract/test_launch.py::test_values_arrive_as_they_were_typed_or_not_at_all": 7,
    "contract/test_moved_by_a_build.py::test_a_reply_is_lost": 3,
    "contract/test_moved_by_a_build.py::test_an_interrupted_upload_of_two_series_of_one_number": 3,
    "contract/test_moved_by_a_build.py::test_either_of_two_series_of_one_number_grows": 3,
    "contract/test_moved_by_a_build.py::test_the_row_is_found_open": 7,
    "contract/test_no_identifiers_in_output.py::test_a_bug": 1,
    "contract/test_no_identifiers_in_output.py::test_a_run_full_of_faults": 1,
    "contract/test_no_identifiers_in_output.py::test_runs_that_come_to_nothing": 3,
    "contract/test_output.py::test_a_full_disk_behind_stdout": 2,
    "contract/test_output.py::test_signals_in_mid_run": 1,
    "contract/test_output.py::test_texts_of_a_server": 3,
    "contract/test_proof.py::test_a_pixel_that_is_stored_wrong": 3,
    "contract/test_proof.py::test_a_read_that_fails_is_repeated": 2,
    "contract/test_proof.py::test_pixels_reads_all": 3,
    "contract/test_proof.py::test_spot_reads_one_of_each_kind": 3,
    "contract/test_proof.py::test_what_cannot_be_read_back_is_there_all_the_same": 1,
    "contract/test_proof.py::test_what_is_sent_rightly_is_stored_whole": 5,
    "contract/test_proof.py::test_what_the_server_destroys_is_seen": 5,
    "contract/test_resource_verbs_names.py::test_each_odd_name_alone": 3,
    "contract/test_signals.py::test_killed_at_random_moments": 0,
    "contract/test_signals.py::test_killed_while_headers_are_rewritten": 0,
    "contract/test_signals.py::test_run_started_in_the_middle_of_another": 1,
    "contract/test_signals.py::test_second_signal_ends_at_once": 1,
    "contract/test_signals.py::test_signal_while_closing": 1,
    "contract/test_signals.py::test_signal_while_parts_travel": 1,
    "contract/test_signals.py::test_two_runs_started_together": 1,
    "contract/test_stages.py::test_every_kind_of_object_through_every_stage": 1,
    "contract/test_unlisted.py::test_upload_verify_again_growth_and_overwrite": 2,
    "unit/test_archive_damage.py::test_no_flipped_bit_loses_a_member": 1,
    "unit/test_command_check_accepted.py::test_wherever_something_odd_stands_the_service_takes_what_the_check_takes": 1,
    "unit/test_compare_dicom.py::test_a_cut_is_never_sound": 2,
    "unit/test_compare_dicom.py::test_a_file_is_like_itself": 30,
    "unit/test_completeness.py::test_a_real_image_cut_at_every_element_boundary": 2,
    "unit/test_deidentify_rewriting.py::test_every_real_header_comes_out_readable_or_is_refused": 1,
    "unit/test_deidentify_rewriting.py::test_nothing_planted_leaves": 2,
    "unit/test_dicom_headers.py::test_a_cut_file_is_never_called_whole": 2,
    "unit/test_header_limits.py::test_millions_of_items_are_not_built": 1,
    "unit/test_outgoing.py::test_a_header_that_inflates_to_much_is_not_kept": 0,
    "unit/test_outgoing.py::test_memory_does_not_grow_with_what_a_file_inflates_to": 0,
    "unit/test_stamping.py::test_real_files_differ_in_that_element_alone": 30,
}


def mark_wide(items: Iterable[pytest.Item]) -> None:
    """Marks the rows that `make test` leaves out."""
    grids = defaultdict(list)
    for item in items:
        grids[item.nodeid.partition("[")[0].removeprefix("tests/")].append(item)
    for name, number in GRIDS.items():
        rows = grids[name]
        kept = {(2 * index + 1) * len(rows) // (2 * number) for index in range(number)}
        for index, row in enumerate(rows):
            if index not in kept:
                row.add_marker(pytest.mark.wide)
