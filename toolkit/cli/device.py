"""`toolkit device` and `toolkit time`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table, table_of_columns
from toolkit.cli.options import (
    Devices,
    Json,
    Loops,
    Picture,
    Scores,
    SshConfig,
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


time_app = typer.Typer(
    no_args_is_help=True, cls=_RunFirst, help="Time exported networks on phones, boards and this machine."
)
device_app = typer.Typer(no_args_is_help=True, help="The program that runs on phones and boards.")


@device_app.command("build")
def device_build(
    abi: Annotated[
        list[str] | None,
        typer.Option(help="arm64-v8a, armeabi-v7a or x86_64; may be repeated; all if left out."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="An exported folder whose layers it must have; may be repeated; the zoo's if left out."
        ),
    ] = None,
    ndk: Annotated[
        bool, typer.Option(help="By the NDK that ANDROID_NDK names, if any, rather than zig.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Compile the timing runner, once: minutes for each processor, then it comes from the user's cache."""
    from toolkit.device.build import ABIS, build_runner, compiler_for, layers_of

    chosen = abi or list(ABIS)
    for name in chosen:
        compiler_for(name, ndk)  # nothing is built where one of them cannot be
    layers = sorted(layers_of(model or []))
    entries: list[dict[str, Any]] = []
    for name in chosen:
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
    folders: Annotated[list[Path], typer.Argument(help="Folders that `toolkit export` made.")],
    device: Devices,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="1, 2, 4 threads x all and big cores x the folder's formats.")
    ] = False,
    to: Annotated[
        str, typer.Option("--format", help="ncnn, ncnn-fp16, ncnn-int8, by commas; ncnn unless given.")
    ] = "",
    threads: Annotated[str, typer.Option(help="Numbers of threads, by commas.")] = "1",
    powersave: Annotated[str, typer.Option(help="0 all cores, 1 little, 2 big ones; by commas.")] = "0",
    picture: Picture = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="An exported landmark network: the cascade is timed, with points in every box."),
    ] = None,
    loops: Loops = 50,
    seconds: Annotated[
        float, typer.Option(min=0, help="Instead of loops: keep going so long; 60 and more show warming.")
    ] = 0,
    cooldown: Annotated[float, typer.Option(min=0, help="Seconds of rest after each run.")] = 1,
    ssh_config: SshConfig = None,
    as_json: Json = False,
) -> None:
    """Push, run, pull: one reading for each setting into FOLDER/timing.json. Exit code 1 where detections
    are not those of ncnn on this machine."""
    from toolkit.device import report, settings, timing

    found = timing.measure(
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
    records = [report.record(*entry) for entry in found]
    print_answer({"readings": records}, as_json, table_of_columns(report.table(found)))
    wrong = [reading for _, reading in found if reading.parity["agrees"] is False]
    for reading in wrong:
        print_message(
            f"WRONG DETECTIONS: {reading.model.name} on {reading.machine}: {report.parity_text(reading)}"
        )
    if wrong:
        raise typer.Exit(1)


@time_app.command("import")
def time_import(
    files: Annotated[list[Path], typer.Argument(help="Readings that the app's benchmark wrote.")],
    exports: Annotated[Path, typer.Option(help="Where the exported folders are.")] = Path("exports"),
    as_json: Json = False,
) -> None:
    """Keep readings made inside the app in the exported folder that has the same sha256."""
    from toolkit.device.readings import import_readings

    added = {str(folder): count for folder, count in import_readings(files, exports).items()}
    rows = [[folder, str(count)] for folder, count in added.items()]
    print_answer({"added": added}, as_json, table("", ["folder", "new readings"], rows))


@time_app.command("table")
def time_table(
    folders: Annotated[list[Path], typer.Argument(help="Exported folders that were timed.")],
    score: Scores = None,
    output: Annotated[Path | None, typer.Option(help="A folder for the pictures.")] = None,
    as_json: Json = False,
) -> None:
    """The table in the seed's form, and pictures: per stage, against the score, while warming."""
    from toolkit.device import report
    from toolkit.device.readings import read_timings

    found = [(folder, reading) for folder in folders for reading in read_timings(folder)]
    if not found:
        raise InputError("none of these folders was timed: run toolkit time FOLDER --device ... first")
    scores = parse_scores(score)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        readings = [reading for _, reading in found]
        report.draw_stages(readings).savefig(output / "stages.png")
        report.draw_warming(readings).savefig(output / "warming.png")
        if scores:
            report.draw_accuracy(readings, scores).savefig(output / "accuracy.png")
    records = [report.record(*entry) for entry in found]
    print_answer({"readings": records}, as_json, table_of_columns(report.table(found, scores)))
