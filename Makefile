# `make demo` and `make test` set up what they need in .venv and .tools, once.
SHELL := /bin/bash
export PYTHONDONTWRITEBYTECODE := 1
export NXF_DISABLE_CHECK_LATEST := true
nextflow := $(CURDIR)/.tools/bin/nextflow
python := $(CURDIR)/.venv/bin/python

.PHONY: help demo demo-people test lint pytest gpu-test mutants format setup setup-tests lock image sif house clean

help:
	@echo "make demo    run the workflow on the built-in phantom data set (a few minutes, no GPU needed)"
	@echo "make demo-people  people in the loop, with a script for the first cycle's people: leaves a package to open"
	@echo "make test    lint and run all tests; make lint, make pytest: one of them"
	@echo "make gpu-test  hold CUDA against the CPU, where there is a GPU: ten minutes, also iterations a second beside nnU-Net"
	@echo "make mutants put faults into what changed since main, print those that no unit test sees (CONTRIBUTING.md)"
	@echo "make setup   only set up .venv and .tools"
	@echo "make lock    resolve the locked requirements anew"
	@echo "make image   build the container image (podman or docker); make sif: the Apptainer image"
	@echo "make house   draw docs/house.svg from docs/house.dot (Graphviz)"
	@echo "make clean   remove the demo's files and caches (not .venv and .tools)"

setup:
	@setup/nextflow.sh
	@setup/venv.sh
	@setup/niivue.sh

setup-tests: setup
	@setup/venv.sh tests

demo: setup
	@mkdir -p demo
	cd demo && $(nextflow) run ../main.nf -profile test --outdir results -work-dir work -resume
	@echo
	@echo "Report: $(CURDIR)/demo/results/report.html"

# A pool without labels: what is handed out first a script labels by the truth, what is handed out then is there to look at.
people := $(nextflow) run ../main.nf -profile test --outdir results -work-dir work --input scans --oracle people \
    --test_cases test.txt --strategies predictive_entropy --cycles 2
demo-people: setup
	@rm -rf demo_people
	@mkdir demo_people
	cd demo_people && $(python) ../bin/phantom.py --cases 12 --out truth
	cd demo_people && printf 'phantom_0%s\n' 09 10 11 12 >test.txt && $(python) ../tests/annotator.py strip truth scans $$(cat test.txt)
	cd demo_people && $(people)
	cd demo_people && $(python) ../tests/annotator.py label truth results/annotation/scans-main-s12345/cycle_00
	cd demo_people && $(people) -resume
	@echo
	@echo "Package: $(CURDIR)/demo_people/results/annotation/scans-main-predictive_entropy-s12345/cycle_01/index.html"

test: lint pytest

lint: setup-tests
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(nextflow) -log .tools/lint.log lint main.nf workflows modules functions nextflow.config conf

# The cores share the tests by file, heavy files first (tests/conftest.py).
pytest: setup-tests
	$(python) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Elsewhere it skips and says why.
gpu-test: setup-tests
	$(python) -m pytest -n 0 -s -m gpu tests/gpu $(PYTEST_ARGS)

mutants: setup-tests
	$(python) tests/mutants.py $(MUTANTS_ARGS)

format: setup-tests
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

lock: setup
	@setup/lock.sh

image: setup
	@containers/build.sh image

sif: setup
	@containers/build.sh sif

house:
	dot -Tsvg docs/house.dot -o docs/house.svg

clean:
	rm -rf demo demo_people .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bin tests -name __pycache__ -type d -prune -exec rm -rf {} +
