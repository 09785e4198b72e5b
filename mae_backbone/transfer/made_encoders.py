"""Encoders that a suite has trained: their recipes, minutes of training, and results over these minutes."""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.recipe import with_starts
from mae_backbone.transfer.results import Row


class MadeEncoder(NamedTuple):
    """An encoder that a suite has trained.

    Attributes:
        key: key of the encoder in `Suite.encoders`.
        name: name of the encoder in the table.
        line: name of the curve that the encoder is a point of; None if it is not in a curve.
        data: names of the data sets on which it is evaluated.
        recipe: description of the training.
        size: width and depth, such as '128 x 6'.
        minutes: minutes of training, including the training of the encoders that it starts from.
        loss: last logged loss.
    """

    key: str
    name: str
    line: str | None
    data: tuple[str, ...]
    recipe: str
    size: str
    minutes: float
    loss: float


def made_encoders(experiment: Experiment) -> list[MadeEncoder]:
    """Returns the encoders of the experiment whose training by the suite is finished."""
    entries = experiment.suite.encoders
    wanted = [encoder.key for encoder in experiment.encoders if encoder.recipe]
    found = []
    for key in dict.fromkeys(map(experiment.made.same_as, with_starts(wanted, entries))):
        results = [experiment_dir.read_result(experiment.made.folder(step)) for step in with_starts([key], entries)]
        if any(result is None for result in results):
            continue
        finished = [result for result in results if result is not None]
        recipe, shape = experiment.made.recipe(key), experiment.made.architecture(key)
        spec = experiment.made.spec(key)
        words = [f'{recipe.command} {recipe.config} on {recipe.data}', *spec.get('length', []),
                 *(f'{name}={value}' for name, value in recipe.options.items())]
        if recipe.start:
            words.append(f'from {recipe.start}')
        minutes = sum(map(_minutes, finished))
        found.append(MadeEncoder(
            key, entries[key].name, entries[key].line, _data_of(key, experiment), ' '.join(words),
            f'{shape["width"]} x {shape["depth"]}', minutes, finished[-1]['values']['loss']))
    return found


def _minutes(result: Mapping[str, Any]) -> float:
    """Minutes of a training: CPU time, or wall-clock time with a GPU, because CPU time does not include its work."""
    has_gpu = 'GPUs' in result.get('environment', {}).get('hardware', {})
    return float(result.get('minutes' if has_gpu else 'cpu_minutes', result['seconds'] / 60))


def _data_of(key: str, experiment: Experiment) -> tuple[str, ...]:
    """Data sets on which an encoder is evaluated. Includes those of other keys with the same recipe."""
    return tuple(data for encoder in experiment.encoders
                 if encoder.recipe and experiment.made.same_as(encoder.key) == key
                 for data in experiment.suite.data if encoder.is_for(data))


def encoder_table(encoders: Sequence[MadeEncoder]) -> tuple[list[str], list[list[str]]]:
    """Returns the column titles and the rows of a table of the encoders."""
    head = ['encoder', 'made by', 'width x depth', 'minutes', 'last loss']
    return head, [[encoder.key, encoder.recipe, encoder.size, f'{encoder.minutes:.1f}', f'{encoder.loss:.3f}']
                  for encoder in encoders]


def lines_over_time(rows: Sequence[Row], encoders: Sequence[MadeEncoder]
                    ) -> Iterator[tuple[tuple[str, str, str], float, Mapping[str, Mapping[float, Row]]]]:
    """Yields the curves of results over the minutes of pretraining.

    Each item is (task, data set, metric), the fraction of the labels, and the curves by name (`Entry.line`), each a
    dict from minutes to a row of the table. Curves with a single point are excluded.
    """
    groups: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.data, row.metric, row.labels), []).append(row)
    for (task, data, metric, labels), group in groups.items():
        lines: dict[str, dict[float, Row]] = {}
        for encoder in encoders:
            for row in group:
                if encoder.line and row.model == encoder.name and data in encoder.data:
                    lines.setdefault(encoder.line, {})[encoder.minutes] = row
        lines = {name: points for name, points in lines.items() if len(points) > 1}
        if lines:
            yield (task, data, metric), labels, lines
