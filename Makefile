# Two promises: `make demo` and `make test` work in a fresh clone with Python >= 3.11, pip and make.
# BLAS threads are pinned to one: timings mean CPU time, and test workers do not fight for cores.
export OPENBLAS_NUM_THREADS = 1
export OMP_NUM_THREADS = 1
export MPLBACKEND = Agg
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test coverage lint types docs data bench results certify study clean

demo: .venv/.done-core
	OPENBLAS_NUM_THREADS=1 $(BIN)/rralloc study first-look --out figures

test: .venv/.done-dev
	$(BIN)/python -m pytest

# Statements and branches of rralloc, problems, solvers and studies, in every process of the tests.
coverage: .venv/.done-dev
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n 2
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered

lint: .venv/.done-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

types: .venv/.done-dev
	$(BIN)/mypy

docs: .venv/.done-dev
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

# Fashion-MNIST, 70,000 real images, from Debian's package; no root needed.
FASHION = data/fashion-mnist
data:
	@if [ -d /usr/share/datasets/fashion-mnist ]; then \
	  echo "Fashion-MNIST is in /usr/share/datasets/fashion-mnist"; \
	elif [ -e $(FASHION)/train-images-idx3-ubyte.gz ]; then echo "Fashion-MNIST is in $(FASHION)"; \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
	  mkdir -p $(FASHION) && cd data && apt-get download dataset-fashion-mnist && \
	  dpkg-deb --extract dataset-fashion-mnist_*.deb unpacked && \
	  mv unpacked/usr/share/datasets/fashion-mnist/* fashion-mnist/ && \
	  rm -r unpacked dataset-fashion-mnist_*.deb && echo "Fashion-MNIST is in $(FASHION)"; \
	else \
	  echo "No apt-get here. Put Fashion-MNIST's four IDX files (train-images-idx3-ubyte.gz, ...)"; \
	  echo "into $(FASHION), or name their parent folder with RRALLOC_DATA."; exit 1; \
	fi

bench: .venv/.done-dev
	$(BIN)/python benchmarks/first_numbers.py --output benchmarks/first_numbers.json
	$(BIN)/python -W ignore benchmarks/spfl.py --output benchmarks/spfl.json
	$(BIN)/python -W ignore benchmarks/mads.py --output benchmarks/mads.json
	$(BIN)/python -W ignore benchmarks/ota.py --output benchmarks/ota.json

# Every headline ratio in one run, and the page that shows them; 20 to 40 minutes.
results: .venv/.done-dev
	$(BIN)/python benchmarks/results.py

# Recompute every claim of the instance library; fails on a regression.
certify: .venv/.done-dev
	$(BIN)/rralloc certify library --jobs 2

study: .venv/.done-core
	$(BIN)/rralloc study spfl --out results/spfl
	$(BIN)/rralloc study compression --out results/compression
	$(BIN)/rralloc study headline --out results/headline
	$(BIN)/rralloc study mads --out results/mads
	$(BIN)/rralloc study ota --out results/ota
	$(BIN)/rralloc study five-problems --out results/five-problems
	$(BIN)/rralloc study first-training --out results/first-training

clean:
	rm -rf .venv build *.egg-info docs/_build figures results

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

.venv/.done-core: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.done-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@ .venv/.done-core
