# Two commands for users: `make demo` and `make test`. Both build .venv on the first run.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint docs notebooks format clean

demo: $(VENV)/.installed
	$(BIN)/bitat demo --out runs/demo --overwrite

test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site of README and docs/, in build/site; a warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# All notebooks, in a few steps each, without touching their outputs.
notebooks: $(VENV)/.notebooks
	BITAT_QUICK=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=300 -n 2 notebooks

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The stamp is newer than what decides the environment's content, so a second run
# installs nothing.
$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else "bitat_tf needs Python 3.10 to 3.12, and $(PYTHON) is %d.%d. Try: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq -e '.[dev]'
	touch $@

# .venv/.docs and .venv/.notebooks: what those two need beside.
$(VENV)/.%: $(VENV)/.installed
	$(BIN)/python -m pip install -qq -e '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
