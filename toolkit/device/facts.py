"""What a device says about itself: processor, cores, governor, temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.device.answers import whole_number
from toolkit.device.connect import Device
from toolkit.runtime import InputError
from toolkit.text import one_line

_ASK = r"""
echo "machine=$(uname -m)"; echo "kernel=$(uname -sr)"; echo "shell=$(readlink /proc/$$/exe)"
for key in ro.product.manufacturer ro.product.model ro.build.version.release ro.product.cpu.abilist \
    ro.soc.model ro.kernel.qemu ro.boot.qemu; do echo "$key=$(getprop $key 2>/dev/null)"; done
echo "board=$(cat /proc/device-tree/model 2>/dev/null | tr -d '\000')"
echo "os=$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
echo "cpu=$(grep -m1 -i -E '^(model name|hardware)' /proc/cpuinfo | cut -d: -f2-)"
echo "implementer=$(grep -m1 -i '^CPU implementer' /proc/cpuinfo | cut -d: -f2-)"
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    echo "core=1"; f=$cpu/cpufreq
    echo "max_khz=$(cat $f/cpuinfo_max_freq 2>/dev/null)"; echo "khz=$(cat $f/scaling_cur_freq 2>/dev/null)"
    echo "governor=$(cat $f/scaling_governor 2>/dev/null)"
done
for zone in /sys/class/thermal/thermal_zone*; do
    echo "zone=$(cat $zone/type 2>/dev/null) $(cat $zone/temp 2>/dev/null)"
done
echo "stat=$(head -n 1 /proc/stat 2>/dev/null)"; sleep 0.3; echo "stat=$(head -n 1 /proc/stat 2>/dev/null)"
echo "free_kb=$(df -kP . 2>/dev/null | tail -n 1 | tr -s ' ' | cut -d' ' -f4)"
"""

LINES = 10_000  # of an answer that are looked at; a server with 500 cores gives 2,000
_ABIS = {
    "aarch64": "arm64-v8a", "arm64": "arm64-v8a", "armv8l": "armeabi-v7a", "armv7l": "armeabi-v7a",
    "x86_64": "x86_64",
}  # fmt: skip


def ask_device(device: Device) -> dict[str, list[str]]:
    answer: dict[str, list[str]] = {}
    for line in device.run(_ASK, 60).stdout.splitlines()[:LINES]:
        key, _, value = line.partition("=")
        if value := one_line(value, 200):
            answer.setdefault(key, []).append(value)
    return answer


def device_state(answer: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What changes while a device works: governor, frequencies, temperatures, and the part of the time of all
    cores that is taken, where it lets them be read."""
    zones = [zone.rpartition(" ") for zone in answer.get("zone", ())]
    readings = {name: whole_number(value) for name, _, value in zones}
    temperatures = {name: value for name, value in readings.items() if value is not None}
    return {
        "governor": sorted(set(answer.get("governor", ()))),
        "khz": _numbers(answer, "khz"),
        # the kernel's unit is a thousandth of a degree; some vendors give degrees
        "celsius": {name: v / 1000 if abs(v) > 1000 else float(v) for name, v in temperatures.items()},
        "busy": _busy(answer.get("stat", ())),
    }


def _busy(lines: Sequence[str]) -> float | None:
    """0..1 from two readings of the line "cpu" of /proc/stat; None where there are none."""
    counts = [[whole_number(word) for word in line.split()[1:9]] for line in lines]
    if len(counts) != 2 or any(None in row or len(row) < 5 for row in counts):
        return None
    spent = [(after or 0) - (before or 0) for before, after in zip(*counts, strict=False)]
    idle, total = spent[3] + spent[4], sum(spent)  # idle, and waiting for a disk
    return round(1 - idle / total, 3) if total > 0 else None


def _numbers(answer: Mapping[str, Sequence[str]], key: str) -> list[int]:
    return [number for text in answer.get(key, ()) if (number := whole_number(text)) is not None]


def device_facts(device: Device) -> dict[str, Any]:
    """What a device says of itself: model, system, ABI of the runner it takes, processor, cores. Raises
    InputError where no runner exists for it."""
    answer = ask_device(device)

    def one(key: str) -> str:
        return answer.get(key, [""])[0]

    machine, kernel = one("machine"), one("kernel")
    offered = [abi for abi in one("ro.product.cpu.abilist").split(",") if abi in _ABIS.values()]
    abi = offered[0] if offered else _ABIS.get(machine)
    if abi is None or not kernel.startswith("Linux"):
        raise InputError(
            f"{device.name} is a {kernel or 'machine without uname'} on {machine or 'an unknown processor'}: "
            "there are runners for Linux and Android on arm64, armv7 and x86_64"
        )
    kind = device.name.partition(":")[0]
    phone = " ".join(
        dict.fromkeys(answer.get("ro.product.manufacturer", []) + answer.get("ro.product.model", []))
    )
    cpu = one("ro.soc.model") or one("cpu") or machine
    android = one("ro.build.version.release")
    return {
        "address": device.name,
        "kind": kind,
        "model": phone or one("board") or f"{cpu} ({device.name})",
        "system": f"Android {android}" if android else one("os") or kernel,
        "abi": abi,
        "cpu": cpu,
        "cores": len(answer.get("core", ())) or 1,
        "max_khz": _numbers(answer, "max_khz"),
        "emulated": _emulated(answer, abi),
        "free_kb": whole_number(one("free_kb")),
    }


def _emulated(answer: Mapping[str, Sequence[str]], abi: str) -> bool:
    """Whether the processor is imitated by software: Android's emulators say so; a shell under qemu's user
    mode is qemu's process; ARM code on another processor (qemu's user mode, native bridges) finds no
    implementer in /proc/cpuinfo, or qemu's own, 0."""
    if "1" in (*answer.get("ro.kernel.qemu", ()), *answer.get("ro.boot.qemu", ())):
        return True
    if any("qemu" in shell for shell in answer.get("shell", ())):
        return True
    return abi != "x86_64" and answer.get("implementer", ["0x00"])[0] == "0x00"
