"""NVDEC belongs to the command line: the service, which receives bitstreams of strangers, has no way to select it."""

import ast
import inspect

import pytest
from fake import Nearest
from paths import ROOT

from upres.engine.decode.reader import Reader
from upres.engine.live.session import PacedReader
from upres.engine.pipeline.options import Job
from upres.service.domain.spec import Spec
from upres.service.live.attempt_socket import LiveReader

SELECT = ("nvdec", "hwaccel", "HWAccel")
ALLOWED = {
    "engine/machine/video_engines.py",
    "engine/machine/video_engines_process.py",
    "engine/decode/reader.py",
    "engine/decode/connection.py",
    "engine/decode/container.py",
    "engine/pipeline/options.py",
    "engine/api.py",
    "service/cli/flags.py",
    "service/cli/run/options.py",
    "service/cli/run/unused.py",
    "service/cli/run/videos.py",
}
"""The only modules that mention it in code: the engine, and `upres run`."""


def mentions(tree):
    """Yield every name, attribute, argument and string of a module, apart from docstrings."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                yield name
            case ast.keyword(arg=name):
                yield name or "**"
            case ast.Constant(value=str(name)) if "\n" not in name and " " not in name:
                yield name


def test_no_module_of_the_service_selects_it():
    modules = set()
    for path in [*ROOT.glob("engine/**/*.py"), *ROOT.glob("service/**/*.py"), *ROOT.glob("export/**/*.py")]:
        if any(name in SELECT for name in mentions(ast.parse(path.read_text()))):
            modules.add(str(path.relative_to(ROOT)))
    assert modules == ALLOWED


def test_no_reader_or_job_of_the_service_gets_settings_that_are_not_written_out():
    calls = 0
    for path in [*ROOT.glob("service/**/*.py"), *ROOT.glob("engine/live/*.py")]:
        if path.is_relative_to(ROOT / "service" / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Reader", "LiveReader", "PacedReader"):
                calls += 1
                assert all(each.arg for each in node.keywords), f"{path}:{node.lineno}"
    assert calls >= 5


@pytest.mark.parametrize("opens", [Reader, Job, PacedReader])
def test_it_is_off_unless_it_is_asked_for(opens):
    option = inspect.signature(opens).parameters.get("nvdec")
    assert option is None or option.default is False


def test_no_job_stream_or_live_job_can_ask_for_it():
    assert "nvdec" not in inspect.signature(LiveReader).parameters
    spec = Spec(model="RealESRGAN_Vid_x2")
    for values in ({}, {"live": True}, {"delivery": "frames"}):
        job = Spec.from_json({**spec.as_json(), **values}).job(Nearest(2), nvenc=True)
        assert not job.nvdec and job.encoder.nvenc == (values != {"delivery": "frames"})
    with pytest.raises(TypeError, match="nvdec"):
        Spec.from_json({**spec.as_json(), "nvdec": True})
