from pathlib import Path

import pytest
import torch

from gossamer.training import set_up
from gossamer.training.build import Setup
from gossamer.training.checkpoint import load_checkpoint, save_checkpoint

from .small import config, digits

DATA = digits()


def trained(**changes: object) -> Setup:
    """A run of which one optimizer step is done."""
    setup = set_up(config(**changes), DATA)
    torch.nn.functional.cross_entropy(setup.model(DATA.train_inputs), DATA.train_targets).backward()
    setup.optimizer.step()
    if setup.sparsifier:
        setup.sparsifier.step()
    return setup


@pytest.mark.parametrize("storage", ["masked", "sparse"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_is_saved_is_loaded(tmp_path: Path, storage: str, optimizer: str) -> None:
    saved = trained(storage=storage, optimizer=optimizer, update_every=1)
    torch.manual_seed(5)
    save_checkpoint(tmp_path, saved, {"step": 1})
    expected = torch.rand(3)

    fresh = set_up(config(storage=storage, optimizer=optimizer, update_every=1, seed=1), DATA)
    progress = load_checkpoint(tmp_path, fresh)

    assert progress == {"step": 1}
    assert torch.equal(torch.rand(3), expected)
    assert saved.sparsifier
    assert fresh.sparsifier
    assert fresh.sparsifier.num_steps == 1
    for mine, theirs in zip(saved.sparsifier.weights, fresh.sparsifier.weights, strict=True):
        assert torch.equal(mine.indices(), theirs.indices())
        assert torch.equal(mine.values(), theirs.values())


def test_only_whole_files_have_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, trained(), {"step": 1})

    def fail(state: object, file: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, trained(), {"step": 2})

    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert load_checkpoint(tmp_path, trained())["step"] == 1


@pytest.mark.parametrize("content", [[], {}, {"progress": 3}, {"progress": {}, "model": 7}, torch.zeros(2), "text"])
def test_a_foreign_file_of_torch_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")

    with pytest.raises(ValueError, match=r"checkpoint\.pt is a checkpoint of another model"):
        load_checkpoint(tmp_path, trained())


@pytest.mark.parametrize("missing", ["model", "optimizer", "sparsifier", "rng", "progress"])
def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    save_checkpoint(tmp_path, trained(), {"step": 1})
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state[missing]
    torch.save(state, tmp_path / "checkpoint.pt")

    with pytest.raises(ValueError, match=f"another model .*'{missing}'"):
        load_checkpoint(tmp_path, trained())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_cut_file_is_damaged(tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path, trained(), {"step": 1})
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged; delete it"):
        load_checkpoint(tmp_path, trained())


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "sprung"),))

    torch.save({"progress": Trap()}, tmp_path / "checkpoint.pt")

    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(tmp_path, trained())
    assert not (tmp_path / "sprung").exists()
