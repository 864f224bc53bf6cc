# `make demo` and `make test` run on any machine with Python 3.11 or later and pip.
PYTHON ?= python3
BIN := .venv/bin

# Words that are not used in sources, help texts and documentation.
WORDS := \banew\b|gone on\b|go(es)? on\b|\btold\b|tells? of\b|whoever|for ever\b|let go\b|begun|enlarge|made again|be had\b
SECONDS ?= 60
SEED ?= 1

# Tests start hundreds of processes, each of which would recompile the sources if this variable were set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test soak fuzz bench picture lint proto proto-check clean

demo: .venv/installed
	$(BIN)/upres probe tests/data/bigbuckbunny.mp4
	$(BIN)/upres tests/data/bigbuckbunny.mp4 demo/bigbuckbunny_x4.mp4 --overwrite
	$(BIN)/python bench/demo.py tests/data/bigbuckbunny.mp4 demo/bigbuckbunny_streamed_x2.mp4

# Three processes on two cores, since many tests wait for servers.
test: .venv/tested
	$(BIN)/pytest --numprocesses 3 --dist loadfile -rs --durations=20

soak: .venv/tested
	@mkdir -p soak
	$(BIN)/pytest -m soak -o timeout=14400 -rs

fuzz: .venv/tested
	PYTHONPATH=tests/support $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) --seed $(SEED)

bench: .venv/tested
	$(BIN)/python bench/run.py
	$(BIN)/python bench/service.py tests/data/bigbuckbunny.mp4

picture: .venv/tested
	$(BIN)/python bench/picture.py tests/data/bigbuckbunny.mp4 docs/before-after.jpg

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@! grep -rnE --include='*.py' --include='*.md' '$(WORDS)' engine export service bench docs README.md CONTRIBUTING.md CHANGELOG.md || (echo 'use plain words instead: upscale, reported, again, indefinitely, started' && false)

proto:
	proto/generate.sh

proto-check:
	proto/check.sh

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[service]'
	@mkdir -p demo && touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

clean:
	rm -rf .venv demo soak build *.egg-info
