"""Job folders."""

import os
import resource
import signal
import subprocess
import sys

from upres.service.storage.job_folder import LARGEST_PREVIEW, JobFolder

WRITES = """
from pathlib import Path
from upres.service.storage.job_folder import JobFolder
JobFolder(Path({path!r})).put_preview(bytes(10_000))
"""


def test_a_picture_that_cannot_be_written_whole_is_not_there(tmp_path):
    """As on a full disk. A later attempt writes it, as it is missing."""

    def bound():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [sys.executable, "-B", "-c", WRITES.format(path=str(tmp_path))]
    run = subprocess.run(command, preexec_fn=bound, capture_output=True, text=True, timeout=60)
    assert "File too large" in run.stderr and not (tmp_path / "preview.jpg").exists()
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "preview.jpg").read_bytes() == bytes(10_000)
    assert [path.name for path in tmp_path.iterdir()] == ["preview.jpg"]


def test_a_preview_larger_than_any_is_not_read(tmp_path):
    folder = JobFolder(tmp_path)
    assert folder.read_preview() is None
    folder.put_preview(bytes(LARGEST_PREVIEW))
    assert folder.read_preview() == bytes(LARGEST_PREVIEW)
    os.truncate(folder.preview, 1 << 36)
    assert folder.read_preview() is None
