"""Say in plain words what came out, also where sparsity did not pay."""

from collections.abc import Sequence

from gossamer.report.summary import Spread, Summary, ratio
from gossamer.report.words import percent, saves, times

Scored = tuple[Summary, Spread]


def findings(summaries: Sequence[Summary]) -> list[str]:
    """Say what the most accurate sparse method reached and cost, and how the others fared.

    Args:
        summaries: all methods of the page.

    Returns:
        Plain text: the headline, then any further paragraphs.
    """
    scored = [(item, score) for item in summaries if (score := item.final_accuracy) is not None]
    others = [(item, score) for item, score in scored if not item.is_dense]
    sparse = [(item, score) for item, score in others if item.density is None or item.density < 1] or others
    dense = next(((item, score) for item, score in scored if item.is_dense), None)
    if not sparse:
        return [f"{_reached(*dense)}." if dense else "No run got as far as an evaluation."]
    best, score = max(sparse, key=lambda pair: pair[1].mean)
    if dense is None:
        return [f"{_reached(best, score)}.", "There is no dense run here to compare with."]
    said = [f"{_reached(best, score)}, {_against(score, *dense)}.", _costs(best, dense[0])]
    if len(sparse) > 1:
        said.append(f"{_counts(sparse, *dense)} {_fastest(sparse, best, dense[0])}".strip())
    if len(sparse) < len(others):
        said.append(" ".join(f"{_reached(*pair)}: it is not sparse." for pair in others if pair not in sparse))
    return [paragraph for paragraph in said if paragraph]


def _counts(sparse: Sequence[Scored], dense: Summary, dense_score: Spread) -> str:
    """Count how many of several sparse methods kept the accuracy and saved time and bytes."""
    close = sum(score.mean > dense_score.mean - 0.01 for _, score in sparse)
    faster = sum(saves(ratio(item.step_ms, dense.step_ms)) for item, _ in sparse)
    smaller = sum(saves(ratio(item.model_bytes, dense.model_bytes)) for item, _ in sparse)
    return (
        f"Of the {len(sparse)} sparse methods, {close or 'none'} ended less than one point below the dense "
        f"network or above it, {faster or 'none'} needed less time for a step, "
        f"and {smaller or 'none'} wrote a smaller model file."
    )


def _fastest(sparse: Sequence[Scored], best: Summary, dense: Summary) -> str:
    """Name the method with the shortest step, where it is not the one of the headline and saves time."""
    timed = [
        (value, item.label, score)
        for item, score in sparse
        if (value := ratio(item.step_ms, dense.step_ms)) is not None
    ]
    value, label, score = min(timed, default=(None, best.label, None))
    if value is None or score is None or label == best.label or not saves(value):
        return ""
    return f"{label} had the shortest step, {times(value)} the time of a dense one, and ended at {percent(score.mean)}."


def _reached(summary: Summary, score: Spread) -> str:
    name = "The dense network" if summary.is_dense else summary.label
    weights = ""
    if not summary.is_dense and summary.density is not None:
        weights = f" with {percent(summary.density)} of the weights"
    if summary.finished:
        return f"{name} ended at {percent(score.mean)}{weights}"
    step = max(run.last_step for run in summary.runs)
    return f"{name} did not finish; at step {step:,} it stood at {percent(score.mean)}{weights}"


def _against(score: Spread, dense: Summary, dense_score: Spread) -> str:
    """Compare two accuracies; a difference inside the spread over seeds is called that."""
    unfinished = "" if dense.finished else ", which did not finish"
    name = f"the dense network ({percent(dense_score.mean)}{unfinished})"
    gap = score.mean - dense_score.mean
    points = f"{100 * abs(gap):.1f}"
    if points == "0.0":
        return f"level with {name}"
    deviation = max(score.deviation or 0.0, dense_score.deviation or 0.0)
    within = ", a difference within the spread over seeds" if abs(gap) <= deviation else ""
    return f"{points} points {'above' if gap > 0 else 'below'} {name}{within}"


def _costs(ours: Summary, dense: Summary) -> str:
    step = ratio(ours.step_ms, dense.step_ms)
    file = ratio(ours.model_bytes, dense.model_bytes)
    sentences = []
    if step is not None:
        verdict = "" if saves(step) else ": it is not faster"
        sentences.append(f"A training step took {times(step)} the time of a dense one{verdict}.")
    if file is not None:
        verdict = "" if saves(file) else ": it is not smaller"
        sentences.append(f"The model file has {times(file)} the size of the dense one{verdict}.")
    return " ".join(sentences)
