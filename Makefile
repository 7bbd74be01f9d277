# make reproduce | test | docs | mutants | test-slurm | rehearse-small | bench | help. Nothing is needed beforehand but Python 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Snakemake and matplotlib keep files under HOME; where nothing can be written there, keep them under .cache here.
ifneq ($(shell mkdir -p "$$HOME/.cache" 2>/dev/null && test -w "$$HOME/.cache" && echo yes),yes)
export XDG_CACHE_HOME ?= $(CURDIR)/.cache
export MPLCONFIGDIR ?= $(CURDIR)/.cache/matplotlib
endif

.PHONY: help reproduce reproduce-all adopt-tuning data pin pin-checkpoints docs docs-results fidelity configuration test mutants test-slurm rehearse-small rehearse bench bench-released bench-gpu lint format clean
.DEFAULT_GOAL := help

help:     ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

reproduce: $(READY)   ## the main comparison at laptop scale: tables, figures, claims and the HTML report in results/laptop
	snakemake --profile laptop all
	@echo "Open $(CURDIR)/results/laptop/report.html in a browser."

reproduce-all: $(READY)   ## every experiment that is not marked `apart`, at laptop scale, two to four hours; see all_claims.md, all_report.html
	snakemake --profile laptop everything
	@echo "Open $(CURDIR)/results/laptop/all_report.html in a browser."

data: $(READY)   ## fetch d1's test sets and prompts, at one commit of its repository, into data/
	python src/fetch_data.py

pin: $(READY)    ## put the hub's newest commit where the configuration says that a revision is to be pinned
	python src/pin_revisions.py

adopt-tuning: $(READY) ## publish what `tune` or `tune_NAME` chose in docs/results/tuning, and put the settings to use that follow from all sweeps there
	python src/adopt_tuning.py results/laptop/tuning docs/results/tuning workflow/config/tuned/laptop.yaml --scale laptop
	python src/render_tuning.py docs/results/tuning/*/*.yaml --figures docs/results/tuning/tuning.png --tables docs/results/tuning/README.md

pin-checkpoints: $(READY)    ## the same for the released checkpoints of workflow/config/checkpoints.yaml
	python src/pin_revisions.py --checkpoints

docs: $(READY)   ## the documentation as a site in results/docs; a broken link fails
	pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 mkdocs build
	@echo "Open $(CURDIR)/results/docs/index.html in a browser."

docs-results: $(READY) ## publish in docs/results what results/laptop has finished, next to what is there; PUBLISH=--replace-all keeps nothing
	python src/publish_results.py results/laptop docs/results $(PUBLISH)

fidelity: $(READY)  ## write the tables of docs/method/fidelity.md from tests/facts and the configuration
	PYTHONPATH=src:tests python -m facts.render

configuration: $(READY)  ## write the tables of docs/configuration.md from the schema
	PYTHONPATH=src:tests python -m facts.configuration

test: $(READY)   ## the tests
	pytest -n 2 --dist loadfile

mutants: $(READY) ## some 140 wrong changes of the sources, one at a time: the test named for each has to fail; ten minutes
	python tests/mutants/run.py --jobs 2

test-slurm: $(READY)   ## the tests on a real SLURM that they start themselves (skipped where it is not installed)
	pytest -m slurm -rs --durations 0 tests/slurm

rehearse-small: $(READY)   ## the papers' scale on two CPU cores in minutes: every method, task and rule, with a small random model and few updates
	python rehearsal/small.py

rehearse: $(READY)   ## four methods at LLaDA-8B's real shape, one task, one update each: an hour, 24 GB of memory, 17 GB of disk; LAYERS=2 is a trial of minutes
	LAYERS=$(LAYERS) python rehearsal/full.py

bench: $(READY)  ## decoding and losses next to a textbook implementation; BENCH=--quick is a smoke test
	python bench/run.py $(BENCH)

bench-released: $(READY) ## the same with the released code of DMPO or d1: DIR is a checkout of its repository
	python bench/released.py $(DIR) $(BENCH)

bench-gpu: $(READY)   ## loading, rollouts and updates at 8B on a GPU next to its roofline, in eight minutes; BENCH=--smoke runs it tiny, without one
	python bench/gpu.py $(BENCH)

lint: $(READY)   ## checks of format, style, spelling and types
	ruff check && ruff format --check && snakefmt --check Snakefile workflow && snakemake --lint && codespell && mypy

format: $(READY) ## apply the formatters
	ruff check --fix; ruff format; snakefmt Snakefile workflow

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("unmask needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,cluster]'
	touch $@

clean:    ## remove results, logs and the environment
	rm -rf results/laptop results/smoke logs benchmarks .snakemake $(VENV)
