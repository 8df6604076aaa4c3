"""Segmentation that keeps going when sensors die: everything that thinks. Never imports ROS."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("robustseg")
except PackageNotFoundError:  # a bare checkout on PYTHONPATH
    __version__ = "0+checkout"
