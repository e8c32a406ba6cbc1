"""All charts of a page, in reading order."""

from collections.abc import Sequence

from gossamer.report.accuracy import accuracy_against_weights, accuracy_over_time
from gossamer.report.cost import topology_updates, where_time_went
from gossamer.report.degrees import degree_distributions
from gossamer.report.density import layer_densities
from gossamer.report.figures import Chart, styles
from gossamer.report.summary import Summary


def charts(summaries: Sequence[Summary]) -> list[Chart]:
    """Make the charts that the runs have data for.

    Args:
        summaries: all methods of the page.

    Returns:
        The charts; a chart without data is left out.
    """
    looks = styles(summaries)
    made = [
        accuracy_over_time(summaries, looks),
        accuracy_against_weights(summaries, looks),
        layer_densities(summaries, looks),
        where_time_went(summaries, looks),
        degree_distributions(summaries, looks),
        topology_updates(summaries, looks),
    ]
    return [chart for chart in made if chart is not None]
