# graphray: `make help` lists what can be made. Needs make and Python 3.11 or later; all else goes into $(VENV).

# The first Python that will do; looked for only when the environment is made.
new_enough = $(if $(1),$(shell $(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $(1)))
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(call new_enough,$(p))))
VENV   ?= .venv
ARGS   ?=

bin     := $(VENV)/bin
sources := graphray tests examples benchmarks docs/conf.py
pip     := $(bin)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# The backend is installed first, so that the build is pinned too and does not fetch it a second time.
graphray := --no-build-isolation --editable

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all tests lint types docs bench install system format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.graphray ## the main job: train PPO on CartPole-v1 on all cores until it is solved
	@echo == graphray run examples/ppo_cartpole.py $(ARGS)
	@$(bin)/graphray run examples/ppo_cartpole.py $(ARGS)

test: lint types docs tests ## lint, type check, documentation and the fast tests

test-all: lint types docs $(VENV)/.graphray-dev system ## the same with the slow tests
	@echo "== pytest (all tests)"
	@$(bin)/python -m pytest $(ARGS)

# Last, so that pytest's summary ends what `make test` prints.
tests: $(VENV)/.graphray-dev system ## the fast tests alone; ARGS='tests/test_x.py -k name' to choose
	@echo "== pytest"
	@$(bin)/python -m pytest -m "not slow" $(ARGS)

lint: $(VENV)/.graphray-dev ## style and formatting (ruff)
	@echo "== ruff"
	@$(bin)/ruff check --quiet --output-format concise $(wildcard $(sources))
	@$(bin)/ruff format --check --quiet --diff $(wildcard $(sources))

types: $(VENV)/.graphray-dev ## types (mypy, strict)
	@echo "== mypy"
	@$(bin)/mypy

docs: $(VENV)/.graphray-dev ## the documentation, into docs/_build/html; a warning is an error
	@echo "== sphinx"
	@$(bin)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

bench: $(VENV)/.graphray-bench ## graphray beside dask, distributed, Ray, loky and joblib
	@$(bin)/python benchmarks/core.py $(ARGS)

format: $(VENV)/.graphray-dev ## rewrite the sources in the project's style
	@$(bin)/ruff check --quiet --fix $(wildcard $(sources))
	@$(bin)/ruff format --quiet $(wildcard $(sources))

install: $(VENV)/.graphray-dev ## all that development needs, into $(VENV)

# Not an error where nobody can install anything: the tests that miss something say so, and can be left out.
system: ## OpenSSH and iproute2, for tests of machines; root installs what is missing, others are told
	@! test -x .ci/system || .ci/system || true

clean: ## remove the environment and all that was built
	rm -rf $(VENV) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(wildcard $(sources)) -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of dependencies: nothing is installed again until these files change.
$(bin)/python:
	@test -n "$(call new_enough,$(PYTHON))" || \
	  { echo "graphray needs Python 3.11 or later, and found none; name one: make PYTHON=/path/to/python ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	  { echo "this Python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.backend: pyproject.toml constraints.txt | $(bin)/python
	@echo "== installing the build backend"
	@$(pip) hatchling editables
	@touch $@

$(VENV)/.graphray: $(VENV)/.backend
	@echo "== installing graphray (the first time takes a minute)"
	@$(pip) $(graphray) .
	@touch $@

$(VENV)/.graphray-dev: $(VENV)/.graphray
	@echo "== installing the development tools"
	@$(pip) $(graphray) '.[dev,docs]'
	@touch $@

$(VENV)/.graphray-bench: $(VENV)/.graphray
	@echo "== installing what graphray is compared with"
	@$(pip) $(graphray) '.[bench]'
	@touch $@
