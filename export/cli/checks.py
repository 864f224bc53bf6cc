"""Developer commands that check and measure the exporters: `python -m upres.export`."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from upres.engine.models.flashvsr.manifest import Precision
from upres.export.measurements import record

Device = Literal["cpu", "cuda"]
Results = Annotated[Path | None, typer.Option(help="A JSON file to record the results and the machine in.")]

# Plain help, which shows no type for flags.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Check and measure the exporters; for developers."""


@app.command()
def flashvsr_check(
    weights: Annotated[Path, typer.Option(help="All weights of the reference, in one .npz.")],
    golden: Annotated[Path, typer.Option(help="The results of the public implementation, in one .npz.")],
    config: Annotated[Path, typer.Option(help="The configuration of the reference, in JSON.")],
) -> None:
    """Compare FlashVSR in PyTorch and in ONNX with a numeric reference; exits with 1 if a tolerance is exceeded."""
    from upres.export.flashvsr.verify.compare import compare
    from upres.export.flashvsr.verify.golden import read_golden, read_heads
    from upres.export.flashvsr.weights.npz import read_npz

    failed = 0
    weight_set = read_npz(weights, heads=read_heads(config))
    with tempfile.TemporaryDirectory() as folder:
        for difference in compare(weight_set, read_golden(golden), Path(folder)):
            failed += not difference.passes
            verdict = "ok  " if difference.passes else "FAIL"
            line = f"{verdict} {difference.name:22} {difference.value:.3e} (<= {difference.tolerance:g})  {difference.note}"
            typer.echo(line.rstrip())
    typer.echo(f"{failed} over tolerance" if failed else "all within tolerance")
    raise typer.Exit(1 if failed else 0)


@app.command()
def flashvsr_measure(
    folder: Annotated[Path, typer.Argument(help="The folder of an export; with --export, the folder to write one to.")],
    export: Annotated[
        bool, typer.Option("--export", help="Measure an export of the full-size model with random weights.")
    ] = False,
    profile: Annotated[str, typer.Option(help="With --export: the tile, height x width in output pixels.")] = "256x256",
    precision: Annotated[Precision, typer.Option(help="With --export: the precision of the transformer.")] = "fp32",
    verify: Annotated[
        bool, typer.Option("--verify", help="Measure the comparison of such an export with PyTorch.")
    ] = False,
    device: Annotated[Device, typer.Option(help="The device that the steps run on.")] = "cpu",
    dense: Annotated[
        bool, typer.Option("--dense", help="With --export: dense attention instead of the published rule.")
    ] = False,
    results: Results = None,
) -> None:
    """Measure the full-size FlashVSR on ONNX Runtime: seconds and peak memory of every graph."""
    from upres.export.flashvsr.graphs.settings import Settings
    from upres.export.flashvsr.measure import counts, export_random, run_steps, verify_random

    height, width = (int(side) for side in profile.split("x"))
    differences: dict[str, float] = {}
    if verify:
        differences, cost = verify_random(folder)
        costs = [cost]
        for name, value in differences.items():
            typer.echo(f"{name:34} {value:.2e} from PyTorch")
    elif export:
        costs = [export_random(folder, Settings(profiles=((height, width),), precision=precision, exact=not dense))]
    else:
        costs = list(run_steps(folder, device))
    for cost in costs:
        seconds = ", then ".join(f"{value:.2f} s" for value in cost.seconds)
        typer.echo(f"{cost.name:34} {seconds}   peak so far {cost.peak / 1e9:6.2f} GB")
    if results is not None:
        part = f"{'verify' if verify else 'export' if export else f'steps on {device}'}, {folder.name}"
        measured = {"published": counts(), "costs": [asdict(cost) for cost in costs], "from_pytorch": differences}
        record(results, part, measured)


@app.command()
def flashvsr_engines(
    folder: Annotated[Path, typer.Argument(help="The folder of an export.")],
    out: Annotated[Path, typer.Argument(help="The folder to write the engines to.")],
    capability: Annotated[str, typer.Option(help="Compute capability of the GPUs that the engines are for.")] = "SM89",
    results: Results = None,
) -> None:
    """Build FlashVSR's graphs with TensorRT for RTX; no GPU is needed."""
    from upres.engine.machine.nvidia import driver
    from upres.export.trt import builder
    from upres.export.trt.flashvsr_engines import build_engines

    engines = []
    for engine in build_engines(folder, out, builder=builder.find("tensorrt-rtx", driver(), capability)):
        engines.append({**asdict(engine), "path": engine.path.name})
        typer.echo(f"{engine.sha256}  {engine.path}  {engine.nbytes / 1e6:.1f} MB, {engine.seconds:.1f} s")
    if results is not None:
        record(results, f"engines for {capability}, {folder.name}", engines)


@app.command()
def distill(
    network: Annotated[str, typer.Argument(help="realesr-live-x2 or realesr-live-x4.")],
    work: Annotated[
        Path, typer.Argument(help="The folder for media, patches and checkpoints; existing files are reused.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write the graph and its manifest to.")],
    steps: Annotated[int, typer.Option(min=1, help="Total number of training steps.")] = 30000,
    shards: Annotated[int, typer.Option(min=1, help="Number of files with 40 patches from the teacher.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the patches and of the training.")] = 1,
    device: Annotated[Device, typer.Option(help="The device to train on.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Training threads on a CPU.")] = 1,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Convolve in bfloat16: faster if the hardware supports it.")
    ] = False,
    media: Annotated[Path | None, typer.Option(help="A folder with the media, instead of PyPI.")] = None,
    results: Results = None,
) -> None:
    """Train a light network to imitate a heavier one, export it, and measure it on held-out media."""
    from upres.export.distill import run
    from upres.export.distill.training import Plan

    plan = Plan(steps, seed, device=device, threads=threads, bfloat16=bfloat16)
    exported, measured = run.distill(network, work, out, plan, shards=shards, media=media, report=typer.echo)
    typer.echo(f"{exported.graph}: {exported.graph.stat().st_size} bytes")
    if results is not None:
        run.record(results, network, measured, plan, shards)


@app.command()
def quantize(
    network: Annotated[str, typer.Argument(help="realesr-animevideov3-x4 or -x2, or another chain of convolutions.")],
    work: Annotated[Path, typer.Argument(help="The folder for media; existing files are reused.")],
    out: Annotated[Path, typer.Argument(help="The folder to write the graph and the manifest to.")],
    seed: Annotated[int, typer.Option(help="Seed of the samples from the media.")] = 1,
    results: Results = None,
) -> None:
    """Convert a network's graph to int8, for `--quality fast`, with as many layers in int8 as the required precision allows."""
    from upres.export.quantize import run

    graph, tried = run.quantize(network, work, out, seed=seed, report=typer.echo)
    typer.echo(f"{graph}: {graph.stat().st_size} bytes")
    if results is not None:
        record(results, network, {"seed": seed, "tried": [asdict(each) for each in tried]})
