import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .shell import (
    TINY,
    assert_same_run,
    evaluations,
    finish,
    good,
    gossamer,
    interrupt,
    listing,
    refused,
    spawn,
    wait_for,
)

# Everything that has a state: momentum or moments, dropout, a learning rate that falls, and an update every other step.
STATEFUL = ("--dropout", "0.3", "--decay", "cosine", "--update-every", "2")


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let Ctrl-C be pressed during the n-th step of the next command; 0: not at all."""

    def choose(number: int) -> None:
        @contextmanager
        def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
            steps = 0

            def should_stop() -> bool:
                nonlocal steps
                steps += 1
                return steps == number

            yield should_stop

        for command in ("train", "compare"):
            monkeypatch.setattr(sys.modules[f"gossamer.cli.{command}"], "stop_on_interrupt", stop_on_interrupt)

    return choose


def stopped(*words: str) -> None:
    code, out, err = gossamer(*words)
    assert (code, out) == (130, "")
    assert err.endswith("; the same command with --resume goes on\n")
    assert err.count("\n") == 1


# Fifteen steps, updates after steps 2, 4, 6, 8 and 10, epochs end with steps 5, 10 and 15.
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("method", ["set", "rigl"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    method: str, storage: str, optimizer: str, stop_after: Callable[[int], None]
) -> None:
    words = ["train", *TINY, *STATEFUL, "--method", method, "--storage", storage, "--optimizer", optimizer]
    words += ["--lr", "0.01"]
    good(*words, "--out", "whole")

    # Just before an update, just after one, in the middle of an epoch, at the end of one.
    for step in (3, 4, 7, 10):
        stop_after(step)
        stopped(*words, "--out", f"stopped{step}")
        stop_after(0)
        good(*words, "--out", f"stopped{step}", "--resume")
        assert_same_run(Path("whole"), Path(f"stopped{step}"))


@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("method", ["dense", "static", "gmp", "truly_sparse", "rigl"])
def test_a_run_stopped_after_every_step_equals_the_uninterrupted_one(
    method: str, storage: str, stop_after: Callable[[int], None]
) -> None:
    words = ["train", *TINY, *STATEFUL, "--epochs", "2", "--method", method, "--storage", storage]
    good(*words, "--out", "whole")

    stop_after(1)
    stopped(*words, "--out", "x")
    for _ in range(9):
        stopped(*words, "--out", "x", "--resume")
    good(*words, "--out", "x", "--resume")

    assert_same_run(Path("whole"), Path("x"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["snip", "dsd", "iht", "ac_dc", "dns", "dpf"])
def test_a_run_from_dense_stopped_at_its_turns_equals_the_uninterrupted_one(
    method: str, optimizer: str, stop_after: Callable[[int], None]
) -> None:
    words = ["train", *TINY, *STATEFUL, "--method", method, "--optimizer", optimizer, "--lr", "0.01"]
    good(*words, "--out", "whole")

    # In the middle of dense and of sparse phases, just before and after turns, and again and again.
    for number in (2, 1, 2, 1, 5):
        stop_after(number)
        stopped(*words, "--out", "x", *(["--resume"] if Path("x").exists() else []))
    stop_after(0)
    good(*words, "--out", "x", "--resume")

    assert_same_run(Path("whole"), Path("x"))


def test_a_stopped_run_says_where_it_stands_and_that_it_was_stopped(stop_after: Callable[[int], None]) -> None:
    stop_after(7)

    err = gossamer("train", *TINY, "--out", "x", "--seed", "4").err

    assert err == "gossamer: SET, seed 4 stopped after step 7 of 15; the same command with --resume goes on\n"
    last = json.loads(Path("x/metrics.jsonl").read_text().splitlines()[-1])
    assert last == {"event": "end", "status": "stopped", "note": "after step 7 of 15"}
    assert not Path("x/model.safetensors").exists()


def test_resuming_a_finished_run_prints_the_same_and_trains_nothing() -> None:
    first = good("train", *TINY, "--out", "x")
    first_json = good("train", *TINY, "--out", "x", "--resume", "--json").json
    before = {name: Path("x", name).stat().st_mtime_ns for name in listing(Path("x")) if name != "report.html"}

    assert good("train", *TINY, "--out", "x", "--resume").out == first.out
    assert good("train", *TINY, "--out", "x", "--resume", "--json").json == first_json
    assert {name: Path("x", name).stat().st_mtime_ns for name in before} == before


def test_a_comparison_goes_on_with_what_is_finished_in_the_middle_and_not_begun(
    stop_after: Callable[[int], None],
) -> None:
    words = ["compare", "--methods", "static,set,rigl", "--seeds", "2", *TINY, *STATEFUL]
    good(*words, "--out", "whole")
    stop_after(15 + 15 + 7)
    stopped(*words, "--out", "x")
    assert sorted(path.name for path in Path("x/runs").iterdir()) == ["rigl-seed0", "set-seed0", "static-seed0"]
    finished = Path("x/runs/static-seed0/model.safetensors").stat().st_mtime_ns

    stop_after(8 + 3)
    stopped(*words, "--out", "x", "--resume")
    stop_after(0)
    good(*words, "--out", "x", "--resume")

    assert Path("x/runs/static-seed0/model.safetensors").stat().st_mtime_ns == finished
    for run in Path("whole/runs").iterdir():
        assert_same_run(run, Path("x/runs", run.name))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--epochs", "4"], "--epochs 3, not 4"),
        (["--lr", "0.1"], "--lr 0.05, not 0.1"),
        (["--sparsity", "0.5"], "--sparsity 0.8, not 0.5"),
        (["--method", "rigl"], "--method 'set', not 'rigl'"),
        (["--model", "mlp:8x2", "--seed", "3"], "--model 'mlp:16x2', not 'mlp:8x2', --seed 0, not 3"),
        (["--train-size", "100"], "--train-size 200, not 100"),
        (["--update-every", "3"], "--update-every 0, not 3"),
    ],
)
def test_resuming_with_a_changed_option_names_it(
    words: list[str], part: str, stop_after: Callable[[int], None]
) -> None:
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    before = {name: Path("x", name).read_bytes() for name in listing(Path("x"))}

    assert part in refused("train", *TINY, "--out", "x", "--resume", *words)
    assert {name: Path("x", name).read_bytes() for name in listing(Path("x"))} == before


def test_options_that_do_not_belong_to_the_run_may_change(stop_after: Callable[[int], None]) -> None:
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    stop_after(0)

    good("train", *TINY, "--out", "x", "--resume", "--json")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sparsness = 0.9", "unknown keys sparsness; allowed are"),
        ('epochs = "many"', "epochs is 'many'; it must be an integer"),
        ("epochs = true", "epochs is True; it must be an integer"),
        ("seed = -3", "config.toml: seed must lie in"),
        ("what is this", "is no TOML"),
        ("\x00", "is no TOML"),
    ],
)
def test_a_broken_config_is_one_clear_line(text: str, part: str, stop_after: Callable[[int], None]) -> None:
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    lines = Path("x/config.toml").read_text().splitlines()
    kept = [line for line in lines if line.split(" ")[0] != text.split(" ")[0]]
    Path("x/config.toml").write_text("\n".join([*kept, text]))

    assert part in refused("train", *TINY, "--out", "x", "--resume")


@pytest.mark.parametrize("end", ['{"event": "evalu', '{"event": "layers", "layers": [{"name": "0"}', '{"a": "\xc3', ""])
def test_a_diary_that_ends_in_half_a_line_goes_on(end: str, stop_after: Callable[[int], None]) -> None:
    good("train", *TINY, *STATEFUL, "--out", "whole")
    stop_after(7)
    stopped("train", *TINY, *STATEFUL, "--out", "x")
    stop_after(0)
    with Path("x/metrics.jsonl").open("ab") as file:
        file.write(end.encode("latin-1"))

    good("train", *TINY, *STATEFUL, "--out", "x", "--resume")

    assert_same_run(Path("whole"), Path("x"))


def test_a_run_killed_before_its_first_checkpoint_begins_anew() -> None:
    good("train", *TINY, "--out", "whole")
    good("train", *TINY, "--out", "x")
    for name in ("checkpoint.pt", "model.safetensors"):
        Path("x", name).unlink()
    Path("x/metrics.jsonl").write_text('{"event": "sta')

    good("train", *TINY, "--out", "x", "--resume")

    assert_same_run(Path("whole"), Path("x"))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not really", b"\x80\x02]q\x00."])
def test_a_damaged_checkpoint_is_one_clear_line(damage: bytes, stop_after: Callable[[int], None]) -> None:
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    Path("x/checkpoint.pt").write_bytes(damage)

    line = refused("train", *TINY, "--out", "x", "--resume")

    assert line.startswith("x/checkpoint.pt is ")
    assert "damaged" in line or "of another model" in line


def test_a_cut_checkpoint_is_one_clear_line_and_deleting_it_helps(stop_after: Callable[[int], None]) -> None:
    good("train", *TINY, "--out", "whole")
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    stop_after(0)
    whole = Path("x/checkpoint.pt").read_bytes()
    for share in (0.1, 0.5, 0.99):
        Path("x/checkpoint.pt").write_bytes(whole[: int(share * len(whole))])
        assert "x/checkpoint.pt is damaged; delete it" in refused("train", *TINY, "--out", "x", "--resume")

    Path("x/checkpoint.pt").unlink()
    good("train", *TINY, "--out", "x", "--resume")
    assert_same_run(Path("whole"), Path("x"))


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "mlp:17x2"],
        ["--model", "mlp:16x3"],
        ["--storage", "masked"],
        ["--method", "dense"],
        ["--optimizer", "adamw"],
    ],
)
def test_a_checkpoint_of_another_model_is_refused(words: list[str], stop_after: Callable[[int], None]) -> None:
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    stop_after(3)
    stopped("train", *TINY, "--out", "other", *words)
    Path("x/checkpoint.pt").write_bytes(Path("other/checkpoint.pt").read_bytes())

    line = refused("train", *TINY, "--out", "x", "--resume")

    assert "x/checkpoint.pt is a checkpoint of another model" in line


def test_a_run_does_not_go_on_with_other_data(stop_after: Callable[[int], None]) -> None:
    Path("own.csv").write_text("1,2,0\n2,1,1\n" * 20)
    words = ["train", "--data", "own.csv", "--model", "mlp:8x2", "--sparsity", "0.5", "--epochs", "4", "--out", "x"]
    stop_after(2)
    stopped(*words)
    stop_after(0)
    Path("own.csv").write_text("1,2,0\n2,3,1\n" * 20)

    assert refused(*words, "--resume").startswith("x/checkpoint.pt is of other data")


def test_a_diary_that_lost_lines_is_not_filled_with_nothing(stop_after: Callable[[int], None]) -> None:
    stop_after(7)
    stopped("train", *TINY, "--out", "x")
    Path("x/metrics.jsonl").write_text("")

    assert "x/metrics.jsonl has 0 bytes, at the checkpoint it had" in refused("train", *TINY, "--out", "x", "--resume")


LONG = ("--method", "rigl", "--epochs", "40", "--batch-size", "10", *STATEFUL)


def test_ctrl_c_leaves_a_checkpoint_and_sigkill_a_whole_one(own_folder: Path) -> None:
    """Processes of their own: stopped in the middle of an epoch, killed at any moment."""
    words = ["train", *TINY, *LONG]
    good(*words, "--out", "whole")

    process = spawn(*words, "--out", "x")
    wait_for(lambda: evaluations(Path("x")) > 3, process)
    interrupt(process)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err.startswith("gossamer: RigL, seed 0 stopped after step ")
    assert err.endswith(" of 800; the same command with --resume goes on\n")
    assert not Path("x/.lock").exists()

    before = evaluations(Path("x"))
    process = spawn(*words, "--out", "x", "--resume")
    wait_for(lambda: evaluations(Path("x")) > before + 1, process)
    time.sleep(0.05 * random.Random(time.time_ns()).random())
    process.kill()
    assert finish(process).code == -9
    assert Path("x/.lock").exists()
    assert not Path("x/model.safetensors").exists()

    good(*words, "--out", "x", "--resume")
    assert_same_run(Path("whole"), Path("x"))
    assert listing(Path("x")) == listing(Path("whole"))


def test_a_second_ctrl_c_ends_at_once(own_folder: Path) -> None:
    Path("slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom torch import nn\n"
        "class Slow(nn.Linear):\n"
        "    def forward(self, inputs):\n"
        "        if Path('x/checkpoint.pt').exists():\n"
        "            Path('asleep').touch()\n"
        "            time.sleep(1000)\n"
        "        return super().forward(inputs)\n"
    )
    # One layer, masked: nothing here is compiled.
    process = spawn("train", *TINY, "--model", "slow:Slow", "--storage", "masked", "--out", "x")
    wait_for(Path("asleep").exists, process)
    interrupt(process)
    time.sleep(0.2)
    assert process.poll() is None
    interrupt(process)

    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err.startswith("gossamer: interrupted; ")
    assert err.count("\n") == 1
    assert not Path("x/.lock").exists()
