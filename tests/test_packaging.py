"""What is installed is what lies here: packages mapped, imports one way, nothing of the tests in the wheel."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
ALLOWED = {"engine": {"engine"}, "export": {"export", "engine"}, "service": {"service", "engine", "v2"}, "v2": {"v2"}}


def modules():
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).glob("*.py")):
            if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                yield pytest.param(package, path, id=f"{package}.{path.stem}")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


def test_every_folder_of_the_package_is_mapped():
    found = {
        path.parent.relative_to(ROOT)
        for path in ROOT.glob("*/**/__init__.py")
        if not path.relative_to(ROOT).parts[0].startswith(".")
    }
    source = {folder for folder in found if folder.parts[0] in ("engine", "export", "service", "proto")}
    assert source == {Path(folder) for folder in PACKAGES.values()}


@pytest.mark.parametrize(("package", "path"), list(modules()))
def test_imports_are_relative_inside_a_room_and_run_one_way(package, path):
    room = package.removeprefix("upres.")
    for level, module in imports(path):
        if level == 0 and module.startswith("upres."):
            target = module.split(".")[1]
            assert target != room, f"{path.name} imports its own room by its full name: {module}"
            assert target in ALLOWED[room], f"{path.name} imports {module}, against the direction of the design"


def test_the_namespace_has_no_init():
    assert not (ROOT / "upres").exists()


def test_the_wheel_holds_the_models_and_nothing_of_the_tests(tmp_path):
    source = tmp_path / "source"
    leave_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "typings", "demo")
    shutil.copytree(ROOT, source, ignore=leave_out)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(pip, check=True, timeout=240)
    (wheel,) = tmp_path.glob("upres-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert {
        f"upres/engine/models/realesr-animevideov3-{x}.{kind}" for x in ("x4", "x2") for kind in ("onnx", "json")
    } <= set(files)
    assert not [file for file in files if "fake" in file or "tests/" in file]
    assert "upres/__init__.py" not in files


def test_the_shipped_graphs_are_small():
    graphs = list((ROOT / "engine" / "models").glob("*.onnx"))
    assert graphs
    assert all(graph.stat().st_size <= 2_000_000 for graph in graphs)
