"""What tests share: makers of messages and drives, samples, speakers, independent losses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Of the checkout."""
