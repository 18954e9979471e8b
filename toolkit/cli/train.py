"""`toolkit train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import Json, Size, parse_size

app = typer.Typer()


@app.command()
def train(
    output: Annotated[Path, typer.Option(help="The run's folder.")],
    data: Annotated[str, typer.Option(help="A data set by the name of its card, or a folder.")] = "",
    model: Annotated[str, typer.Option(help="A network of the zoo.")] = "",
    recipe: Annotated[str, typer.Option(help="seed, modern, landmarks, or a .yaml of levers.")] = "",
    config: Annotated[Path | None, typer.Option(help="All settings from a config.yaml.")] = None,
    weights: Annotated[
        str, typer.Option(help="Start from: published, or a .weights or .pt file; nothing: from scratch.")
    ] = "",
    epochs: Annotated[float, typer.Option(help="Budget; the recipe's own unless given.")] = 0,
    size: Size = "",
    lever: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the recipe, such as ema=0; may be repeated.")
    ] = None,
    teacher: Annotated[str, typer.Option(help="Learn from a network of the zoo or a run's folder.")] = "",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes or GPUs.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that make batches; 0: a thread.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network of the zoo on your data: config, curves and best weights in one folder."""
    import yaml

    from toolkit.training.config import read_config
    from toolkit.training.loop import train as run_training
    from toolkit.training.recipe import default_recipe, read_yaml
    from toolkit.training.recipe import recipe as find_recipe

    settings: dict[str, Any] = {}
    source = output / "config.yaml" if resume and config is None else config
    if source is not None:
        settings = read_yaml(source, f"there is no settings file {source}")
    named = {"data": data, "model": model, "weights": weights, "teacher": teacher}
    settings |= {name: value for name, value in named.items() if value}
    if not resume:
        settings.setdefault("data", "toy")
        settings.setdefault("model", "fastest-v2")
        settings["seed"] = seed if config is None else settings.get("seed", seed)
        levers: dict[str, Any] = {"epochs": epochs} if epochs else {}
        for text in lever or []:
            name, _, value = text.partition("=")
            levers[name] = yaml.safe_load(value)
        if recipe or config is None:
            settings["recipe"] = find_recipe(recipe or default_recipe(settings["model"]), **levers)
        elif levers:
            settings["recipe"] = find_recipe(read_config(settings).recipe, **levers)
        if parse_size(size):
            settings["size"] = parse_size(size)
    settings |= {"device": device, "devices": devices, "workers": workers}
    result = run_training(read_config(settings), output, resume)
    answer = {**vars(result)}
    rows = [[name, str(value)] for name, value in answer.items()]
    print_answer(answer, as_json, table("", ["", ""], rows))
    if not result.finished:
        print_message(f"stopped at step {result.step} of {result.steps}: go on with --resume")
        raise typer.Exit(130)
