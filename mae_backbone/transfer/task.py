"""Task of a transfer suite: a probe, a training or a peer, with its data sets, fractions of the labels and seeds."""
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

PROBES = ('knn', 'linear', 'attentive')
# Peers are models that are trained from scratch for comparison.
FOLDER_PEERS = ('resnet18',)  # read class folders, as probes do
TOP1 = 'top-1'  # name of the metric of these peers and of probes
CONFIG_PEERS = ('unet', 'mask-rcnn', 'faster-rcnn')  # read the data set of the config of `Task.compare_to`
PEERS = (*FOLDER_PEERS, *CONFIG_PEERS)
PEER_PACKAGES = {'unet': 'segmentation_models_pytorch'}  # packages that the installation does not include


@dataclass(frozen=True)
class Task:
    """A task of a suite: a probe of frozen features, a training with a config, or a peer.

    Exactly one of `probe`, `config` and `peer` is set.

    Attributes:
        name: name of the task. Results of the task are in the folder `cells/NAME` of the work directory.
        data: names of data sets of the suite.
        probe: one of `PROBES`.
        peer: one of `PEERS`: a common model that is trained from scratch, without an encoder, for comparison. The table
            shows this name in the column of the encoder.
        compare_to: for a peer, the name of a task. The results of the peer are in the rows of this task in the table. A
            peer in `CONFIG_PEERS` uses the data set and the metrics of this task.
        minutes: for a peer, the CPU minutes of its training (wall-clock minutes with a GPU).
        config: config of the training, as a path relative to `configs/`, or a dict with a config for each architecture
            by its name in `mae_backbone.core.vit.ARCHS`.
        metrics: dict from the name of a metric in the log of the training to its name in the table. Larger values must
            be better.
        scale: factor by which logged values are multiplied to get percent.
        options: arguments of the probe or the peer, or --cfg-options of the training.
        labels: fractions of the labels, in (0, 1].
        seeds: random seeds. A seed determines the selected labels, the order of the images and the initial weights.
        gpus: number of GPUs of a training. Each GPU has one process.
        amp: train in mixed precision, like `--amp`: on a GPU, or on a CPU with hardware for matrices in bfloat16.
        pictures: number of validation images with predictions in the report.
        length: length of a training in epochs or iterations, the unit that its config uses. None keeps the length of
            the config.
        data_task: for a peer, the task named by `compare_to`. `load_suite` sets it.

    Raises:
        ValueError: an attribute has a wrong type or value, or the attributes contradict each other.
    """

    name: str
    data: tuple[str, ...]
    probe: str | None = None
    config: str | dict[str, str] | None = None
    metrics: dict[str, str] = field(default_factory=lambda: {'accuracy/top1': TOP1})
    scale: float = 1.0
    options: dict[str, object] = field(default_factory=dict)
    labels: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0,)
    gpus: int = 1
    amp: bool = False
    pictures: int = 4
    length: int | None = None
    peer: str | None = None
    compare_to: str | None = None
    minutes: float | None = None
    data_task: 'Task | None' = None

    def __post_init__(self) -> None:
        name = f'task {self.name!r}'
        _check_numbers(name, 'labels', self.labels, (int, float), 'fractions such as [0.1, 1.0]')
        _check_numbers(name, 'seeds', self.seeds, (int,), 'integers such as [0, 1, 2]')
        self._check_types(name)
        if self.length is not None and (not isinstance(self.length, int) or self.length < 1 or self.probe):
            raise ValueError(f'{name} has length={self.length!r}: expected a number of epochs or iterations of a '
                             'training')
        self._check_peer(name)
        if self.peer is None and (self.probe is None) == (self.config is None):
            raise ValueError(f'{name} has probe={self.probe!r} and config={self.config!r}: set exactly one of them')
        if self.probe is not None and self.probe not in PROBES:
            raise ValueError(f'{name} has probe={self.probe!r}, expected one of {", ".join(PROBES)}')
        if not self.labels or not all(0 < fraction <= 1 for fraction in self.labels):
            raise ValueError(f'{name} has labels={self.labels}, expected fractions in (0, 1]')
        if not self.seeds or not self.data:
            raise ValueError(f'{name} has seeds={self.seeds} and data={self.data}: give at least one of each')
        if min(self.seeds) < 0:
            raise ValueError(f'{name} has seeds={self.seeds}: expected numbers from 0 on')

    def _check_types(self, name: str) -> None:
        """Raises ValueError for values that would fail after a training, or would hide one metric behind another."""
        metrics = self.metrics
        named = isinstance(metrics, dict) and all(isinstance(text, str) for text in [*metrics, *metrics.values()])
        for key, is_right, expected in (
                ('config', self.config is None or all(isinstance(path, str) for path in _paths(self.config)),
                 'a path, or a dict of paths'),
                ('metrics', named and 0 < len(set(metrics.values())) == len(metrics),
                 "a dict from names in the log to different names in the table, such as {'mIoU': 'mIoU'}"),
                ('metrics', named and not any(re.search('loss|error', name, re.IGNORECASE) for name in metrics),
                 'metrics of which larger values are better, as the report compares them'),
                ('options', isinstance(self.options, dict), "a dict such as {'train_cfg.max_iters': 200}"),
                ('scale', is_number(self.scale), 'a number such as 100.0'),
                ('gpus', isinstance(self.gpus, int) and self.gpus > 0, 'a number of GPUs, 1 or more'),
                ('pictures', isinstance(self.pictures, int) and self.pictures >= 0, 'a number of images, 0 or more'),
                ('amp', isinstance(self.amp, bool), 'True or False')):
            if not is_right:
                raise ValueError(f'{name} has {key}={getattr(self, key)!r}: expected {expected}')

    def _check_peer(self, name: str) -> None:
        if self.peer is None:
            if self.compare_to is not None or self.minutes is not None:
                raise ValueError(f'{name} has compare_to={self.compare_to!r} and minutes={self.minutes!r}: only a peer '
                                 'has these')
            return
        if self.peer not in PEERS:
            raise ValueError(f'{name} has peer={self.peer!r}, expected one of {", ".join(PEERS)}')
        if self.probe is not None or self.config is not None:
            raise ValueError(f'{name} has a peer, and a probe or config too: set one of them')
        if not isinstance(self.minutes, (int, float)) or not 0 < self.minutes < math.inf:
            raise ValueError(f'{name} has minutes={self.minutes!r}: expected the CPU minutes of a training, above 0')

    def config_for(self, arch: str | None) -> str:
        """Returns the path of the config for an encoder.

        Args:
            arch: name of the architecture in `mae_backbone.core.vit.ARCHS`; None for an architecture without a name.

        Raises:
            ValueError: the task has no config for this architecture.
        """
        if isinstance(self.config, str):
            return self.config
        assert self.config is not None, f'{self.name} is a probe'
        if arch not in self.config:
            raise ValueError(f'task {self.name!r} has configs for the architectures {", ".join(self.config)}, none for '
                             f'{arch or "the custom one"} of this encoder: add one to the suite')
        return self.config[arch]


def _paths(config: object) -> list[object]:
    return list(config.values()) if isinstance(config, dict) else [config]


def is_number(value: object) -> bool:
    """True for a finite number that is not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_numbers(what: str, key: str, values: Sequence[object], types: tuple[type, ...], expected: str) -> None:
    if any(not isinstance(value, types) or isinstance(value, bool) for value in values):
        raise ValueError(f'{what} has {key}={list(values)!r}: expected {expected}')
