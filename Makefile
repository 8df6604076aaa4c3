# Two commands: `make demo` and `make test` (while you work: `make check`; a site of docs/: `make docs`).
# Both make .venv first, by uv in half a minute (0.6 GB to fetch for the demo, 0.9 GB for the tests), or by
# pip in six where uv fails; pip's settings count for both. Nothing else is touched, but that root gets three system libraries which
# open3d needs (others are told the command).
# BAG=...        a recording for the demo (rosbag2 folder, .mcap, .db3, ROS 1 .bag); default: a
#                simulated drive, made once
# KILL="a b"     sensors to silence meanwhile, as MODALITY@START+DURATION in seconds
# FAULT="a b"    sensors to break, as TARGET:FAULT@START+DURATION
# PYTHON=...     the Python 3.10 or newer that .venv is made from
# UV=...         a uv of yours instead of the pinned one from the package index; UV=false: by pip
# UV_TORCH_BACKEND=cpu, cu130, ...  the build of torch; default: the one in PIP_FIND_LINKS, or else
#                the one for this machine's GPU, for the CPU if it has none

PYTHON ?= python3
VENV ?= .venv
DRIVE := out/drive.mcap
BAG ?= $(DRIVE)
KILL ?= rgb@2+1.5 lidar@5
FAULT ?= depth:invalid_depth@3+1
OUT ?= out/demo
LIBRARIES := libusb-1.0-0 libgl1 libgomp1

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS := $(VENV)/.runs
PACKED := setup.py package.xml requirements-robot.txt constraints.txt
DOCS := .venv-docs

# uv leaves the bytecode to the first start; where nothing writes it, every process of the suite
# compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install python plan-test plan-demo recording libraries demo test check lint style bench parity docs clean

help:
	@sed -n '/^# /!q; s/^# //p' Makefile

install: $(INSTALLED)

# What lies in .venv stays: a half-made one is completed.
$(INSTALLED): $(PACKED) | libraries python
	@$(PYTHON) .make/install.py $(VENV) ros,sim,train,engines,dev
	@touch $@ $(RUNS)

# What the demo needs of it: nothing to train with, nothing to test with.
$(RUNS): $(PACKED) | libraries python
	@$(PYTHON) .make/install.py $(VENV) ros,sim
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than 3.10; give another one: make PYTHON=python3.11" >&2; exit 2; }

plan-test:
	@echo 'make test: ruff and import-linter, then mypy and the whole suite; 15 to 35 minutes on two idle cores'

plan-demo:
	@echo 'make demo: $(BAG) through the live node; KILL="$(KILL)" FAULT="$(FAULT)" OUT=$(OUT)'

recording:
	@test '$(BAG)' = '$(DRIVE)' -o -e '$(BAG)' || { \
		echo "there is no recording at $(BAG); give one with a camera, depth, event or LiDAR" \
			"topic: make demo BAG=drive.mcap, or none for a simulated drive" >&2; \
		exit 2; }

demo: plan-demo recording $(RUNS)
	$(BIN)/robustseg demo '$(BAG)' --out '$(OUT)' $(if $(strip $(KILL)$(FAULT)),,--healthy) \
		$(foreach k,$(KILL),--kill '$(k)') $(foreach f,$(FAULT),--fault '$(f)')
	@echo 'next: source $(VENV)/bin/activate; robustseg run $(BAG) --kill rgb@3+2'

libraries:
	@for name in libusb-1.0.so libGL.so libgomp.so; do \
		ldconfig -p | grep -q $$name || missing=1; \
	done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Fetching system libraries by apt-get: $(LIBRARIES)"; \
			apt-get update -qq && apt-get install -y -qq $(LIBRARIES) >/dev/null; \
		else \
			echo "the simulator needs system libraries: apt-get install $(LIBRARIES)" >&2; \
		fi; \
	fi

# Side by side, file by file, mypy as one of the files; what is measured while nodes speak over DDS
# has the machine for itself.
test: plan-test style
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore test/ros
	$(BIN)/python -m pytest -n 2 --dist loadfile test/ros -m 'not alone'
	$(BIN)/python -m pytest test/ros -m alone

# While you work: lint and the fast tests, and how much of the packages these reach.
check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not ros and not packaging' \
		--hypothesis-profile=check --cov --cov-report=
	$(BIN)/coverage report --skip-covered

lint: style
	$(BIN)/mypy

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED)
	$(BIN)/python test/bench/run.py

# What the published code computes beside what we compute: docs/specs/parity.md.
parity: $(INSTALLED)
	$(BIN)/python test/parity/run.py

# A site of README and docs/ in build/docs, by an environment of its own: neither torch nor ROS.
docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet
	@echo "build/docs/index.html"

$(DOCS)/.installed: setup.py constraints.txt
	@$(PYTHON) .make/install.py $(DOCS) docs --alone
	@touch $@

clean:
	rm -rf build dist install log *.egg-info
