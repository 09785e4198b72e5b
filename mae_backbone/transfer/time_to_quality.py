"""Time to quality: fraction of a reference's training time after which an encoder reaches its final metric."""
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mae_backbone.transfer.results import CellResult

Points = Sequence[Sequence[float]]  # [iteration, minutes, percent] for each validation
_Group = tuple[str, str, str, float]  # task, data, metric, labels


class TimeToQuality(NamedTuple):
    """Training time after which an encoder reaches the final metric of a reference.

    Attributes:
        task, data, metric, labels: the comparison.
        model, reference: names of the encoders.
        fractions: for each common seed, the minutes after which the encoder reaches the metric, divided by the minutes
            of the whole training of the reference; None if the encoder never reaches it.
        final: mean of the final metric of the reference, in percent.
        minutes: mean minutes of the reference.
    """

    task: str
    data: str
    metric: str
    labels: float
    model: str
    reference: str
    fractions: list[float | None]
    final: float
    minutes: float


def times_to_quality(results: Sequence[CellResult], pairs: Sequence[tuple[str, str]]) -> list[TimeToQuality]:
    """Returns the time to quality for each pair (encoder, reference) and each training with several validations.

    CPU time and wall-clock time are not compared, which an experiment has if it continued on another kind of machine.
    """
    found = []
    clocks = dict.fromkeys(result.clock for result in results)
    groups = [curves_of([result for result in results if result.clock == clock]) for clock in clocks]
    for key, models in (item for group in groups for item in group.items()):
        for model, reference in pairs:
            curves, baseline = models.get(model, {}), models.get(reference, {})
            seeds = [seed for seed in sorted(curves.keys() & baseline.keys()) if len(curves[seed]) > 1]
            if seeds:
                found.append(TimeToQuality(
                    *key, model, reference, [fraction_of_time(curves[seed], baseline[seed]) for seed in seeds],
                    float(np.mean([baseline[seed][-1][2] for seed in seeds])),
                    float(np.mean([baseline[seed][-1][1] for seed in seeds]))))
    return found


def curves_of(results: Sequence[CellResult]) -> dict[_Group, dict[str, dict[int, Points]]]:
    """Returns the curves of trainings by task, data set, metric and labels, then by encoder and seed."""
    groups: dict[_Group, dict[str, dict[int, Points]]] = {}
    for result in results:
        for metric, points in result.curves.items():
            if points:
                group = groups.setdefault((result.task, result.data, metric, result.labels), {})
                group.setdefault(result.model, {})[result.seed] = points
    return groups


def fraction_of_time(encoder: Points, reference: Points) -> float | None:
    """Returns the time to quality as a fraction of the training time of the reference.

    It is the time of the first validation of `encoder` that reaches the last value of `reference`, divided by the time
    of the last validation of `reference`. Values between validations are not interpolated, so that the fraction is an
    upper bound. Returns None if no validation reaches the value.
    """
    _, total, final = reference[-1]
    reached = next((minutes for _, minutes, value in encoder if value >= final), None)
    return None if reached is None or total <= 0 else reached / total


def mean_curve(by_seed: Mapping[int, Points]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Averages curves over seeds.

    Returns:
        Mean minutes, mean metric, and standard deviation of the metric (0 for one seed), each of shape (N,). N is the
        number of validations that all seeds have.
    """
    length = min(map(len, by_seed.values()))
    stacked = np.array([points[:length] for points in by_seed.values()], dtype=float)  # (seeds, validations, 3)
    deviation = stacked[..., 2].std(axis=0, ddof=1) if len(stacked) > 1 else np.zeros(length)
    return stacked[..., 1].mean(axis=0), stacked[..., 2].mean(axis=0), deviation


def format_time(found: TimeToQuality) -> str:
    """Formats a time to quality, such as 'after 31 % (27 to 40) of the time, 3 of 3 seeds'."""
    reached = [fraction for fraction in found.fractions if fraction is not None]
    seeds = f'{len(reached)} of {len(found.fractions)} seeds'
    if not reached:
        return f'not reached, {seeds}'
    spread = f' ({min(reached) * 100:.0f} to {max(reached) * 100:.0f})' if len(reached) > 1 else ''
    return f'after {np.mean(reached) * 100:.0f} %{spread} of the time, {seeds}'


def sentences(times: Sequence[TimeToQuality]) -> list[str]:
    """Returns a sentence for each comparison whose seeds all reach the final metric of the reference sooner."""
    texts = []
    for found in times:
        fractions = [fraction for fraction in found.fractions if fraction is not None]
        if len(fractions) == len(found.fractions) and max(fractions) < 1:
            reference = 'random weights' if found.reference == 'random' else found.reference
            texts.append(f'{found.task} on {found.data}, {found.labels * 100:.3g} % of the labels: {found.model} '
                         f'reaches the final {found.metric} of {reference}, {found.final:.1f}, '
                         f'after {np.mean(fractions) * 100:.0f} % of its {found.minutes:.1f} minutes.')
    return texts
