"""Where the tests find what lies in the repository."""

from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
DATA = TESTS / "data"
CASES = DATA / "cases"
SOAK = ROOT / "soak"  # where `make soak` writes its figures; those in bench/results are chosen and copied by hand
SAMPLE = DATA / "bigbuckbunny.mp4"
