# The course's commands: `make` alone lists them. They make .venv by themselves; PYTHON=python3.12 names the Python to make it from.
# Windows, or no make: the README gives the plain Python lines behind each of them.
.DEFAULT_GOAL := help
.PHONY: help setup course lab test export clean-notebooks check lint

# the first of these that is new enough and has the packages' wheels; else python3, and tools/environment.py says what is wrong
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$python && exit; \
	done; echo python3)
BIN := .venv/bin
JUPYTER := $(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup:  ## make .venv and install the course into it, once; at once when nothing has changed
	@command -v $(PYTHON) >/dev/null || { echo "No Python here: install 3.11 or newer (on Debian and Ubuntu: apt install python3 python3-venv), then run the same command again." >&2; exit 1; }
	@$(PYTHON) tools/environment.py

course: setup  ## train a small BERT on 25,000 reviews, see what it learned, then read the lesson in JupyterLab
	@$(BIN)/microbert tour
	@if [ -t 0 ] && [ -t 1 ] && [ "$$CI" != true ]; then exec $(JUPYTER) nbs/00_tour.ipynb; fi

lab: setup  ## open JupyterLab on the lessons
	@exec $(JUPYTER) --LabApp.default_url=/lab/tree/nbs

test: setup check lint  ## everything that CI runs: the checks below, the package's tests, every notebook
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 </dev/null

export: setup  ## write the package and the README anew from the notebooks
	@$(BIN)/nbdev_export
	@$(BIN)/python -m microbert_course.lessons.check --write-readme

clean-notebooks: setup  ## remove what execution leaves in the notebooks' metadata
	@$(BIN)/nbdev_clean

check: setup  ## is the package what the notebooks export, are the notebooks clean, is the README current
	@$(BIN)/python -m microbert_course.lessons.check

lint: setup  ## ruff, on the notebooks and the hand-written Python
	@$(BIN)/ruff check
