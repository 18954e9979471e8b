"""One .tflite file in TensorFlow Lite Micro's own interpreter.

Runs in an environment with tflite-micro, without this project: python tflm.py MODEL.tflite ARENA CASE.npz
ANSWER.npz. ARENA is the size of the arena in bytes; CASE.npz has `x`, inputs (N, 1, h, w, channels) in whole
numbers; ANSWER.npz gets outputs `0`, `1`, ... (N, ...) in the order of the file. On stderr TFLM says what it
took of the arena. `python -m tests.benchmarks.micro` makes the environment and calls it.
"""

import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime


def main(model, arena, case, answer):
    interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena))
    outputs = []
    with np.load(case) as arrays:
        inputs, count = arrays["x"], int(arrays["outputs"])
    for x in inputs:
        interpreter.set_input(x, 0)
        interpreter.invoke()
        outputs.append([interpreter.get_output(i) for i in range(count)])
    interpreter.print_allocations()
    np.savez(answer, **{str(i): np.stack(maps) for i, maps in enumerate(zip(*outputs, strict=True))})


if __name__ == "__main__":
    main(*sys.argv[1:])
