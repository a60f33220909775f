# Muon Lab. `make lab` starts the course; `make help` lists the rest.
# Paths are relative or quoted, so that the repository may be in a folder with a space in its name.

.DEFAULT_GOAL := help
.PHONY: help lab test check lint bench gpu store site clean

# The first interpreter on the path that is new enough; `make lab PYTHON=...` chooses another.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(or $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	$$name $(NEW_ENOUGH) 2>/dev/null && echo $$name && break; done),python3)
RUN := .venv/bin/python

# Without a display there is no browser to open; Jupyter runs as root only with a flag.
NO_BROWSER := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser)
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

lab: export MUON_LAB_PROGRESS := $(CURDIR)/my_course/progress.json
lab: .venv/has-lab  ## install what is missing and open your copy of the course in JupyterLab
	$(CHECK_PYTHON)
	@$(RUN) -m muon_lab.doctor
	@$(RUN) -m muon_lab.my_course $(FRESH)
	@$(RUN) -m jupyterlab --ip=127.0.0.1 $(NO_BROWSER) $(ROOT) --log-level=WARN \
		--LabApp.app_settings_dir="$(CURDIR)/tools/jupyterlab" \
		--ContentsManager.pre_save_hook=muon_lab.my_course.drop_dead_views \
		--LabApp.default_url=/lab/tree/my_course/00_start_here.ipynb $(ARGS)

test: lint  ## run everything: lint, unit tests, doctests, every notebook twice, the browser
	@$(RUN) -m pytest tests muon_lab notebooks \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=180 $(ARGS)

check: lint  ## run lint, the unit tests and doctests, for while you work
	@$(RUN) -m pytest -m "not notebook and not browser" $(ARGS)

lint: .venv/has-test
	$(CHECK_PYTHON)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

# torch.compile on a CPU needs a C compiler, and fails in a folder with a space in its name.
bench: COMPILED = $(if $(shell command -v cc),$(if $(filter 1,$(words $(CURDIR))),--compiled))
bench: .venv/has-test  ## measure the speeds that the course mentions
	@$(RUN) tools/benchmarks.py --case cpu --seconds 10 $(COMPILED)
	@$(RUN) tools/benchmarks.py --case gpu-124m --seconds 15
	@$(RUN) tools/bench_orthogonalize.py --seconds 4 $(COMPILED)
	@$(RUN) tools/bench_explorers.py

gpu: .venv/has-test  ## on an NVIDIA GPU: run its tests, benchmarks and recorded runs; MINUTES=9
	@$(RUN) tools/record_gpu.py $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

store: .venv/has-test  ## run NOTEBOOK=notebooks/... from top to bottom and store its outputs
	@test -n "$(NOTEBOOK)" || { echo "Name one: make store NOTEBOOK=notebooks/01_descent.ipynb"; exit 2; }
	@$(RUN) tools/store_notebook.py $(NOTEBOOK)

site: .venv/has-site  ## build the course as static pages in build/site
	$(CHECK_PYTHON)
	@$(RUN) tools/build_site.py

clean:  ## delete the environment and the caches; recorded runs and my_course stay
	@rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# An environment depends on the Python that made it, which an update of the system may remove.
CHECK_PYTHON = $(if $(shell $(RUN) -c "" >/dev/null 2>&1 || echo dead),$(error The Python that made \
	.venv is gone: run make clean lab))

# On Linux torch brings CUDA, which needs 8,000 MB; without it 2,000 are enough. After the first
# installation pip itself says if there is too little.
FREE_MB = $(shell df -Pm . | awk 'END {print $$4}')
DISK_FULL = $(shell test $(FREE_MB) -gt 2000 || echo full)
CHECK_DISK = $(if $(wildcard .venv/has-*),,$(if $(DISK_FULL),$(error The course needs 2,000 MB of \
	disk, 8,000 with CUDA, and $(FREE_MB) are free here)))

# .venv/has-lab and .venv/has-test record that an extra of pyproject.toml is installed.
.venv/has-%: pyproject.toml requirements.lock | .venv/bin/pip
	$(CHECK_DISK)
	@echo "Installing what the course needs into .venv: once, a few minutes ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$*]' || { \
		echo "The installation failed for the reason above. Fix it and run make again: it continues."; \
		exit 1; }
	@touch $@

.venv/bin/pip:
	$(if $(shell "$(PYTHON)" $(NEW_ENOUGH) 2>&1 || echo old),$(error Muon Lab needs Python 3.11 or \
		later, and $(PYTHON) is $(or $(shell "$(PYTHON)" --version 2>/dev/null),missing): install it, \
		or name it with make lab PYTHON=...))
	$(if $(shell "$(PYTHON)" -c 'import ensurepip, venv' 2>&1),$(error $(PYTHON) has no venv module: \
		on Debian and Ubuntu, sudo apt install python3-venv))
	$(CHECK_DISK)
	@"$(PYTHON)" -m venv .venv
