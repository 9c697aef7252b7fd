# `make` is what CI runs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := all
PEER_PATH ?= ../LlamaGen
BENCHMARKS := startup frechet quantizer growth generator_step sampling tokenizer_step step_overheads products allocator parts caching \
  decode_step speculative int8 evaluate_memory small_generators precision seeds_together kmeans

.PHONY: all bench check demo docs docs-serve test test-all torture format clean help

all: check test-all  ## what CI runs

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vistok needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)  ## the main job: what the regularizer does for generation, on one page (about 6 minutes)
	$(BIN)/vistok demo

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(READY)  ## the tests (about 4 minutes)
	$(PYTEST) -m 'not slow'

test-all: test  ## and the second tier: killed runs, full disks, several processes, full-size recipes, the demo (another quarter of an hour)
	$(PYTEST) -m slow

torture: $(READY)  ## kill runs, fail the disk under every verb, and count how many end equal (about ten minutes; the study and the demo need more: --seconds)
	$(BIN)/python tests/torture.py
	$(BIN)/python tests/torture_verbs.py

docs: $(READY)  ## the pages as a site, in site/; links are checked, and no network is needed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The pages are in site/: open site/index.html"

docs-serve: $(READY)  ## the same at http://127.0.0.1:8000, built again whenever a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

bench: $(READY)  ## speed, beside a checkout of LlamaGen: make bench PEER_PATH=... (about two hours)
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	failed=; for name in $(BENCHMARKS); do \
	  $(BIN)/python benchmarks/$$name.py --peer-path $(PEER_PATH) || failed="$$failed $$name"; done; \
	  test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

check: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check src tests benchmarks docs/site_pages.py
	$(BIN)/ruff check src tests benchmarks docs/site_pages.py
	$(BIN)/mypy

format: $(READY)  ## format and mend what can be mended
	$(BIN)/ruff format src tests benchmarks docs/site_pages.py
	$(BIN)/ruff check --fix src tests benchmarks docs/site_pages.py

clean:  ## remove the environment, the site and caches; runs and data stay
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache

help:
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'
