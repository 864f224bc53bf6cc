"""What a process imports is what it needs: decoders and clients start fast, and carry nothing that a taken-over one could use."""

import subprocess
import sys

import pytest

HEAVY = ("grpc", "sqlalchemy", "fastapi", "uvicorn", "obstore", "alembic")


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("upres.service.execution.attempt", HEAVY),
        ("upres.service.execution.probe", HEAVY),
        (
            "upres.service.client",
            ("sqlalchemy", "fastapi", "uvicorn", "obstore", "alembic", "av", "numpy", "onnxruntime"),
        ),
    ],
)
def test_a_process_imports_what_it_needs(module, unneeded):
    code = f"import sys, {module}; print(*(name for name in {unneeded!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
