"""The installed package matches the tree: packages mapped, imports one-way, no tests in the wheel."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from statistics import median

import pytest
from paths import ROOT

from upres.engine.models.catalog import NETWORKS

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = dict(SETUPTOOLS["package-dir"])
NAMESPACE = FOLDERS.pop("upres")  # not a package: it holds what `python -m upres` runs
MOST_MODULES = 14  # per folder
MOST_LINES = 60  # per function
MEDIAN_FUNCTION, MEDIAN_FILE = 6, 99
# Names that leave the reader to guess what a value is.
VAGUE = {"told", "given", "found", "held", "made", "asked", "said", "got", "had", "wanted", "heard", "taken", "gone"}
VAGUE |= {"come", "came", "ours", "theirs", "ways", "things"}


def packages():
    """Return every package and namespace of the tree: dotted name and folder."""
    yield "upres", ROOT / NAMESPACE
    for name, top in FOLDERS.items():
        for init in sorted((ROOT / top).rglob("__init__.py")):
            folder = init.parent
            yield ".".join([name, *folder.relative_to(ROOT / top).parts]), folder


def modules():
    for package, folder in packages():
        for path in sorted(folder.glob("*.py")):
            if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                yield pytest.param(package, path, id=f"{package}.{path.stem}")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


def test_every_package_is_installed():
    assert set(SETUPTOOLS["packages"]) == {name for name, _ in packages()}


def test_every_module_lies_in_a_package():
    folders = {path.parent for top in FOLDERS.values() for path in (ROOT / top).rglob("*.py")}
    assert folders == {folder for _, folder in packages()}


@pytest.mark.parametrize(("package", "path"), list(modules()))
def test_imports_are_relative_inside_a_package_and_absolute_across(package, path):
    inside = {package, *(name for name, _ in packages() if name.rpartition(".")[0] == package)}
    for level, module in imports(path):
        assert level <= 1, f"{path} reaches out of its package: {'.' * level}{module}"
        own = module.rpartition(".")[0] == package and module not in inside
        assert level == 1 or not own, f"{path} imports its own package by name: {module}"


def test_no_folder_holds_more_modules_than_can_be_read_at_once():
    sizes = {
        name: len([path for path in folder.glob("*.py") if path.stem != "__init__"]) for name, folder in packages()
    }
    assert max(sizes.values()) <= MOST_MODULES, sizes


def test_functions_and_files_are_read_in_one_sitting():
    functions, files = {}, []
    for package, folder in packages():
        for path in folder.glob("*.py"):
            if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                text = path.read_text()
                files.append(len(text.splitlines()))
                for node in ast.walk(ast.parse(text)):
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        name = f"{package}.{path.stem}:{node.lineno} {node.name}"
                        functions[name] = node.end_lineno - node.lineno + 1
    assert {name: lines for name, lines in functions.items() if lines > MOST_LINES} == {}
    assert median(functions.values()) <= MEDIAN_FUNCTION and median(files) <= MEDIAN_FILE


def bound(tree):
    """Yield the names that a module gives to values, arguments, attributes, functions and classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store(), id=name) | ast.Attribute(ctx=ast.Store(), attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name


@pytest.mark.parametrize(("package", "path"), list(modules()))
def test_names_say_what_a_value_is(package, path):
    names = {name.strip("_") for name in bound(ast.parse(path.read_text()))}
    assert names & VAGUE == set(), f"{path}: name what the value is, such as `response`, `options` or `owners`"


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
    shipped = [name for name, network in NETWORKS.items() if network.ships]
    assert {f"upres/engine/models/data/{name}.{kind}" for name in shipped for kind in ("onnx", "json")} <= set(files)
    assert not [file for file in files if "fake" in file or "tests/" in file]
    assert "upres/__init__.py" not in files


def test_the_shipped_graphs_are_small():
    graphs = list((ROOT / "engine" / "models" / "data").glob("*.onnx"))
    assert graphs
    assert all(graph.stat().st_size <= 2_000_000 for graph in graphs)
