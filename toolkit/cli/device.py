"""`toolkit device` and `toolkit time`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table, table_of_columns
from toolkit.cli.options import (
    Devices,
    Exports,
    Json,
    Loops,
    Picture,
    Scores,
    SshConfig,
    output_option,
    parse_scores,
    parse_whole_numbers,
)
from toolkit.runtime import InputError


class _RunFirst(typer.core.TyperGroup):
    """`toolkit time FOLDER` is `toolkit time run FOLDER`."""

    def parse_args(self, context: typer.Context, words: list[str]) -> list[str]:  # type: ignore[override]
        if words and words[0] not in (*self.commands, "--help"):
            words = ["run", *words]
        return super().parse_args(context, words)


time_app = typer.Typer(no_args_is_help=True, cls=_RunFirst)
device_app = typer.Typer(no_args_is_help=True)


@device_app.command("build")
def device_build(
    abi: Annotated[
        list[str] | None,
        typer.Option(help="ABI: arm64-v8a, armeabi-v7a or x86_64; may be repeated (default: all)."),
    ] = None,
    model: Exports = [],  # noqa: B006 (typer copies it)
    ndk: Annotated[bool, typer.Option(help="Use the NDK of ANDROID_NDK, if set, instead of zig.")] = True,
    as_json: Json = False,
) -> None:
    """Compile the timing runner: minutes per processor, once; it is kept in the user's cache.

    It has the layers of each --model, an exported folder, and of the networks of the zoo unless one is named.
    """
    from toolkit.device.build import ABIS, build_runner, compiler_for, layers_of

    abis = abi or list(ABIS)
    for name in abis:
        compiler_for(name, ndk)  # build nothing unless all can be built
    layers = sorted(layers_of(model))
    entries: list[dict[str, Any]] = []
    for name in abis:
        begin = time.monotonic()
        path = build_runner(name, layers, ndk)
        seconds = round(time.monotonic() - begin, 1)
        entries.append({"abi": name, "path": str(path), "bytes": path.stat().st_size, "seconds": seconds})
    rows = [[e["abi"], f"{e['bytes'] / 1e6:.1f}", f"{e['seconds']:.1f}", e["path"]] for e in entries]
    print_answer(
        {"runners": entries, "layers": layers},
        as_json,
        table(f"{len(layers)} layers: {' '.join(layers)}", ["processor", "MB", "seconds", "runner"], rows),
    )


@time_app.command("run")
def time_run(
    folders: Annotated[list[Path], typer.Argument(help="Exported folders.")],
    device: Devices,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Sweep 1, 2, 4 threads x all and big cores x formats in the folder."),
    ] = False,
    to: Annotated[
        str,
        typer.Option(
            "--format", help="Formats, separated by commas: ncnn, ncnn-fp16, ncnn-int8 (default: ncnn)."
        ),
    ] = "",
    threads: Annotated[str, typer.Option(help="Thread counts, separated by commas.")] = "1",
    powersave: Annotated[str, typer.Option(help="Cores, separated by commas: 0 all, 1 little, 2 big.")] = "0",
    picture: Picture = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="Exported landmark network: times the cascade, with landmarks in every box."),
    ] = None,
    loops: Loops = 50,
    seconds: Annotated[
        float,
        typer.Option(
            min=0, max=86_400, help="Duration instead of loops, s; 60 or more shows thermal throttling."
        ),
    ] = 0,
    cooldown: Annotated[float, typer.Option(min=0, max=3600, help="Pause after each run, s.")] = 1,
    ssh_config: SshConfig = None,
    as_json: Json = False,
) -> None:
    """Time networks on devices: one reading per setting in FOLDER/timing.json. Exit code 1 if detections
    differ from those of ncnn on this machine."""
    from toolkit.device import report, settings, timing

    readings = timing.measure(
        folders,
        device,
        [part for part in to.split(",") if part],
        parse_whole_numbers("--threads", threads, 1, 64),
        parse_whole_numbers("--powersave", powersave, 0, 2),
        sweep,
        picture,
        settings.Load(loops=loops, seconds=seconds, cooldown=cooldown),
        ssh_config,
        landmarks,
    )
    records = [report.record(*entry) for entry in readings]
    print_answer({"readings": records}, as_json, table_of_columns(report.table(readings)))
    wrong = [reading for _, reading in readings if reading.parity["agrees"] is False]
    for reading in wrong:
        print_message(
            f"WRONG DETECTIONS: {reading.model.name} on {reading.machine}: {report.parity_text(reading)}"
        )
    if wrong:
        raise typer.Exit(1)


@time_app.command("import")
def time_import(
    files: Annotated[list[Path], typer.Argument(help="Reading files of the app's benchmark.")],
    exports: Annotated[Path, typer.Option(help="Parent folder of the exported folders.")] = Path("exports"),
    as_json: Json = False,
) -> None:
    """Import readings of the app into the exported folder with the same sha256."""
    from toolkit.device.readings import import_readings

    added = {str(folder): count for folder, count in import_readings(files, exports).items()}
    rows = [[folder, str(count)] for folder, count in added.items()]
    print_answer({"added": added}, as_json, table("", ["folder", "new readings"], rows))


@time_app.command("table")
def time_table(
    folders: Annotated[list[Path], typer.Argument(help="Exported folders with timings.")],
    score: Scores = None,
    output: Annotated[Path | None, output_option()] = None,
    as_json: Json = False,
) -> None:
    """Timing table, and plots with --output: per stage, time against score, thermal behaviour."""
    from toolkit.device import report
    from toolkit.device.readings import read_timings

    entries = [(folder, reading) for folder in folders for reading in read_timings(folder)]
    if not entries:
        raise InputError("none of these folders has timings: run toolkit time FOLDER --device ... first")
    scores = parse_scores(score)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        readings = [reading for _, reading in entries]
        report.draw_stages(readings).savefig(output / "stages.png")
        report.draw_warming(readings).savefig(output / "warming.png")
        if scores:
            report.draw_accuracy(readings, scores).savefig(output / "accuracy.png")
    records = [report.record(*entry) for entry in entries]
    print_answer({"readings": records}, as_json, table_of_columns(report.table(entries, scores)))
