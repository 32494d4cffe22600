# Everything a newcomer needs: `make demo`, `make test`, `make check`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# dvc runs `dff`, so both must come from the virtual environment
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test soak check format clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/python scripts/plots_page.py
	$(BIN)/dff compile
	touch $@

demo: $(READY)
	dff run

test: $(READY)
	pytest -n auto --dist loadgroup

# the tests that kill an extraction at random instants, 50 times instead of a few, and processes of
# a cluster, 20 times instead of once; and the whole rehearsal of benchmarks/gpu.sh
soak: $(READY)
	DFF_KILLS=50 DFF_CLUSTER_KILLS=20 pytest tests/stages/test_unbreakable.py \
		tests/stages/test_resume.py tests/stages/test_several_sizes.py \
		tests/stages/test_cluster_unbreakable.py \
		tests/benchmarks/test_gpu_rehearsal.py

check: $(READY)
	ruff check .
	ruff format --check .
	mypy
	pytest -n auto --dist loadgroup

format: $(READY)
	ruff check --fix .
	ruff format .

clean:
	rm -rf $(VENV) artifacts *.egg-info .mypy_cache .ruff_cache .hypothesis
