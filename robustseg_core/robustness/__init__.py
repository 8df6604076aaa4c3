"""The fault matrix: rows of what goes wrong with a field robot, done to any drive with truth.

drive x row -> broken drive -> Segmenter -> observation -> assessment -> table
"""

from robustseg_core.robustness.case import Case
from robustseg_core.robustness.matrix import MATRIX, Row, cases

__all__ = ["MATRIX", "Case", "Row", "cases"]
