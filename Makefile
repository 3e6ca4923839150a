# `make help` lists what can be made. Everything runs in .venv, which `make env` creates.

# The newest supported Python that runs here: a launcher may be on the path and yet start nothing.
# Another one can be named: make env PYTHON=/path/to/python3
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		2>/dev/null && { echo "$$p"; exit; }; \
	done; echo python3)
PY := .venv/bin/python
READY := .venv/.ready
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help env book test notebooks serve lab bench data check links lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

book: $(READY) ## execute the notebooks, build the book (DRAFT=1: for records of your own)
	@$(PY) tools/book.py html $(if $(DRAFT),--draft)

test: $(READY) ## lint, types, tests
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2

env: $(READY) ## create .venv with the packages of requirements.lock
	@echo "The environment is ready: .venv"

notebooks: $(READY) ## every chapter as an executed notebook, in _build/notebooks
	@$(PY) tools/book.py notebooks

serve: book ## build the book and serve it on this machine (PORT=8000)
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(READY) ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=book

bench: $(READY) ## time an optimizer step against its peers and by option, the simulation, the probes
	@$(PY) -m experiments bench step
	@$(PY) -m experiments bench options
	@$(PY) -m experiments bench simulation
	@$(PY) -m experiments bench probes

data: $(READY) ## fetch CIFAR-10
	@$(PY) -m experiments data cifar10

check: book ## check the built book: links, images, no outside host, and in a headless browser
	@$(PY) tools/check_site.py _build/html
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m browser tests/test_browser.py
	@$(PY) tools/check_browser.py _build/html

links: $(READY) ## follow every link of the book to another host
	@$(PY) tools/book.py links

lock: $(READY) ## pin what pyproject.toml asks for (UPGRADE=1 renews every pin)
	@$(PY) tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove what was built (not .venv, data or results)
	rm -rf _build book/_data build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find radam_core experiments tools tests book -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an install that was cut short starts over. A changed lock updates
# the environment in place; without a stamp it is made anew. uv takes a third of pip's time, and
# pip alone reads pip.conf: where packages come from a place that is named there, pip has to do it.
# Compiled here, as pip does: else what a package's source warns of is said wherever it is first
# imported, and is an error in the tests.
$(READY): requirements.lock
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed and '$(PYTHON)' is not one: install python3.13," \
			"or name one with make env PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot create an environment: install its venv module" \
			"(on Debian: apt install python3-venv)" >&2; exit 2; }
	@test -e $@ || "$(PYTHON)" -m venv --clear .venv
	@rm -f $@
	@$(PY) -m pip install --quiet "$$(grep '^uv==' requirements.lock)"
	$(PY) -m uv pip install --python $(PY) --compile-bytecode --requirement requirements.lock \
		|| $(PY) -m pip install --requirement requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
