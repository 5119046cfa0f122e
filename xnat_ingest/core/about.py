"""The program's name and version, for logs, reports and the User-Agent."""

__version__ = "0.1.0"
# The implementation that DICOM files name when this program has written their header (PS3.10, 7.1).
IMPLEMENTATION_UID = "2.25.212410173018429480914527083021346710551"
