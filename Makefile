# `make demo` runs the main job; `make test` runs the tests. Both make their own environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types proto lock clean

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "making $(VENV): some minutes where the machine is busy or the packages come from afar"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	touch $@

demo: $(VENV)/.ready
	$(BIN)/cascade demo $(if $(DATA),--data $(DATA))

test: $(VENV)/.ready
	@# The second half runs, and tells, also where the first one fails.
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not alone"; first=$$?; \
	$(BIN)/python -m pytest -m alone && exit $$first

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

proto: $(VENV)/.ready
	PYTHON=$(BIN)/python proto/generate.sh

lock: $(VENV)/.ready
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^torch' > constraints.txt

clean:
	rm -rf $(VENV) var
