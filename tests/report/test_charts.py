import random
from pathlib import Path
from typing import Any

import pytest

from gossamer.report import read_runs
from gossamer.report.accuracy import accuracy_against_weights, accuracy_over_time
from gossamer.report.charts import charts
from gossamer.report.cost import time_parts, topology_updates, where_time_went
from gossamer.report.degrees import binned, degree_distributions, most_connected
from gossamer.report.density import layer_densities
from gossamer.report.figures import DENSE_COLOUR, METHOD_COLOURS, plain, styles
from gossamer.report.summary import Summary, summarise

from .fake import end, evaluation, layers, run_events, start, write_comparison, write_run


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> list[Summary]:
    return summarise(read_runs(write_comparison(tmp_path_factory.mktemp("runs"))))


def colours(trace: dict[str, Any]) -> set[str]:
    return {trace.get(part, {}).get("color", "") for part in ("line", "marker")}


def test_a_full_comparison_has_every_chart(summaries: list[Summary]) -> None:
    keys = [chart.key for chart in charts(summaries)]

    assert keys == ["accuracy", "weights", "density", "time", "degrees", "updates"]


def test_a_bare_run_has_no_empty_charts(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set")])

    assert charts(summarise(read_runs(tmp_path))) == []


def test_a_method_has_one_colour_in_every_chart(summaries: list[Summary]) -> None:
    for chart in charts(summaries):
        if chart.key in ("accuracy", "weights", "updates"):
            traces = [trace for trace in chart.views[0].figure["data"] if trace.get("name") == "SET"]

            assert traces
            assert all(METHOD_COLOURS[1] in colours(trace) for trace in traces)


def test_more_methods_than_colours_still_look_different(tmp_path: Path) -> None:
    for number in range(20):
        write_run(tmp_path / "runs" / f"m{number}-seed0", [start(f"m{number}")])

    looks = styles(summarise(read_runs(tmp_path)))

    assert len({(style.colour, style.dash) for style in looks.values()}) == 20
    assert DENSE_COLOUR not in {style.colour for style in looks.values()}


def test_the_band_is_one_deviation_each_way(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.4, 0.6)):
        write_run(tmp_path / "runs" / f"set-seed{seed}", [start("set", seed), evaluation(10, accuracy)])
    summaries = summarise(read_runs(tmp_path))

    chart = accuracy_over_time(summaries, styles(summaries))

    assert chart is not None
    band, line = chart.views[0].figure["data"]
    assert list(band["y"]) == pytest.approx([0.5 + 0.02**0.5, 0.5 - 0.02**0.5])
    assert list(line["y"]) == pytest.approx([0.5])


def test_the_close_up_starts_just_below_the_plateau(summaries: list[Summary]) -> None:
    chart = accuracy_over_time(summaries, styles(summaries))

    assert chart is not None
    lowest, highest = chart.views[1].figure["layout"]["yaxis"]["range"]
    assert 0.5 < lowest < 0.95
    assert 0.98 < highest < 1.02


def test_one_method_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    write_run(tmp_path, run_events("set", 0))
    summaries = summarise(read_runs(tmp_path))

    assert accuracy_against_weights(summaries, styles(summaries)) is None


def test_densities_are_drawn_for_sparse_methods_only(summaries: list[Summary]) -> None:
    chart = layer_densities(summaries, styles(summaries))

    assert chart is not None
    names = [trace["name"] for trace in chart.views[0].figure["data"]]
    assert names[:2] == ["RigL before", "RigL after"]
    assert not any("Dense" in name for name in names)
    assert "from 5.0\u00a0% to 6.5\u00a0%" in chart.views[0].caption


def test_time_that_no_part_explains_is_other(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set"), {**end(0.9, 2.0, 0.05), "seconds": 10, "where": {"forward": 4.0}}])
    summaries = summarise(read_runs(tmp_path))

    assert time_parts(summaries[0]) == {"forward": 4.0, "other": 6.0}
    chart = where_time_went(summaries, styles(summaries))
    assert chart is not None
    assert "SET: other is 60\u00a0% of 10.0\u00a0s" in chart.views[0].caption


def test_dropped_weights_go_down_and_grown_ones_up(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set"), {"event": "update", "step": 5, "num_dropped": 4, "num_grown": 3}])
    summaries = summarise(read_runs(tmp_path))

    chart = topology_updates(summaries, styles(summaries))

    assert chart is not None
    assert [list(trace["y"]) for trace in chart.views[0].figure["data"]] == [[3.0], [-4.0]]


def test_each_sparse_layer_has_a_view_of_its_degrees(summaries: list[Summary]) -> None:
    chart = degree_distributions(summaries, styles(summaries))

    assert chart is not None
    assert len(chart.views) == 3 * 4
    assert [view.group for view in chart.views[:5]] == ["RigL (seed 0)"] * 4 + ["SET (seed 0)"]


def test_the_most_connected_neuron_is_told_with_its_past(tmp_path: Path) -> None:
    def layer(out_degrees: list[list[int]]) -> dict[str, object]:
        return {"name": "0", "shape": [9, 4], "num_active": 12, "out_degrees": out_degrees}

    events = [
        start("set"),
        {"event": "layers", "when": "before", "layers": [layer([[3, 4]])]},
        {"event": "layers", "when": "after", "layers": [layer([[1, 3], [9, 1]])]},
    ]
    write_run(tmp_path, events)
    (run,) = read_runs(tmp_path)

    assert most_connected("SET", run) == (
        "The most connected neuron of SET after training: an input of layer 0 with 9 active weights, "
        "3.00 times the mean of 3.00; before training the most was 3."
    )


def test_bins_keep_every_neuron() -> None:
    degrees = ((0, 2), (4, 1), (5, 3), (99, 1))

    assert binned(degrees, 1)[99] == 1
    assert sum(binned(degrees, 7).values()) == 7
    assert binned((), 3) == {}


def test_a_dense_layer_has_no_degrees_worth_a_chart(tmp_path: Path) -> None:
    write_run(tmp_path, [start("dense"), layers("before", 1.0, random.Random(0), hubs=False)])
    summaries = summarise(read_runs(tmp_path))

    assert degree_distributions(summaries, styles(summaries)) is None


def test_plotly_gets_text_and_no_markup() -> None:
    assert plain("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"
    assert len(plain("x" * 99)) == 40
