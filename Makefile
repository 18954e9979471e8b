# make setup   set everything up (also `make`): 2 minutes on two cores, 4 GB; `make help` shows this list
# make demo    the whole chain on generated pictures -> exports/demo: 8 minutes, 4 with TOOLKIT_FAST=1
# make test    every test: 35 to 80 minutes, by machine
# make coverage  every test, with the lines of toolkit/ that no test runs
# make lab     JupyterLab on notebook 00, until Ctrl-C
# make debian  Debian's packages for tests/device and tests/browser, which skip what is missing (as root)
# make check   style, types, stripped notebooks
# make docs    the book: pages, executed notebooks, and the reference from docstrings -> docs/site; 10 minutes
# make figures the long runs behind the tables of docs/pages/results.md (hours)
# make figures-faces PEERS=...  our own face weights and the ruler, with files that a person fetches (two hours)
# make bench   speed ratios, measured side by side -> docs/pages/ratios.md (a quiet machine, please)
# make bench-peers [FOD=FOLDER]  the same of other trainers, in an environment of their own, and what all learn in
#                  equal minutes (two hours, four with the data set FOD-A)
# make strangers CFGS="FOLDER=NAME@COMMIT ..." NETWORKS=FOLDER PICTURES=FOLDER  the tables of foreign darknet networks
# make fuzz    damaged files through every reader, hostile inputs through every command; every night
# make takers  programs that read ONNX and LiteRT files, tried on ours, each in an environment of its own

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= all
BIN := $(VENV)/bin
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)  # Jupyter refuses to run as root otherwise

.PHONY: setup debian demo test fuzz coverage help lab check docs format figures figures-faces bench bench-peers takers strangers

setup: $(VENV)/ready

# The line of the list above.
begin = @sed -n 's,^. \(make $@ \),\1,p' Makefile

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

# torch first: whatever build of it is installed already then stays.
$(VENV)/ready: pyproject.toml constraints.txt
	@printf '%s\n' "Setting up $(VENV) with the extras $(EXTRAS): 4 GB, 2 minutes and what the network needs"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	-$(BIN)/toolkit doctor --fix
	touch $@

debian:
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $(shell cat tests/debian.txt)

demo: setup
	$(begin)
	$(BIN)/toolkit demo

test: setup
	$(begin)
	$(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: setup
	$(begin)
	TOOLKIT_FUZZ=10000 $(BIN)/python -m pytest tests/fuzz
	$(BIN)/python -m tests.fuzz.hostile

coverage: setup
	$(begin)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered

lab: setup
	$(begin)
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_quickstart.ipynb $(AS_ROOT)

check: setup
	$(begin)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

# the notebooks in their small form, with outputs
BOOK := $(patsubst notebooks/%,exports/book/%,$(wildcard notebooks/*.ipynb))

exports/book/%.ipynb: notebooks/%.ipynb $(shell find toolkit -name '*.py') | setup
	$(BIN)/python -m tests.benchmarks.notebooks --book $*

docs: setup $(BOOK)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file docs/mkdocs.yml

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

figures: setup bench
	$(begin)
	$(BIN)/python -m tests.benchmarks.evaluation
	$(BIN)/python -m tests.benchmarks.zoo_scores
	$(BIN)/python -m tests.benchmarks.training toy
	$(BIN)/python -m tests.benchmarks.training bccd
	$(BIN)/python -m tests.benchmarks.training faces
	$(BIN)/python -m tests.benchmarks.studies cells
	$(BIN)/python -m tests.benchmarks.studies finished
	$(BIN)/python -m tests.benchmarks.studies power
	$(BIN)/python -m tests.benchmarks.studies sanity
	$(BIN)/python -m tests.benchmarks.studies search
	$(BIN)/python -m tests.benchmarks.studies levers
	$(BIN)/python -m tests.benchmarks.studies faces
	$(BIN)/python -m tests.benchmarks.landmarks accuracy
	$(BIN)/python -m tests.benchmarks.exports scores
	$(BIN)/python -m tests.benchmarks.exports files
	$(BIN)/python -m tests.benchmarks.runner int8
	$(BIN)/python -m tests.benchmarks.orientation
	$(BIN)/python -m tests.benchmarks.notebooks
	$(BIN)/python -m tests.benchmarks.front
	$(BIN)/python -m tests.benchmarks.tables

# PEERS: a folder with the files that face_peers names; exports/figures/faces: what face_labels has written.
# Two hours on two cores: an hour and a half of training, half an hour of scoring.
figures-faces: setup
	$(begin)
	$(BIN)/python -m tests.benchmarks.face_weights small
	$(BIN)/python -m tests.benchmarks.face_weights formats
	$(BIN)/python -m tests.benchmarks.face_weights tried
	$(BIN)/python -m tests.benchmarks.ruler --peers $(PEERS) --cache exports/figures/ruler
	$(BIN)/python -m tests.benchmarks.tables
	$(BIN)/python -m tests.benchmarks.weights

bench: setup
	$(begin)
	$(BIN)/python -m tests.benchmarks.import_time
	$(BIN)/python -m tests.benchmarks.commands
	$(BIN)/python -m tests.benchmarks.ncnn_seed
	$(BIN)/python -m tests.benchmarks.pipeline
	$(BIN)/python -m tests.benchmarks.load
	$(BIN)/python -m tests.benchmarks.training_step
	$(BIN)/python -m tests.benchmarks.sizing
	$(BIN)/python -m tests.benchmarks.exports engines
	$(BIN)/python -m tests.benchmarks.exports layers
	$(BIN)/python -m tests.benchmarks.exports stages
	$(BIN)/python -m tests.benchmarks.browser
	$(BIN)/python -m tests.benchmarks.runner speed
	$(BIN)/python -m tests.benchmarks.landmarks speed
	$(BIN)/python -m tests.benchmarks.evaluators
	$(BIN)/python -m tests.benchmarks.data_scale
	$(BIN)/python -m tests.benchmarks.page

bench-peers: setup
	$(begin)
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check ultralytics==8.4.190 ncnn pnnx
	$(BIN)/python -m tests.benchmarks.peers --python .venv-peers/bin/python
	$(BIN)/python -m tests.benchmarks.equal_minutes bccd --python .venv-peers/bin/python
	$(if $(FOD),$(BIN)/python -m tests.benchmarks.equal_minutes fod --fod $(FOD) --python .venv-peers/bin/python)
	$(BIN)/python -m tests.benchmarks.tables
	$(BIN)/python -m tests.benchmarks.page

strangers: setup
	$(begin)
	$(BIN)/python -m tests.benchmarks.darknet_cfgs $(CFGS)
	$(BIN)/python -m tests.benchmarks.strangers $(NETWORKS) --pictures $(PICTURES)
	$(BIN)/python -m tests.benchmarks.strangers_training $(NETWORKS) --epochs 5 --recipes modern
	$(BIN)/python -m tests.benchmarks.tables

takers: setup
	$(begin)
	$(BIN)/python -m tests.benchmarks.takers --environments .venv-takers
	$(BIN)/python -m tests.benchmarks.micro --environments .venv-takers
	$(BIN)/python -m tests.benchmarks.tables
