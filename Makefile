# Every target builds what it needs in .venv; nothing else is touched.
# A distribution's Python is compiled by the profile of its use: it takes two thirds of the time of one that is not.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(print(sys.executable) if sys.version_info >= (3, 11) else 1)' 2>/dev/null || echo python3)
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := test,lint,types,docs

.PHONY: demo test test-postgresql lint types docs bench soak clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/srm-dicom demo $(DIR) $(if $(KEEP),--keep,)

test: $(VENV)/.ready
	$(BIN)/pytest --numprocesses auto --dist loadfile --max-worker-restart 0 --ignore tests/load

# The tests of whatever keeps state, once more, on PostgreSQL.
test-postgresql: $(VENV)/.ready
	$(BIN)/python -m srm_dicom.testing.databases $(BIN)/pytest --numprocesses auto --dist loadfile \
	    --max-worker-restart 0 --timeout 300 tests/unit/db tests/unit/rights tests/unit/broker tests/unit/registry \
	    tests/unit/scratch tests/unit/srm/test_srm_read_path.py tests/unit/srm/test_srm_v1.py \
	    tests/unit/files tests/unit/keys tests/unit/metadata

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=.:plugins:catalog $(BIN)/lint-imports

types: $(VENV)/.ready
	$(BIN)/mypy

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

soak: $(VENV)/.ready
	$(BIN)/pytest tests/load

clean:
	rm -rf $(VENV) build docs/_build
