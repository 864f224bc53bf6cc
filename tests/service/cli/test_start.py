"""Start of the command line: imports for the help, signals, and shell completion."""

import importlib.util
import logging
import re
import subprocess
import sys

import pytest

from upres.service.cli import app, main, signals

HEAVY = ("numpy", "av", "onnxruntime", "openvino", "grpc", "sqlalchemy")
DRAWS = ("rich.console", "rich.markdown")  # these draw frames around a command's help
START = "import sys; from upres.service.cli.app import build; build()(sys.argv[1:], prog_name='upres', standalone_mode=False); "


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_no_media_and_no_arrays(args):
    code = START + f"print('heavy:', *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "heavy:\n")


def test_signals_are_caught_before_anything_that_takes_long_is_imported():
    code = "import sys, upres.service.cli.main; print(*(name for name in ('upres.engine', 'typer') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"


def test_the_command_is_a_module_too():
    done = subprocess.run([sys.executable, "-m", "upres", "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("upres "), done.stderr


def stopped(*args):
    raise KeyboardInterrupt


def test_ctrl_c_says_so_wherever_it_comes(monkeypatch, capfd):
    monkeypatch.setattr(app, "execute", stopped)
    monkeypatch.setattr(signals, "_handle", lambda handler: None)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capfd.readouterr().err) == (130, "upres: interrupted\n")


def test_a_run_that_hangs_when_it_is_stopped_ends_all_the_same():
    code = """
import os, signal, threading
from upres.service.cli import signals
signals.LONGEST_END = 0.1
signals.interrupt_on_signals()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    threading.Event().wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "upres: interrupted\n")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no OpenVINO here")
def test_a_run_imports_no_runtime_but_its_own(tmp_path, clip):
    code = (
        START + "print('heavy:', *(name for name in ('onnx', 'onnxruntime') if name in sys.modules), file=sys.stderr)"
    )
    args = ["run", clip(seconds=1), tmp_path / "out.mp4", "--runtime", "openvino", "--duration", "0.1", "--quiet"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "heavy:", done.stderr


def test_the_first_help_imports_nothing_that_draws():
    code = START + f"print('heavy:', *(name for name in {DRAWS!r} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "heavy:\n")


@pytest.mark.parametrize(
    ("words", "at", "offered"),
    [
        ("upres in.mp4 --mod", 2, ["--model"]),
        ("upres in.mp4 out.mp4 --model x", 4, ["x4", "x2"]),
        ("upres in.mp4 --chain flashvsr,x", 3, ["flashvsr,x4", "flashvsr,x2"]),
        ("upres -i in.mp4 --skip", 3, ["--skip-existing"]),
        ("upres in.mp4 --codec h", 3, ["h264", "hevc", "h265"]),
        ("upres in.mp4 --preset s", 3, ["superfast", "slow", "slower"]),
        ("upres in.mp4 --quality f", 3, ["fast"]),
        ("upres in.mp4 --runtime ncnn-", 3, ["ncnn-vulkan"]),
        ("upres in.mp4 --content a", 3, ["auto", "animation"]),
        ("upres clips/ out/ --container m", 4, ["mp4", "mov", "mkv"]),
        ("upres in.mp4 --prefilter deb", 3, ["deblock"]),
        ("upres pro", 1, ["probe"]),
        ("upres in.mp4 o", 2, []),  # the shell then completes file names
    ],
)
def test_the_documented_form_is_completed(words, at, offered, monkeypatch, capsys):
    from upres.service.cli.app import build

    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(at))
    monkeypatch.setenv("_UPRES_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        build()([], prog_name="upres")
    assert capsys.readouterr().out.split() == offered


EXTRA = ("grpc", "google", "fastapi", "pydantic_settings", "sqlalchemy", "uvicorn", "pythonjsonlogger")


@pytest.mark.parametrize("args", [["serve"], ["keys", "list"], ["jobs", "--key", "x"]], ids=" ".join)
def test_a_command_of_the_service_says_how_it_is_installed_where_it_is_not(args):
    code = f"import sys; sys.modules |= dict.fromkeys({EXTRA!r}); from upres.service.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(
        r"upres: \w+ needs an optional dependency that is not installed .*; run: pip install '.*\[service\]'\n",
        done.stderr,
    )


def test_no_remark_of_pyav_on_options_reaches_a_user(caplog):
    from upres.service.cli.app import build, execute

    with pytest.raises(SystemExit):
        execute(build(), ["--version"])
    logging.getLogger("av.container.output").warning("Some options were not used: {'movflags': 'faststart'}")
    assert not caplog.records
