import ast
import re

import pytest

from .layering import part_of
from .source import DOCS, module_name, parse, python_files, table_rows
from .vocabulary import banned_words, holds, synonyms

GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
BANNED = banned_words(GLOSSARY)


def says_importance(code: str) -> bool:
    """Return whether a text uses the word outside its one phrase and outside the titles of papers."""
    own = re.sub(r"Source:\n.*?(\n\n|\"\"\")", "", code, flags=re.DOTALL)
    return bool(re.search(r"importance(?! pruning)", own, re.IGNORECASE))


def test_no_name_in_the_code_is_a_synonym() -> None:
    faults = [
        f"{module_name(path)} {fault}"
        for path in python_files()
        for fault in synonyms(parse(path), part_of(module_name(path)), BANNED)
    ]

    assert faults == []


def test_importance_is_said_of_importance_pruning_alone() -> None:
    faults = [path.name for path in python_files() if says_importance(path.read_text(encoding="utf-8"))]

    assert faults == []
    assert says_importance('"""Weights of little importance go."""')
    assert not says_importance(
        '"""Importance pruning.\n\n    Source:\n        Molchanov. Importance Estimation.\n    """'
    )


def test_both_tables_are_sorted_and_say_each_word_once() -> None:
    banned = [entry.word for entry in BANNED]
    words = [row[0].strip("`").lower() for row in table_rows(GLOSSARY, "## Words")]

    assert len(banned) > 30
    assert banned == sorted(set(banned))
    assert words == sorted(set(words))


def test_no_word_of_the_glossary_is_banned() -> None:
    words = [word.strip(" `") for row in table_rows(GLOSSARY, "## Words") for word in row[0].split(",")]

    assert [word for word in words for entry in BANNED if holds(word, entry.word)] == ["importance pruning"]


@pytest.mark.parametrize(
    "code",
    [
        "prune_rate = 0.1",
        "def f(keep_ratio): ...",
        "def f(*, final_prune_rates=()): ...",
        "def layer_nnz(): ...",
        "class Layer:\n    nnz: int",
        "class ConnectivityMap: ...",
        "class LayerNNZ: ...",
        "self.num_iterations = 3",
        "for iteration in range(3): ...",
        "with f() as saliency: ...",
        "from torch import nn as sparsity_ratio",
        "x = [amount for amount in y]",
        "if (death_rate := 1): ...",
        "epochs = 3",
    ],
)
def test_a_planted_synonym_is_found(code: str) -> None:
    assert len(synonyms(ast.parse(code), "criteria", BANNED)) == 1


@pytest.mark.parametrize(
    "code",
    ["drop_fraction = 0.1", "x = other.nnz", "f(amount=3)", "def f(sparsity, update_every): ...", "accounting = 1"],
)
def test_good_names_and_the_names_of_others_pass(code: str) -> None:
    assert synonyms(ast.parse(code), "criteria", BANNED) == []


def test_a_word_is_allowed_only_where_the_glossary_says_so() -> None:
    tree = ast.parse("epochs = 3")

    assert synonyms(tree, "training", BANNED) == []
    assert synonyms(tree, "updates", BANNED) == ["line 1: epochs: not epoch but step"]
