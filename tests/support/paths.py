"""Where the tests find what lies in the repository."""

from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
DATA = TESTS / "data"
CASES = DATA / "cases"
SAMPLE = DATA / "bigbuckbunny.mp4"
