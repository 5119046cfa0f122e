"""The SOP classes whose files a build leaves under the label DICOM: XNAT's list of primary imaging classes.

The list is SOPModel's (dicom-xnat, primary-sops.txt) as of 1.9. Nothing but the SOP class decides: what Image Type says
is not asked.
"""

from __future__ import annotations

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_TAILS = """
    1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1
    2 2.1
    3.1
    4 4.1
    6.1 6.3
    9.1.1 9.1.3 9.2.1 9.3.1 9.6.1 9.7.2 9.7.3 9.8.1
    12.1 12.2
    13.1.1 13.1.2 13.1.3
    20
    77.1.1.1 77.1.2 77.1.2.1 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.4 77.1.6 77.1.7 77.1.8
    88.11 88.22
    91.1
    104.4 104.5
    128 130
    481.1 481.2
"""
PRIMARY = frozenset(_STORAGE + tail for tail in _TAILS.split())
