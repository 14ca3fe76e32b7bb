# `make book` and `make test` set up all they need; `make help` lists the rest.
# All paths are relative, so that the folder may have any name.

find = $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTHON ?= $(find)
export PYTHONUTF8 := 1
PY := .venv/bin/python

book: environment  ## make the book: set up, execute what is stale, build _build/html/index.html
	@$(PY) tools/build.py

test: environment-test  ## set up and pass every test: style, units, notebooks, book, pages in a browser
	@$(PY) tools/check.py

execute: environment  ## execute the chapters that changed, without building the book
	@$(PY) tools/execute.py

serve: book  ## build the book, serve it on this machine and open it
	@$(PY) tools/serve.py

lab: environment  ## work on the chapters in JupyterLab
	@$(PY) -m jupyterlab book

slides: execute  ## make a slide deck of each chapter, in _build/slides
	@$(PY) tools/slides.py

sync: execute  ## write the computed numbers into the prose of the chapters
	@$(PY) tools/sync.py

address: environment  ## move the book to another address: make address URL=https://github.com/OWNER/NAME
	@$(PY) tools/sync.py --address "$(URL)"

bench: environment-bench  ## measure speed and memory beside public references: book/results/bench.json
	@$(PY) tools/bench.py

league: environment  ## run every family for a minute on the same data: book/results/league.json
	@$(PY) tools/league.py

lint: environment-lint  ## check the style of code and notebooks
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

clean:  ## remove what was built, but not the environment
	rm -rf _build .jupyter_cache .run

help:  ## list the commands
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

environment: options =
environment-lint: options = --test
environment-test: options = --test --browser
environment-bench: options = --test --bench
environment environment-lint environment-test environment-bench:
	@test -n "$(PYTHON)" || { echo "The book needs Python 3.11 or newer, and found none. Install it, then run again."; exit 1; }
	@"$(PYTHON)" tools/environment.py $(options)

.PHONY: book test execute serve lab slides sync address bench league lint clean help \
	environment environment-lint environment-test environment-bench
