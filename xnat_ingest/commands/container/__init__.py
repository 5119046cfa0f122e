"""The container-service command: its document, its check, its registration, and what its command line calls."""
