"""`toolkit device`, `toolkit serve` and `toolkit time`."""

from __future__ import annotations

import threading
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
from toolkit.signals import exit_code


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
    browser: Annotated[
        bool,
        typer.Option("--browser", help="Time in Chrome on the phones that are named, not by the runner."),
    ] = False,
    to: Annotated[
        str,
        typer.Option(
            "--format",
            help="Formats, separated by commas: ncnn (default), ncnn-fp16, ncnn-int8; on this machine also "
            "onnx, mnn, litert and theirs in int8.",
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
    differ from those of the same file on this machine.

    --device browser is Chromium on this machine; its times have a row of their own."""
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
        browser,
    )
    records = [report.record(*entry) for entry in readings]
    print_answer({"readings": records}, as_json, table_of_columns(report.table(readings)))
    wrong = [reading for _, reading in readings if reading.parity.get("agrees") is False]
    for reading in wrong:
        print_message(
            f"WRONG DETECTIONS: {reading.model.name} on {reading.machine}: {report.parity_text(reading)}"
        )
    if wrong:
        raise typer.Exit(1)


serve_app = typer.Typer()


@serve_app.command("serve")
def serve(
    folders: Annotated[list[Path], typer.Argument(help="Exported folders with ONNX files.")],
    lan: Annotated[
        bool, typer.Option("--lan", help="For devices in this machine's network, not this machine alone.")
    ] = False,
    tls: Annotated[
        bool | None,
        typer.Option("--tls/--no-tls", help="https, which a phone's camera needs (default: with --lan)."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 0,
    picture: Picture = None,
    count: Annotated[
        int, typer.Option("--readings", min=0, max=100_000, help="End after so many; 0 for never.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Serve a page with exported networks to a phone: live boxes there, its milliseconds back here.

    The page is at a fresh address, shown with a code to scan, until Ctrl-C. Readings are kept in timing.json.
    """
    from toolkit.device import report
    from toolkit.device.readings import Reading
    from toolkit.device.serve import PageServer, code_lines

    enough = threading.Event()

    def told(folder: Path, reading: Reading) -> None:
        print_message(f"{folder}: {report.sentence(reading)}")
        if count and len(server.inbox.readings) >= count:
            enough.set()

    with PageServer(folders, lan, tls, port, picture, told=told) as server:
        print_message(f"{code_lines(server.address)}\n{server.address}\n{server.note} Ctrl-C ends it.")
        try:
            while not enough.wait(1):
                pass
        except KeyboardInterrupt:
            if exit_code() != 130:  # SIGTERM is no person's wish to end
                raise
    entries = server.inbox.readings
    records = [report.record(*entry) for entry in entries]
    print_answer(
        {"readings": records}, as_json, table_of_columns(report.table(entries)) if entries else "no readings"
    )


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
    """Timing tables, by reading and by engine; with --output plots of stages, scores and heat."""
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
    columns, engines = report.table(entries, scores), report.table_of_engines(entries, scores)
    print_answer({"readings": records, "engines": engines}, as_json, table_of_columns(columns))
    if not as_json:
        print_answer({}, False, table_of_columns(engines))
