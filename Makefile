# Two commands for a new machine:  make run DIR=~/Pictures   and   make test

VENV   := .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
            "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP    := $(VENV)/bin/python -m pip -qq --disable-pip-version-check

# A path may hold spaces, quotes and dollar signs: it is kept as it was typed, and reaches the shell as a variable.
override DIR    := $(value DIR)
override PHOTOS := $(value PHOTOS)
export DIR PHOTOS

.PHONY: help run test test-spark fmt check bench bench-million faults machine
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' Makefile | expand -t 19

run: given-DIR $(VENV)/ready  ## DIR=FOLDER  find the duplicates in FOLDER and write duplicates.html here
	@case "$$DIR" in "~") DIR="$$HOME" ;; "~/"*) DIR="$$HOME/$${DIR#??}" ;; esac; \
	echo "The report will be $$PWD/duplicates.html"; \
	$(VENV)/bin/dedup scan --report duplicates.html -- "$$DIR" || { code=$$?; [ $$code -eq 3 ] || exit $$code; \
	echo "Done, but some photos could not be read; they are listed at the end of the report."; }

test: $(VENV)/ready-dev  ## ruff, mypy and all tests
	@$(VENV)/bin/ruff check --quiet --output-format concise .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/python -m pytest -n 2 --ignore tests/truth --ignore tests/browser --ignore tests/spark

browser: $(VENV)/ready-dev  ## the review page in Chromium: a person's way, attacks, accessibility
	@$(VENV)/bin/python -m pytest tests/browser

fmt: $(VENV)/ready-dev  ## put the code in order
	@$(VENV)/bin/ruff check --quiet --fix-only .
	@$(VENV)/bin/ruff format --quiet .

check: fmt test  ## fmt and test: before each commit

bench: given-PHOTOS $(VENV)/ready  ## PHOTOS=FOLDER  how fast, against the bare decode and other tools
	@case "$$PHOTOS" in "~") PHOTOS="$$HOME" ;; "~/"*) PHOTOS="$$HOME/$${PHOTOS#??}" ;; esac; \
	$(VENV)/bin/python -m bench "$$PHOTOS"

test-spark: $(VENV)/ready-spark  ## the tests of Apache Spark (needs Java 17 or 21; installs 400 MB into .venv-spark)
	@$(VENV)-spark/bin/python -m pytest tests/spark

bench-million: $(VENV)/ready-dev  ## how a library of 10,000, 100,000 and 1,000,000 made-up photos behaves (hours; 12 GB)
	@$(VENV)/bin/python -m bench.million --photos "$$PHOTOS"

faults: $(VENV)/ready-dev  ## as root: kills, errors, power cuts, edits while dedup acts; PARTS="..." for some of it
	@$(VENV)/bin/python -m tests.safety $(PARTS)

given-%:
	@$(if $($*),,$(error say which folder holds the photos, for example: make $(MAKECMDGOALS) $*=~/Pictures))

# ---- the virtual environment; pip comes first, since older ones do not know dependency groups ----------------------

$(VENV)/ready: pyproject.toml
	@$(LOOK)
	@echo "Setting up $(VENV): a minute or two, once ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@$(PIP) install --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(PIP) install --group dev
	@touch $@

# Apart from the other one: whoever changes a line of dedup need not install Spark.
$(VENV)/ready-spark: $(VENV)/ready-dev
	@echo "Setting up $(VENV)-spark: 400 MB, once ..."
	@$(PYTHON) -m venv $(VENV)-spark
	@$(VENV)-spark/bin/python -m pip -qq --disable-pip-version-check install --upgrade pip
	@$(VENV)-spark/bin/python -m pip -qq --disable-pip-version-check install --editable '.[spark]' --group spark
	@touch $@

# ---- what the machine must bring: Python 3.11, venv, and a C++ compiler with Python's headers, since annoy is ------
# ---- compiled when it is installed ----------------------------------------------------------------------------------

define MACHINE
python="${PYTHON:-python3}"
package="$(basename "$python")"
missing=
has() { "$python" -c "$1" 2>/dev/null; }
if ! command -v "$python" >/dev/null; then missing=python3
elif ! has 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "dedup needs Python 3.11 or newer, and $("$python" --version) is what is here: make PYTHON=/path/to/python3.11 ..." >&2
  exit 1
fi
has 'import venv, ensurepip' || missing="$missing $package-venv"
has 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
  || missing="$missing $package-dev"
echo '#include <vector>' | "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null || missing="$missing g++"
missing="${missing# }"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "Please install Python 3.11 or newer with its venv module and headers, and a C++ compiler" >&2
  echo "(Debian calls what is missing here: $missing; Fedora: gcc-c++ python3-devel; macOS: xcode-select --install)." >&2
  exit 1
elif [ "$(id -u)" -ne 0 ]; then
  echo "Something is missing on this machine. Please run:  sudo apt-get install $missing" >&2
  exit 1
fi
echo "Installing $missing ..."
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq $missing >/dev/null
endef
export MACHINE := $(value MACHINE)

LOOK = PYTHON='$(PYTHON)' sh -eu -c "$$MACHINE"

machine:
	@$(LOOK)
