"""A small FlashVSR with random weights, as files with the original names."""

from pathlib import Path

from upres.export.flashvsr.weights.configuration import Configuration
from upres.export.flashvsr.weights.random_weights import random_weights

SMALL = Configuration(
    dim=256, heads=2, layers=1, ffn=96, text_dim=24, freq_dim=16, projector=(8, 12), decoder=(8, 8, 4, 4)
)
WEIGHTS = random_weights(SMALL, prompt_tokens=20)
DIT = "diffusion_pytorch_model_streaming_dmd.safetensors"


def as_torch(tensors, dtype=None, prefix=""):
    import torch

    return {prefix + key: torch.from_numpy(tensors[key]).to(dtype or torch.float32) for key in tensors}


def write_files(folder: Path, monkeypatch) -> Path:
    """Write the four files, and set their expected sizes to the actual ones."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(as_torch(WEIGHTS.dit), folder / DIT)
    torch.save(as_torch(WEIGHTS.lq, torch.bfloat16), folder / "LQ_proj_in.ckpt")
    torch.save({"state_dict": as_torch(WEIGHTS.tc)}, folder / "TCDecoder.ckpt")
    torch.save(torch.from_numpy(WEIGHTS.prompt), folder / "posi_prompt.pth")
    monkeypatch.setattr("upres.export.flashvsr.weights.files.RELEASED", SMALL)
    monkeypatch.setattr("upres.export.flashvsr.weights.files.DIT_BYTES", (folder / DIT).stat().st_size)
    return folder
