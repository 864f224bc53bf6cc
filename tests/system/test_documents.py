"""Documents match the code: the map matches the tree, links resolve, and the first screen stays short."""

import re
from itertools import chain

import pytest
from paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOPS = ("engine", "export", "service")


def test_the_map_names_every_package_and_folder_once():
    named = re.findall(r"^\| `([\w/]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)
    packages = {
        str(path.parent.relative_to(ROOT)) for path in chain(*((ROOT / top).rglob("__init__.py") for top in TOPS))
    }
    assert sorted(named) == sorted(packages | {"proto", "bench", "docs", "tests", "typings"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_readme_fits_the_first_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert (ROOT / "docs" / "before-after.jpg").stat().st_size <= 300_000
