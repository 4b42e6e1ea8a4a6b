# Every target makes what it needs: a virtual environment in .venv with the extras it uses, once per change of pyproject.toml.
# Needed beforehand: Python 3.11 or newer, git, make. Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test petsc environments matrix minimum nightly bench docs lint format clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-demo
	@$(BIN)/backsolve demo -o demo-output

# The second run draws random programs that no run before it has seen; a failing one prints how to get it again.
test: lint
	$(BIN)/python -m pytest -n 2
	BACKSOLVE_FRESH=1 $(BIN)/python -m pytest -n 2 -m fresh --hypothesis-profile=fresh tests/capture

# PETSc for tests/interop/test_petsc.py, compiled once and kept in a cache; without it these tests are skipped.
petsc: $(VENV)/.installed-dev
	.ci/petsc

# What `make matrix` and `make minimum` run in, two at once; they install for themselves what is not there.
environments:
	@printf '%s\n' '0.8 3.11' '0.9 3.11' 'newest 3.13 3.12' 'minimum 3.11' | xargs -P 2 -L 1 .ci/series --install

# A telling part of the tests (tests/series.txt) on other series of JAX, each in an environment of its own below .venvs.
matrix:
	.ci/series 0.8 3.11
	.ci/series 0.9 3.11
	.ci/series newest 3.13 3.12

# The same on the oldest release of every dependency that pyproject.toml allows.
minimum:
	.ci/series minimum 3.11

nightly: $(VENV)/.installed-dev
	BACKSOLVE_NIGHTLY=1 $(BIN)/python -m pytest -n 2 -m fresh --hypothesis-profile=fresh tests/capture

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

# The site is docs/_build/html, as it is published: a folder for each version that was put into it, and what lists them.
# Every warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/this
	@$(BIN)/python -m docs.releases docs/_build/this docs/_build/html

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venvs demo-output docs/_build build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp appears only after its step has wholly succeeded, so an interrupted set-up is taken up again by the next make.
# An environment whose pip does not run (broken off half-way, or its interpreter is gone) is built anew.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit("backsolve needs Python 3.11 or newer; make PYTHON=... names another") if sys.version_info < (3, 11) else 0'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "Creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@

$(VENV)/.installed-demo: EXTRAS := demo
$(VENV)/.installed-dev: EXTRAS := dev
$(VENV)/.installed-docs: EXTRAS := docs
$(VENV)/.installed-bench: EXTRAS := dev,bench
$(VENV)/.installed-%: pyproject.toml | $(VENV)/.created
	@echo "Installing backsolve[$(EXTRAS)] into $(VENV) (once; it takes a minute or two)"
	@$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@
