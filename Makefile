# The commands that must always work on a fresh machine with Python 3.11+ and make, as root or not. Of several Pythons the
# one that CI runs comes first.
#   make run     set everything up and run the tap on loopback with a stand-in handler and sample traffic
#   make test    set everything up and run the whole suite
#   make check   lint, types, layers
#   make bench   measure
# For a busy tap (docs/operations.md):
#   make compiled   install a copy with the classifier compiled to C into .venv-compiled
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
# The distribution's own Python is compiled with profiling, which many others are not; it needs its headers for this.
COMPILED := .venv-compiled
COMPILED_PYTHON ?= $(shell for p in /usr/bin/python3 $(PYTHON); do \
	$$p -c 'import ensurepip, os, sys, sysconfig, venv; sys.exit(sys.version_info < (3, 11) or not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null && { echo $$p; break; }; done)
SOURCES := $(filter-out %.pyc,$(wildcard $(foreach p,proxy classifier store bouncetap,$p/*.* $p/*/*.* $p/*/*/*.* $p/*/*/*/*.*)))

.PHONY: run test check bench compiled setup setup-dev system-packages clean
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
	@$(MAKE) -s compiled || echo "without the compiled classifier" >&2
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

compiled: $(COMPILED)/.installed

$(COMPILED)/.installed: setup.py pyproject.toml constraints.txt $(SOURCES)
	@command -v cc >/dev/null 2>&1 && [ -n "$(COMPILED_PYTHON)" ] || { echo "make compiled needs a C compiler and Python 3.11 or newer with its headers: on Debian or Ubuntu, apt-get install gcc python3-dev python3-venv" >&2; exit 1; }
	@echo "Installing bouncetap with the classifier compiled into $(COMPILED), with $(COMPILED_PYTHON) (two minutes) ..."
	@[ -x $(COMPILED)/bin/pip ] || $(COMPILED_PYTHON) -m venv $(COMPILED)
	@rm -rf $@ build  # setuptools would pack what an older version left there
	@BOUNCETAP_COMPILE=1 PIP_CONSTRAINT=constraints.txt $(COMPILED)/bin/pip install -q --disable-pip-version-check .
	@rm -rf build
	@cd / && $(abspath $(COMPILED))/bin/python -P -c 'import classifier.rulebook as r, sys; sys.exit(r.__file__.endswith(".py"))' || { echo "the classifier was installed, but not compiled: is mypyc broken?" >&2; exit 1; }
	@touch $@

# Real IMAP clients for the client matrix. Without root the tests that need an absent one say so and skip; in CI they fail.
system-packages:
	@sh tests/system-packages.sh

clean:
	rm -rf $(VENV) $(COMPILED) var build *.egg-info
