"""Sessions that exist only as NIfTI: read, planned, created, sent, proven."""
