PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow lint study figures docs

demo: $(READY)  ## generate pictures with planted copies, clean the test set, print the report's path
	$(BIN)/curate demo --out demo-run

test: $(READY)  ## the test suite without the slow marks
	$(BIN)/python -m pytest

test-slow: $(READY)  ## fuzzing, killed runs, large sets, ordinary-size models
	HYPOTHESIS_PROFILE=exploring $(BIN)/python -m pytest -m slow

DATA ?= cifar10
STUDY ?= cifar10-study
WORKERS ?= 2
study: $(READY)  ## CIFAR-10 from shards to docs/studies/cifar10.md, some hours; DATA as docs/studies/cifar10.md says
	@test -f $(DATA)/pairs_test_train.csv || { echo "DATA=$(DATA): no pairs_test_train.csv is there" >&2; exit 1; }
	$(BIN)/curate run cifar10 --out $(STUDY) --set variables.data=$(DATA) \
		--set cluster.kind=local --set cluster.workers=$(WORKERS)
	$(BIN)/python benchmarks/cifar10_study.py --data $(DATA) --run $(STUDY) --out benchmarks/results/cifar10-study.json
	$(MAKE) figures

figures: $(READY)  ## tables, sentences and drawings of README.md and docs/, from benchmarks/results/
	$(BIN)/python -m benchmarks.figures --write

docs: $(READY)  ## docs/cli.md from the commands, docs/tutorial.md from what they print, then the figures
	$(BIN)/python -m pipelines.cli.reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md
	PYTHONPATH=tests $(BIN)/python tests/tutorial.py --write
	$(MAKE) figures

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,download,eval,dev]'
	touch $(READY)
