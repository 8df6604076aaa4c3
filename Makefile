# Two commands: `make demo` and `make test`. Both build .venv first; nothing else is touched, but
# that root gets three system libraries which open3d needs (others are told the command).
# BAG=...        a recording for the demo (rosbag2 folder, .mcap, .db3, ROS 1 .bag); default: a
#                simulated drive, made once
# KILL="a b"     sensors to silence meanwhile, as MODALITY@START+DURATION in seconds
# FAULT="a b"    sensors to break, as TARGET:FAULT@START+DURATION
# PYTHON=...     the Python 3.10 or newer that .venv is made from

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

.PHONY: help install recording libraries demo test lint bench clean

help:
	@sed -n '/^# /s/^# //p' Makefile

install: $(INSTALLED)

# No `rm -rf`: a half-made .venv is completed.
$(INSTALLED): setup.py package.xml constraints.txt | libraries
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than 3.10; give another one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "no venv in this Python; install it: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable '.[ros,sim,train,dev]'
	@touch $@

recording:
	@test '$(BAG)' = '$(DRIVE)' -o -e '$(BAG)' || { \
		echo "there is no recording at $(BAG); give one with a camera, depth, event or LiDAR" \
			"topic: make demo BAG=drive.mcap, or none for a simulated drive" >&2; \
		exit 2; }

$(DRIVE): | $(INSTALLED)
	$(BIN)/robustseg sim $@ --seconds 8 --seed 7

demo: recording $(INSTALLED) $(if $(filter $(DRIVE),$(BAG)),$(DRIVE))
	$(BIN)/python -m robustseg_ros.demo '$(BAG)' --out '$(OUT)' \
		$(foreach k,$(KILL),--kill '$(k)') $(foreach f,$(FAULT),--fault '$(f)')

libraries:
	@for name in libusb-1.0.so libGL.so libgomp.so; do \
		ldconfig -p | grep -q $$name || missing=1; \
	done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq $(LIBRARIES) >/dev/null; \
		else \
			echo "the simulator needs system libraries: apt-get install $(LIBRARIES)" >&2; \
		fi; \
	fi

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
