# Needs Python >= 3.11 with its venv module, make, and the package registry that pip is set up for.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# What only a release needs (the site, the man page, the SBOM's check) has an environment of its own.
RELEASE_RUN := .venv-release/bin
RELEASE := .venv-release/.ready
EPOCH = $$(git log -1 --format=%ct 2>/dev/null || echo 0)

# The image: what it is built on, what it is called (the container service keeps a command by NAME:TAG), who builds.
BASE_IMAGE ?= python:3.13-slim-bookworm
IMAGE ?= $(shell sed -n 's/^  "image": "\(.*\)",$$/\1/p' command.json)
DOCKER ?= docker
BUILD = $(DOCKER) build $(DOCKER_FLAGS) --build-arg BASE_IMAGE=$(BASE_IMAGE) \
	--build-arg SOURCE_DATE_EPOCH=$(EPOCH) --build-arg SOURCE=$(SOURCE) \
	--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null)

# Where a machine is set up to keep no compiled modules, each process would compile all of them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: venv audit faults help demo serve-standin test contract kills debian test-real test-lowest fuzz check fmt coverage \
	pages docs pictures measure bench lock dist sbom image image-test clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(READY) ## upload real DICOM files to a stand-in server on this machine, twice
	$(RUN) -m tests.demo

serve-standin: $(READY) ## keep the demo's server running to play with, until Ctrl-C; PORT chooses one
	@PORT=$(PORT) $(RUN) -m tests.serve_standin

# One process more than there are processors: some tests wait for a server or a process.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST := $(RUN) -m pytest --numprocesses $(JOBS) --dist worksteal

test: check ## lint, types, unit and contract tests, the widest grids in part
	$(PYTEST) -m "not wide" --ignore tests/real --ignore tests/image

test-wide: $(READY) ## the other rows of the widest grids
	$(PYTEST) -m wide

contract: $(READY) ## what becomes of every kind of object, way by way and stage by stage, as a table
	$(RUN) -m tests.contract.stages

kills: $(READY) ## 50 uploads killed at random moments, each run again; nothing may be lost, doubled or damaged
	$(RUN) -m tests.killing 50

faults: $(READY) ## networks, proxies and men in the middle against every transport and destination, then a hostile machine
	$(RUN) -m tests.contract.fault_matrix
	$(RUN) -m tests.contract.surroundings

debian: $(READY) ## install what the real tests need of Debian's packages, with one call of apt-get
	$(RUN) -m tests.debian

# A file is one worker's, since its tests share what they install.
test-real: $(READY) debian ## real clients, receivers, browser and archive readers, and the image in a real engine (Debian, root)
	$(RUN) -m pytest --numprocesses $(JOBS) --dist loadfile -m real tests/image tests/real

test-lowest: ## unit tests with the lowest library versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	for name in dev lowest; do .venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --no-deps -r requirements-$$name.txt || exit; done
	.venv-lowest/bin/python -m pytest tests/unit

mutants: $(READY) ## small changes to the code, those of its tables and 40 drawn by chance, that the tests must notice; MUTANTS="--sample 0 retrying" chooses
	$(RUN) -m tests.mutants $(MUTANTS)

SECONDS ?= 60
fuzz: $(READY) ## bytes that break the readers, for SECONDS (60) in all; TARGETS names some
	nice -n 10 $(RUN) -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

audit: $(READY) ## known vulnerabilities of the locked packages; fails for what it finds, says so where no database answers
	$(RUN) -m tests.audit

venv: $(READY) ## make .venv, and nothing else

check: $(READY) ## lint and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml

fmt: $(READY) ## format the code and fix what the linter can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

coverage: $(READY) ## which lines the tests reach
	$(VENV)/bin/coverage run --parallel-mode --source xnat_ingest -m pytest
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report --show-missing --skip-covered

pages: $(READY) ## write the pages that are made from the program anew
	$(RUN) -m tests.make_docs

docs: pages $(RELEASE) ## the documentation as a site in build/site, links checked
	$(RUN) -m tests.make_site
	$(RELEASE_RUN)/mkdocs build --quiet
	@echo "build/site/index.html"

