import math
import re
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.training import Config, differences, read_config, write_config

from .small import config


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = config(optimizer="adamw", learning_rate=1e-3, seed=2**32 - 1, data="a b.csv")

    write_config(tmp_path / "config.toml", written, command="gossamer train")

    assert read_config(tmp_path / "config.toml") == written
    assert tomllib.loads((tmp_path / "config.toml").read_text())["command"] == "gossamer train"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("config") / "config.toml"

    write_config(path, config(data=text), command=text)

    assert read_config(path).data == text
    assert tomllib.loads(path.read_text(encoding="utf-8"))["command"] == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sparsity", 1.0),
        ("sparsity", -0.1),
        ("sparsity", math.nan),
        ("drop_fraction", 1.1),
        ("epochs", 0),
        ("batch_size", -1),
        ("epsilon", -1.0),
        ("epsilon", math.inf),
        ("weight_decay", math.nan),
        ("update_every", -1),
        ("train_size", -1),
        ("test_size", -1),
        ("seed", -1),
        ("seed", 2**32),
        ("momentum", 1.0),
        ("dropout", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("learning_rate", 1e39),
        ("weight_decay", 1e39),
        ("alpha", -1e39),
        ("update_until", 1.1),
        ("alpha", math.nan),
        ("storage", "dense"),
        ("optimizer", "SGD"),
        ("decay", ""),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_given(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name} .*got {re.escape(repr(value))}"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('method = "set"\nsparsness = 1', "unknown keys sparsness; allowed are alpha, batch_size"),
        ("sparsity = 0.9", "has no method"),
        ("method = 3", "method is 3; it must be a text"),
        ('method = "set"\nepochs = 2.0', "epochs is 2.0; it must be an integer"),
        ('method = "set"\nsparsity = true', "sparsity is True; it must be a number"),
        ('method = "set"\nsparsity = 2', r"config.toml: sparsity must lie in \[0, 1\), got 2"),
        ("method", "is no TOML"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "config.toml").write_text(text)

    with pytest.raises(ValueError, match=part) as caught:
        read_config(tmp_path / "config.toml")
    assert "config.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ValueError, match="is no TOML"):
        read_config(tmp_path / "config.toml")


def test_an_integer_serves_where_a_number_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('method = "set"\nsparsity = 0\n')

    assert read_config(tmp_path / "config.toml") == Config(method="set", sparsity=0.0)


def test_differences_are_the_fields_that_differ_and_both_values() -> None:
    assert differences(config(), config()) == {}
    assert differences(config(epochs=4, seed=1), config(seed=2)) == {"epochs": (4, 3), "seed": (1, 2)}


def test_every_field_but_the_method_has_a_default() -> None:
    assert asdict(Config(method="rigl"))["sparsity"] == 0.95
