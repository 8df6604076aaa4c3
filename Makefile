# Two commands: `make demo` and `make test`. Both build .venv first; nothing else is touched.
# BAG=...        a recording for the demo (rosbag2 folder, .mcap, .db3, ROS 1 .bag)
# KILL="a b"     sensors to silence meanwhile, as MODALITY@START+DURATION in seconds
# PYTHON=...     the Python 3.10 or newer that .venv is made from

PYTHON ?= python3
VENV ?= .venv
BAG ?= ../shared/realdata/collage_four_sensors
KILL ?= rgb@0.8+0.6 lidar@1.2
OUT ?= out/demo

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install recording demo test lint bench clean

help:
	@sed -n '/^# /s/^# //p' Makefile

install: $(INSTALLED)

# No `rm -rf`: a half-made .venv is completed.
$(INSTALLED): setup.py package.xml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than 3.10; give another one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "no venv in this Python; install it: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable '.[ros,dev]'
	@touch $@

recording:
	@test -e '$(BAG)' || { \
		echo "the demo plays a recording, and there is none at $(BAG);" \
			"give one with a camera, depth, event or LiDAR topic: make demo BAG=drive.mcap" >&2; \
		exit 2; }

demo: recording $(INSTALLED)
	$(BIN)/python -m robustseg_ros.demo '$(BAG)' --out '$(OUT)' $(foreach k,$(KILL),--kill $(k))

test: lint
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python test/bench/run.py

clean:
	rm -rf build dist install log out *.egg-info
