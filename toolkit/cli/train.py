"""`toolkit train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.answer import print_answer, print_message
from toolkit.cli.options import (
    MOST_SEED,
    Json,
    Names,
    Partial,
    Size,
    data_option,
    model_option,
    output_option,
    parse_size,
    weights_option,
)
from toolkit.signals import exit_code
from toolkit.tables import text_table

app = typer.Typer()


@app.command()
def train(
    output: Annotated[Path, output_option()],
    data: Annotated[str, data_option("toy")] = "",
    model: Annotated[
        str,
        model_option("fastest-v2", "A network of the zoo or a darknet .cfg; a run's own is for --weights."),
    ] = "",
    recipe: Annotated[
        str,
        typer.Option(help="seed, modern, landmarks or a .yaml file of levers; by the network unless given."),
    ] = "",
    config: Annotated[
        Path | None, typer.Option(help="Settings from a config.yaml; other options take precedence.")
    ] = None,
    names: Names = None,
    weights: Annotated[str | None, weights_option("random", "published, a network of the zoo")] = None,
    partial: Partial = False,
    epochs: Annotated[
        float | None,
        typer.Option(min=0, max=100_000, help="Training budget; the recipe's own unless given."),
    ] = None,
    size: Size = "",
    lever: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the recipe, such as ema=0; may be repeated.")
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="Detector to distil from: a network of the zoo or a run's folder.")
    ] = "",
    seed: Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Random seed (default: 0).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda (default: auto).")] = "",
    devices: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes or GPUs (default: 1).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="Processes that make batches; 0: a thread (default)."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network on your data: settings, curves and best weights in one folder."""
    from toolkit.training.config import check_resumed, merged_config, read_config, read_levers
    from toolkit.training.loop import train as run_training

    levers = {} if epochs is None else {"epochs": epochs}
    levers |= read_levers(lever or [])
    if resume and (output / "config.yaml").is_file():
        check_resumed(read_config(output / "config.yaml"), levers=levers)
    settings = merged_config(
        output / "config.yaml" if resume and config is None else config,
        levers,
        data=data,
        model=model,
        recipe=recipe,
        names=names,
        weights=weights or "",
        partial=partial or None,
        teacher=teacher,
        size=parse_size(size),
        seed=seed,
        device=device,
        devices=devices,
        workers=workers,
    )
    result = run_training(settings, output, resume)
    print_answer(vars(result), as_json, text_table(result.columns()))
    if result.finished and result.best_weights:
        best = Path(result.best_weights)
        chosen = best.with_suffix(".cfg") if best.suffix == ".weights" else best
        print_message(f"next: toolkit export --model {chosen} --output exports/{output.name}")
    if not result.finished:
        print_message(f"stopped at step {result.step} of {result.steps}: continue with --resume")
        raise typer.Exit(exit_code())
