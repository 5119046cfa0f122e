# Needs Python >= 3.11 with its venv module, make, and the package registry that pip is set up for.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

# The image: what it is built on, what it is called (the container service keeps a command by NAME:TAG), who builds.
BASE_IMAGE ?= python:3.13-slim-bookworm
IMAGE ?= $(shell sed -n 's/^  "image": "\(.*\)",$$/\1/p' command.json)
DOCKER ?= docker
BUILD = $(DOCKER) build $(DOCKER_FLAGS) --build-arg BASE_IMAGE=$(BASE_IMAGE) \
	--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: demo test test-real image image-test check clean

# The main job on real DICOM files, against a stand-in server on this machine; then again, sending nothing.
demo: $(READY)
	$(RUN) -m tests.demo

# Lint, types, tests.
test: check
	$(RUN) -m pytest --numprocesses auto

# Real clients (xnatpy, pyxnat, xnatctl), each in an environment of its own, against the stand-in; then the image.
test-real: $(READY) image-test
	$(RUN) -m pytest -m real tests/real

# The image, labelled from command.json, and the same without the label that old containerds refuse (over 4096 bytes).
image: $(READY)
	@set --; $(RUN) -m xnat_ingest command show --image $(IMAGE) --labels > $(VENV)/labels || exit; \
	while IFS= read -r label; do set -- "$$@" --label "$$label"; done < $(VENV)/labels; \
	$(BUILD) --tag $(IMAGE)-unlabelled . && $(BUILD) "$$@" --tag $(IMAGE) .

# The image in a real engine; as root on Debian it makes both engine and base where none can be had.
image-test: $(READY)
	$(RUN) -m pytest -m real tests/image

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
	rm -rf $(VENV) .venv-real demo dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
