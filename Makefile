# The commands that must always work on a fresh machine with Python 3.11+ and make, as root or not. Of several Pythons the
# one that CI runs comes first.
#   make run     set everything up and run the tap on loopback with a stand-in handler and sample traffic
#   make test    set everything up and run the whole suite
#   make check   lint, types, layers
#   make bench   measure
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench setup setup-dev system-packages clean
.DEFAULT_GOAL := run

run: setup
	@$(BIN)/bouncetap demo $(ARGS)

test: setup-dev system-packages
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup-dev
	@$(BIN)/python -m bench $(ARGS)

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/bin/pip:
	@if [ -z "$(PYTHON)" ]; then echo "bouncetap needs Python 3.11 or newer: on Debian or Ubuntu, apt-get install python3.11 python3.11-venv (or python3 python3-venv)" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "bouncetap needs Python's venv module with ensurepip: on Debian or Ubuntu, apt-get install $$(basename $$(readlink -f $$(command -v $(PYTHON))))-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing bouncetap and what it needs (a minute, the first time) ..."
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing bouncetap, what it needs, and the tools for tests and checks (a minute, the first time) ..."
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $(VENV)/.installed $@

# Real IMAP clients for the client matrix. Without root the tests that need an absent one say so and skip; in CI they fail.
system-packages:
	@sh tests/system-packages.sh

clean:
	rm -rf $(VENV) var build *.egg-info
