# Needs Python >= 3.11 with its venv module, make, and the package registry that pip is set up for.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test test-real check clean

# The main job on real DICOM files, against a stand-in server on this machine; then again, sending nothing.
demo: $(READY)
	$(RUN) -m tests.demo

# Lint, types, tests.
test: check
	$(RUN) -m pytest

# Real clients (xnatpy, pyxnat, xnatctl), each in an environment of its own, against the stand-in.
test-real: $(READY)
	$(RUN) -m pytest -m real tests/real

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "This needs Python 3.11 or newer with its venv module; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt -r requirements-dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-real build demo dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
