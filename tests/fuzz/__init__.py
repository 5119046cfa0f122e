"""Whatever bytes come in, the readers end with an answer or a documented error: `make fuzz` looks for bytes that break
that. A target is a function of bytes; each family of targets has a file here.
"""
