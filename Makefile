# Muon Lab. `make lab` starts the course; `make help` lists the rest.
# Every path is relative and quoted, so that the repository may stand in a folder with a space.

.DEFAULT_GOAL := help
.PHONY: help lab test check bench store clean

# The first interpreter on the path that is new enough; `make lab PYTHON=...` names another.
ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(or $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	$$name $(ENOUGH) 2>/dev/null && echo $$name && break; done),python3)
RUN := .venv/bin/python

# With no display there is no browser to open; as root, Jupyter wants to be asked twice.
QUIET := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser)
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

help:  ## list what can be asked for
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

lab: .venv/has-lab  ## install what is missing and open the course in JupyterLab
	$(ALIVE)
	@$(RUN) -m muon_lab.doctor
	@$(RUN) -m jupyterlab --ip=127.0.0.1 $(QUIET) $(ROOT) --log-level=WARN \
		--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(ARGS)

test: lint  ## lint, unit tests, doctests, every notebook twice, the browser: all that must hold
	@$(RUN) -m pytest tests muon_lab notebooks \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=180 $(ARGS)

check: lint  ## lint and the unit tests only, for while you work
	@$(RUN) -m pytest -m "not notebook" --ignore=tests/notebooks/test_browser.py $(ARGS)

.PHONY: lint
lint: .venv/has-test
	$(ALIVE)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

bench: .venv/has-test  ## measure the speeds that the course speaks of
	@$(RUN) tools/benchmarks.py
	@$(RUN) tools/bench_explorers.py

store: .venv/has-test  ## run NOTEBOOK=notebooks/... from top to bottom and store its outputs
	@test -n "$(NOTEBOOK)" || { echo "Say which: make store NOTEBOOK=notebooks/01_descent.ipynb"; exit 2; }
	@$(RUN) tools/store_notebook.py $(NOTEBOOK)

clean:  ## take away the environment and the caches; recorded runs stay
	@rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# An environment is bound to the Python that made it, and an update of the system may take that away.
ALIVE = $(if $(shell $(RUN) -c "" >/dev/null 2>&1 || echo dead),$(error The Python that .venv was made \
	with is gone: make clean lab))

# torch brings CUDA along on Linux, which takes 8,000; without it 2,000 are enough. What is installed
# already needs no more: there pip says what it lacks.
FREE = $(shell df -Pm . | awk 'END {print $$4}')
FULL = $(shell test $(FREE) -gt 2000 || echo full)
ROOM = $(if $(wildcard .venv/has-*),,$(if $(FULL),$(error The course takes 2,000 MB of disk, with \
	CUDA 8,000, and $(FREE) are free here)))

# JupyterLab asks a newcomer about its news, and the network for them: neither belongs to the course.
NEWS := @jupyterlab/apputils-extension:announcements

# .venv/has-lab and .venv/has-test say that an extra of pyproject.toml is installed.
.venv/has-%: pyproject.toml requirements.lock | .venv/bin/pip
	$(ROOM)
	@echo "Installing what the course needs into .venv: once, a few minutes ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$*]' || { \
		echo "Could not install, for the reason above; mend it and ask again, it goes on from here."; \
		exit 1; }
	@$(RUN) -m jupyter labextension disable $(NEWS) 2>/dev/null
	@touch $@

.venv/bin/pip:
	$(if $(shell "$(PYTHON)" $(ENOUGH) 2>&1 || echo old),$(error Muon Lab needs Python 3.11 or later, \
		and $(PYTHON) is $(or $(shell "$(PYTHON)" --version 2>/dev/null),missing): install one, \
		or name it: make lab PYTHON=...))
	$(if $(shell "$(PYTHON)" -c 'import ensurepip, venv' 2>&1),$(error $(PYTHON) has no venv module: \
		on Debian and Ubuntu, sudo apt install python3-venv))
	$(ROOM)
	@"$(PYTHON)" -m venv .venv
