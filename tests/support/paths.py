"""Paths in the repository that tests use."""

from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
DATA = TESTS / "data"
CASES = DATA / "cases"
SOAK = ROOT / "soak"  # output folder of `make soak`; figures in bench/results are selected and copied by hand
SAMPLE = DATA / "bigbuckbunny.mp4"