pictures: $(READY) ## run the demo and take the README's picture of its page (needs Chromium)
	$(RUN) -m tests.make_pictures

measure: $(READY) ## how large functions and modules are, and how many modules each imports
	$(RUN) -m tests.measure

BENCH ?=
bench: $(READY) ## other tools beside this one, in time, memory and requests; BENCH="--sets b --rounds 1" for less
	$(RUN) -m bench $(BENCH)

lock: $(READY) ## resolve all requirements anew, with hashes
	for name in requirements requirements-lowest requirements-build requirements-dev requirements-release; do \
		$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
			$$([ $$name != requirements-lowest ] || echo --resolution lowest-direct) \
			$$([ -f $$name.in ] && echo $$name.in || echo pyproject.toml) --output-file $$name.txt || exit; \
	done
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		bench/requirements.in --output-file bench/requirements.txt

dist: $(READY) ## a wheel and a source archive in dist/
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

man: $(READY) $(RELEASE) ## a man page, and completion for bash, zsh and tcsh, in dist/
	@mkdir -p dist/man dist/completion
	PYTHONPATH=. $(RELEASE_RUN)/argparse-manpage --module xnat_ingest.cli.parser --function make_parser \
		--prog xnat-ingest --project-name xnat-ingest --manual-title xnat-ingest \
		--description "bring DICOM into XNAT, and prove for every instance that it is there" \
		--version $$($(RUN) -m xnat_ingest --version | cut -d' ' -f2) --output dist/man/xnat-ingest.1
	$(RUN) -m tests.make_man dist/man/xnat-ingest.1
	for shell in bash zsh tcsh; do PYTHONPATH=. $(RELEASE_RUN)/shtab --shell $$shell --prog xnat-ingest \
		xnat_ingest.cli.parser.make_parser > dist/completion/xnat-ingest.$$shell || exit; done

sbom: $(READY) $(RELEASE) ## what the image's own layer holds, in dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	SOURCE_DATE_EPOCH=$(EPOCH) BASE_IMAGE=$(BASE_IMAGE) $(RUN) -m tests.make_sbom > dist/sbom.cdx.json
	@$(RELEASE_RUN)/python -c 'import sys; from cyclonedx.schema import SchemaVersion; \
		from cyclonedx.validation.json import JsonStrictValidator; \
		sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open("dist/sbom.cdx.json").read()))'
	@echo "dist/sbom.cdx.json"

# The labels name the image, so one of another name needs others. And the same without labels, see Dockerfile.
image: $(READY) ## build the image with its labels; SOURCE: the address of the sources, for a label
	@set --; $(RUN) -m xnat_ingest command show --image $(IMAGE) --labels > $(VENV)/labels || exit; \
	while IFS= read -r label; do set -- "$$@" --label "$$label"; done < $(VENV)/labels; \
	$(BUILD) --target unlabelled --tag $(IMAGE)-unlabelled . && $(BUILD) "$$@" --tag $(IMAGE) .

# As root on Debian it makes both engine and base where none can be had.
image-test: $(READY) ## the image in a real engine
	$(RUN) -m pytest -m real tests/image

# uv first: it installs the rest in a tenth of pip's time.
$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "This needs Python 3.11 or newer with its venv module; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	sed -n '/^uv==/,/# via/p' requirements-dev.txt > $(VENV)/uv.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	UV_COMPILE_BYTECODE=1 $(RUN) -m tests.environments $(VENV) --require-hashes -r requirements.txt -r requirements-dev.txt
	$(RUN) -m tests.environments $(VENV) --no-deps --no-build-isolation --editable .
	touch $@

$(RELEASE): $(READY) requirements-release.txt
	$(RUN) -m tests.environments .venv-release --require-hashes -r requirements-release.txt
	touch $@

clean: ## remove everything that was made here
	rm -rf $(VENV) .venv-real .venv-lowest .venv-fuzz .venv-audit .venv-release .venv-bench .fuzz demo dist build .mypy_cache .pytest_cache .ruff_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
