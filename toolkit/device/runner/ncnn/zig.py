"""zig as a C and C++ compiler that takes the options of others: `python zig.py c++ ...`."""

import os
import subprocess
import sys
from pathlib import Path

import ziglang

REFUSED = ("-mfpu", "-mno-outline-atomics")
FEATURES = {"fp16": "fullfp16"}  # names that zig has others for


def translate(word: str) -> list[str]:
    """-march=armv8.2-a+fp16, of which zig knows no part, as the same processor in its own words."""
    if word.startswith(REFUSED):
        return []
    if not word.startswith("-march=armv"):
        return [word]
    version, *features = word.removeprefix("-march=armv").split("+")
    level = "v" + version.removesuffix("-a").replace(".", "_") + "a"
    return ["-mcpu=" + "+".join(["generic", level, *(FEATURES.get(name, name) for name in features)])]


if __name__ == "__main__":
    zig = Path(ziglang.__file__).parent / ("zig.exe" if os.name == "nt" else "zig")
    words = [part for word in sys.argv[1:] for part in translate(word)]
    sys.exit(subprocess.run([zig, *words]).returncode)
