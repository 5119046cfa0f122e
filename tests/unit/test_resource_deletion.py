"""Deleting files of a resource: a name that is empty would mean all of them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from xnat_ingest.commands.resources.target import delete_files
from xnat_ingest.core.errors import UsageError
from xnat_ingest.xnat.client import XnatClient
from xnat_ingest.xnat.retry_policy import RetryPolicy


@pytest.mark.parametrize("names", [[""], ["a", ""]])
def test_an_empty_name_is_refused_before_anything_is_asked(names: list[str]) -> None:
    nobody = cast(XnatClient, cast(Any, None))
    with pytest.raises(UsageError, match="nothing was deleted"):
        delete_files(nobody, "/data/projects/P", "QC", names, keep=False, retry_policy=RetryPolicy(0))
