# make demo    environment, synthetic data, shards, training, report: the whole way in one command
# make test    environment, linters, types, layers, the documentation's site, tests
# make check   the same without the tests
# make fast    environment and the fast tests, in two minutes: none that is slow or needs more than Python
#              test, fast and check with VERSIONS=newest or VERSIONS=lowest in an environment of their own
# make docs    the documentation as a site, in build/site; a link that leads nowhere is an error
# make container   the image of the Dockerfile, and a training on drawn pictures in it (CONTAINER=podman, BASE=IMAGE)
# make clean   remove what demo and test made, but the environments

PYTHON ?= python3
# default: those of constraints.txt, which are known to pass. newest: today's. lowest: those of pyproject.toml.
VERSIONS ?= default
ENV := $(if $(filter default,$(VERSIONS)),.venv,.venv-$(VERSIONS))
BIN := $(ENV)/bin
READY := $(ENV)/ready
DEMO := build/demo
CONTAINER ?= docker
# Three for two cores, since many tests wait for other processes. Hundreds of these import the same files, which is
# quicker where they are compiled once; some machines forbid that by a variable.
WORKERS ?= 3
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

ifeq ($(filter default newest lowest,$(VERSIONS)),)
$(error VERSIONS is default, newest or lowest, not $(VERSIONS))
endif

.PHONY: demo test fast check docs container clean

demo: $(DEMO)/shards/manifest.json
	$(BIN)/xmr shards sheet $(DEMO)/shards $(DEMO)/sheet.png
	$(BIN)/python recipes/alscor_pascal.py --data.shards $(DEMO)/shards \
		--method.image.weights none --data.image-size 96 --data.load-size 112 \
		--optimizer.kind adamw --optimizer.lr 3e-4 --optimizer.lr-overrides.towers.image.network.features 3e-4 \
		--schedule.kind cosine --schedule.warmup 0.05 --train.epochs 12 --train.select mAP@all

# Drawn, not photographed: the set is synthetic, and says so in its manifest and in the report.
$(DEMO)/shards/manifest.json: $(DEMO)/raw/index.html
	$(BIN)/python -m preprocessing.pascal_sentence $(DEMO)/raw $(DEMO)/shards --resize 128

$(DEMO)/raw/index.html: | $(READY)
	rm -rf $(DEMO)/raw
	$(BIN)/python -m preprocessing.synthetic $(DEMO)/raw --per-class 100

# The checks take one core for minutes, and run meanwhile; what they say stands behind the tests. `make`, since a line
# with the variable would be run by --dry-run, too. A thread for each of several processes, of which the one that is
# done first helps the others.
test: $(READY)
	@mkdir -p build
	make check > build/check.txt 2>&1 & checks=$$!; \
	$(PYTEST); tests=$$?; \
	wait $$checks || tests=1; cat build/check.txt; exit $$tests

# One for each core: these wait for no other processes.
fast: WORKERS = 2
fast: $(READY)
	$(PYTEST) -m "not (slow or processes or slurm or browser)"

check: docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Not --quiet, with which warnings are not counted and nothing is strict. Without a paragraph about the future of MkDocs
# at each call; pyproject.toml says it.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# DeepSpeed compiles its operators at first use, so that nothing here needs a CUDA toolkit. trackio asks for a Pillow
# that writes past a buffer, and works with ours.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifeq ($(VERSIONS),default)
	cp constraints.txt $(ENV)/constraints.txt
else ifeq ($(VERSIONS),newest)
	: > $(ENV)/constraints.txt
else
	$(BIN)/python .ci/lowest.py > $(ENV)/constraints.txt
endif
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet $(if $(filter newest,$(VERSIONS)),--upgrade --upgrade-strategy eager) \
		--constraint $(ENV)/constraints.txt --editable '.[dev,docs]'
	$(BIN)/python -m pip install --quiet --no-deps 'trackio>=0.40'
	touch $(READY)

# A training of seconds, whose run a mounted folder has afterwards. --user: it belongs to whoever calls make.
container:
	$(CONTAINER) build --tag xmr-e2e $(if $(BASE),--build-arg BASE=$(BASE)) $(CONTAINER_OPTIONS) .
	rm -rf build/container && mkdir -p build/container
	$(CONTAINER) run --rm --user "$$(id -u):$$(id -g)" --volume "$(CURDIR)/build/container:/workspace" xmr-e2e sh -ec \
		"python -m preprocessing.synthetic raw --per-class 4; \
		python -m preprocessing.pascal_sentence raw shards --resize 64; \
		python -m xmr_e2e.recipes.dscmr_flickr8k --data.shards shards --train.batch-size 20 --train.epochs 2; \
		xmr doctor"

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
