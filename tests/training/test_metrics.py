import errno
import json
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from gossamer.nn import SparseLinear, to_sparse
from gossamer.training.metrics import Diary, describe_layers, last_event, training_bytes


def test_a_diary_is_one_object_a_line(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.write("start", {"a": 1})
    diary.write("end", {"b": [1.5, None]})
    diary.sync()

    assert (
        tmp_path / "metrics.jsonl"
    ).read_text() == '{"event": "start", "a": 1}\n{"event": "end", "b": [1.5, null]}\n'
    assert diary.size == (tmp_path / "metrics.jsonl").stat().st_size


def test_what_came_after_the_checkpoint_goes(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.write("start", {})
    size = diary.size
    diary.write("evaluation", {})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "half')

    assert Diary(tmp_path, size=size).size == size
    assert Diary(tmp_path).size == 0


def test_a_file_shorter_than_at_the_checkpoint_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")

    with pytest.raises(ValueError, match="has 3 bytes, at the checkpoint it had 10; bring the file back"):
        Diary(tmp_path, size=10)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_of_a_line_that_found_no_space_nothing_stays(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.write("start", {})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            diary.write("evaluation", {"test_loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "metrics.jsonl"))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    diary.write("evaluation", {})
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("tail", [b"", b'{"event": "end", "where": {"a": 1}', b"\xff\xfe", b"[]\n", b"3\n", b"\n\n"])
def test_the_last_whole_event_is_found(tmp_path: Path, tail: bytes) -> None:
    lines = [{"event": "end", "a": 1}, {"event": "end", "a": 2}, {"event": "evaluation"}]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (tmp_path / "metrics.jsonl").write_bytes(text + tail)

    assert last_event(tmp_path, "end") == {"event": "end", "a": 2}
    assert last_event(tmp_path, "start") is None


def test_no_file_has_no_event(tmp_path: Path) -> None:
    assert last_event(tmp_path, "end") is None


def test_layers_are_described_by_what_exists() -> None:
    linear = nn.Linear(3, 2)
    linear.weight.data = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    model = nn.Sequential(SparseLinear.from_dense(linear), nn.ReLU(), linear, nn.Conv1d(1, 2, 3))

    sparse, dense, convolution = describe_layers(model)

    degrees = {"in_degrees": [[1, 1], [2, 1]], "out_degrees": [[0, 1], [1, 1], [2, 1]]}
    assert {key: sparse[key] for key in degrees} == {key: dense[key] for key in degrees} == degrees
    assert (sparse["name"], sparse["shape"], sparse["num_active"]) == ("0", [2, 3], 3)
    assert sparse["bytes"] == 4 * (3 + 2 + 3 + 3 + 4)  # values, bias, rows, columns of the weights, columns
    assert dense["bytes"] == 6 * 4 + 2 * 4
    assert (convolution["shape"], convolution["num_active"]) == ([2, 1, 3], 6)


def test_training_holds_parameters_gradients_state_buffers_and_masks() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    masks = [torch.ones(3, 4, dtype=torch.bool)]

    parameters, buffers = (12 + 3 + 3 + 3) * 4, (3 + 3) * 4 + 8
    assert training_bytes(model, optimizer, masks) == 3 * parameters + buffers + 12


def test_truly_sparse_convolutions_and_recurrent_layers_are_described_with_their_degrees() -> None:
    conv = nn.Conv2d(2, 3, (1, 2))
    conv.weight.data[0] = 0
    conv.weight.data[:, 1, 0, 1] = 0
    rnn = nn.RNN(2, 2)
    rnn.get_parameter("weight_hh_l0").data[0] = 0

    layers = describe_layers(nn.Sequential(to_sparse(conv), nn.Sequential(rnn, to_sparse(rnn))))

    assert [layer["name"] for layer in layers] == ["0", "1.1.input_0", "1.1.hidden_0"]
    assert (layers[0]["shape"], layers[0]["num_active"]) == ([3, 2, 1, 2], 6)
    assert layers[0]["in_degrees"] == [[0, 1], [3, 2]]
    assert layers[0]["out_degrees"] == [[0, 1], [2, 3]]
    assert layers[2]["in_degrees"] == [[0, 1], [2, 1]]
