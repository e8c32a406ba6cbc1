import re
import signal

import pytest

from gossamer.cli.progress import stop_on_interrupt

from .shell import TINY, Screen, good, gossamer


def test_the_first_ctrl_c_is_kept_for_later_and_the_second_is_not() -> None:
    with stop_on_interrupt() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_being_terminated_is_as_ctrl_c_and_the_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    with stop_on_interrupt() as should_stop:
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_without_a_terminal_nothing_moves() -> None:
    result = good("compare", "--methods", "static,set", "--out", "x", *TINY)

    assert result.err == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.out)


@pytest.mark.parametrize("columns", ["50", "120"])
def test_on_a_terminal_a_bar_shows_the_steps(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")

    code, out, err = gossamer("train", "--out", "x", *TINY, stderr=Screen)

    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    assert code == 0
    assert "preparing" in plain
    assert re.search(r"SET, seed 0 .* 15/15 ", plain)
    assert "…" not in plain
    assert ("loss" in plain) == (columns == "120")
    assert "\x1b" not in out


def test_with_json_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    assert gossamer("train", "--out", "x", *TINY, "--json", stderr=Screen).err == ""
