"""Where the kernels run in these tests: on the GPU where there is one, else in Triton's interpreter on the CPU."""

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

Call = Callable[..., tuple[Tensor, ...]]


@pytest.fixture(scope="session", autouse=True)
def _triton() -> None:
    """On Linux Triton belongs to the development environment: there its absence is a failure."""
    if sys.platform != "linux" and importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is made for Linux")


@pytest.fixture(scope="session")
def call(_triton: None) -> Iterator[Call]:
    """Call a function of `gpu_ops` or `gpu_block_ops`; its results as a tuple, on the CPU."""
    if torch.cuda.is_available():
        yield _on_gpu
        return
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
        questions, answers = server.stdin, server.stdout
        assert questions is not None
        assert answers is not None

        def interpreted(function: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
            pickle.dump((function, arguments), questions)
            questions.flush()
            answer = pickle.load(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, tuple) else (answer,)

        yield interpreted
        questions.close()


def _on_gpu(function: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
    result = function(*(part.cuda() if isinstance(part, Tensor) else part for part in arguments))
    return tuple(part.cpu() for part in (result if isinstance(result, tuple) else (result,)))
