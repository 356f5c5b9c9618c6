# Every target sets up what it needs: in a fresh clone, `make run` alone will do.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup run smoke all test regress stale lab new lint docs known-notebook

PYTHON ?= python3
# Those for which constraints.txt is resolved; pyproject.toml lists them.
PYTHONS := 3.11 to 3.14
NN ?= 004
NAME ?=
LAB_FLAGS ?=
# Tests run in this many processes. The tests of a file, or the cells of a notebook, stay together.
WORKERS ?= 2

INSTALLED := .venv/installed
# Read by every JupyterLab of this environment, such as that a .py opens as a notebook; and by
# nbconvert. A change of either file reaches an environment that is installed already.
LAB_SETTINGS := .venv/etc/jupyter/labconfig/default_setting_overrides.json
PAGE_SETTINGS := .venv/etc/jupyter/jupyter_nbconvert_config.json
READY := $(INSTALLED) $(LAB_SETTINGS) $(PAGE_SETTINGS)
NOTEBOOKS := $(wildcard notebooks/$(NN)_*.py)
NOTEBOOK := $(firstword $(NOTEBOOKS))
NUMBERS := $(sort $(foreach name,$(notdir $(wildcard notebooks/[0-9]*_*.py)),$(firstword $(subst _, ,$(name)))))

# The commands below are those of the environment; PYTHON, which makes it, is one from outside.
OUTSIDE := $(PATH)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Else debugpy warns, in every kernel it starts in, about modules that Python keeps frozen.
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# Where a run stopped, in one sentence; what an earlier run left is no answer.
STARTED := .venv/started
stopped = { [ $(1) -ot $(STARTED) ] || python -m lab.research_log --show $(1); exit 1; }

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

setup: $(READY)  ## install everything into .venv; PYTHON=python3.12 chooses the Python

# Without its file a notebook would run at its small defaults, and be taken for a full run.
parameters = @test -f $(1) || { echo "There is no $(1): write it (params/004.yaml is an example), \
or run the notebook at its defaults with papermill $(NOTEBOOK) out.ipynb." >&2; exit 1; }

run: known-notebook $(READY)  ## run one notebook in full and show its verdict; NN=004 chooses it
	$(call parameters,params/$(NN).yaml)
	@mkdir -p executed && touch $(STARTED)
	papermill $(NOTEBOOK) executed/$(NN).ipynb -f params/$(NN).yaml \
	  || $(call stopped,executed/$(NN).ipynb)
	@python -m lab.research_log --write executed
	@python -m lab.research_log --show executed/$(NN).ipynb

smoke: known-notebook $(READY)  ## the same in seconds, at sizes that show only that it works
	$(call parameters,params/smoke/$(NN).yaml)
	@mkdir -p executed/smoke && touch $(STARTED)
	papermill $(NOTEBOOK) executed/smoke/$(NN).ipynb -f params/smoke/$(NN).yaml \
	  || $(call stopped,executed/smoke/$(NN).ipynb)
	@python -m lab.research_log --show executed/smoke/$(NN).ipynb

# WORKERS has a default, which is for tests: a notebook uses all processors by itself.
all: $(READY)  ## run every notebook whose result is older than its code, parameters or versions
	@python -m lab.records.programme --workers $(if $(filter file,$(origin WORKERS)),1,$(WORKERS))

test: $(READY)  ## all tests, then what `make regress` does
	pytest -n $(WORKERS) --dist loadfile
	@$(MAKE) --no-print-directory regress

regress: $(READY)  ## run the notebooks of executed/smoke again and compare what they print
	@if ! compgen -G "executed/smoke/*.ipynb" >/dev/null; then \
	  echo "executed/smoke holds no notebook yet: make smoke NN=004 writes one."; \
	else \
	  set -x; pytest -n $(WORKERS) --dist loadfile --nbval executed/smoke; \
	fi

stale: $(READY)  ## list the results that are older than the code they ran
	@python -m lab.research_log --stale executed

lab: $(READY)  ## JupyterLab, on a page that lists the notebooks with their questions
	@python -m lab.records.start_page
	jupyter lab --LabApp.default_url=/lab/tree/START.md $(LAB_FLAGS)

# NN has a default, which is no number for a new experiment.
new: $(READY)  ## a new experiment from the template; NN=300 NAME=gated_rotations
	@python -m lab.records.new "$(if $(filter file,$(origin NN)),,$(NN))" "$(NAME)"

docs: $(READY)  ## pages of docstrings, results and the research log, in build/docs
	python -m sphinx -q -W --keep-going -c docs . build/docs
	@echo "build/docs/index.html opens them."

lint: $(READY)  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

known-notebook:
	@if [ -z "$(NOTEBOOK)" ]; then \
	  echo "There is no notebook $(NN): choose NN from $(NUMBERS)." >&2; exit 1; \
	fi
	@if [ $(words $(NOTEBOOKS)) -gt 1 ]; then \
	  echo "Several notebooks are $(NN): rename all but one of $(sort $(NOTEBOOKS))." >&2; exit 1; \
	fi

# Touched last of all, so that an interrupted installation goes on where it was.
$(INSTALLED): pyproject.toml constraints.txt
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || { PATH="$(OUTSIDE)"; $(NEW_ENVIRONMENT); }
	.venv/bin/python -m pip install -c constraints.txt -e .[notebooks,gpu,cluster,text,docs,dev]
	@touch $@

$(LAB_SETTINGS): lab/records/default_setting_overrides.json | $(INSTALLED)
	@mkdir -p $(@D) && cp $< $@

$(PAGE_SETTINGS): lab/plots/jupyter_nbconvert_config.json | $(INSTALLED)
	@mkdir -p $(@D) && cp $< $@

define NEW_ENVIRONMENT
  stop() { echo "$$1: name another one, as in make PYTHON=python3.12 setup." >&2; exit 1; }; \
  command -v "$(PYTHON)" >/dev/null \
    || stop "Python $(PYTHONS) is needed, and there is no $(PYTHON) here"; \
  "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
    || stop "Python $(PYTHONS) is needed, and $(PYTHON) is $$("$(PYTHON)" --version 2>&1)"; \
  "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
    || stop "$(PYTHON) lacks the modules venv and ensurepip (on Debian, install python3-venv)"; \
  echo "$(PYTHON) -m venv --clear .venv"; "$(PYTHON)" -m venv --clear .venv
endef
