"""Bring DICOM into XNAT, and prove for every instance that it is there."""

__version__ = "0.1.0"
