"""Call the functions that come in on standard input, in Triton's interpreter; run as a script by `conftest`.

A process of its own: the interpreter replaces parts of Triton, which a process that has imported Triton cannot undo.
"""

import os
import pickle
import sys
from typing import Any

import numpy as np
import torch


def teach_bfloat16() -> None:
    """Round bfloat16 to nearest and multiply its numbers: the interpreter cuts off and multiplies bit patterns."""
    from triton import language as tl
    from triton.runtime import interpreter

    builder = interpreter.interpreter_builder
    cast, dot = builder.cast_impl, builder.create_dot

    def cast_to_nearest(source: Any, target: Any) -> Any:
        if target.scalar != tl.bfloat16 or source.dtype.scalar != tl.float32:
            return cast(source, target)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16().view(torch.int16)
        return interpreter.TensorHandle(rounded.numpy().view(np.uint16), tl.bfloat16)

    def dot_of_numbers(left: Any, right: Any, *others: Any) -> Any:
        if left.dtype.scalar == tl.bfloat16:
            left, right = cast(left, tl.float32), cast(right, tl.float32)
        return dot(left, right, *others)

    builder.cast_impl, builder.create_dot = cast_to_nearest, dot_of_numbers


def main() -> None:
    teach_bfloat16()
    # What prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    # Deterministic torch fills fresh memory with NaN: a number that no kernel writes is seen.
    torch.use_deterministic_algorithms(True)
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = function(*arguments)
        except Exception as error:
            answer = RuntimeError(repr(error)) if error.__class__.__module__ != "builtins" else error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
