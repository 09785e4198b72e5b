"""Plan of a training: each setting with its reason in the data and the source of the rule."""
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mae_backbone.planning.fingerprint import Fingerprint

OURS = 'ours, not yet checked by an experiment'


@dataclass(frozen=True)
class Choice:
    """One setting of a plan.

    Attributes:
        name: name of the setting in plain English, such as 'learning rate'.
        value: value of the setting.
        reason: fact about the data or the machine that led to the value.
        source: source of the rule.
    """

    name: str
    value: Any
    reason: str
    source: str = OURS

    def __str__(self) -> str:
        return f'{self.name}: {shown(self.value)}: {self.reason} [{self.source}]'


@dataclass(frozen=True)
class WeightFacts:
    """Pretrained weights that the plan starts from.

    Attributes:
        path: file, or name of public weights.
        arch: name of an architecture, or dict(width=, depth=, heads=).
        width, depth: width and number of blocks of the ViT.
        patch_size: side of a patch in pixels.
        image_size: side of the images of the pretraining in pixels.
        mean, std: normalization of the pixels of the pretraining; empty if the file does not state it.
        has_decoder: whether the file has the decoder of a MAE.
        title: name of the layout of the file, for messages.
        relative_positions: whether the file has tables of relative positions, as in ViTDet and SAM.
    """

    path: str
    arch: Any
    width: int
    depth: int
    patch_size: int = 16
    image_size: int = 224
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    has_decoder: bool = False
    title: str = ''
    relative_positions: bool = False


@dataclass(frozen=True)
class StepCost:
    """Cost of an iteration.

    Attributes:
        batch: images per iteration.
        seconds: seconds per iteration.
        memory: peak memory in bytes; 0 if unknown.
        measured: True if the iteration was run on this machine. False if the cost is estimated from the number of
            operations.
    """

    batch: int
    seconds: float
    memory: int = 0
    measured: bool = True


@dataclass(frozen=True)
class PlanOptions:
    """Options of the user, and measurements for an earlier draft of the plan.

    Attributes:
        hours: time limit in hours for all trainings together; None for the default of the device.
        weights: pretrained weights; None if not given.
        pretrain_step, train_step: measured cost of an iteration of pretraining and training; None before the
            measurement.
        has_peft: True if the package peft is installed, which LoRA needs.
    """

    hours: float | None = None
    weights: WeightFacts | None = None
    pretrain_step: StepCost | None = None
    train_step: StepCost | None = None
    has_peft: bool = True


@dataclass
class Stage:
    """One training of a plan: a pretraining, or the training of a task.

    Attributes:
        task: 'pretraining', 'detection', 'segmentation' or 'classification'.
        base: name of the config that it inherits.
        choices: settings with their reasons, in the order in which they were chosen.
        config: differences from the base, as in the config file.
        cost: cost of an iteration.
        iterations: number of iterations.
    """

    task: str
    base: str = ''
    choices: list[Choice] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    cost: StepCost = StepCost(1, 0.0)
    iterations: int = 0

    def choose(self, name: str, value: Any, reason: str, source: str = OURS) -> Any:
        """Adds a choice, and returns its value."""
        self.choices.append(Choice(name, value, reason, source))
        return value

    def value(self, name: str) -> Any:
        """Returns the value of the choice `name`. Raises KeyError if there is none."""
        for choice in self.choices:
            if choice.name == name:
                return choice.value
        raise KeyError(name)

    @property
    def minutes(self) -> float:
        """Expected minutes of all iterations, without validations."""
        return self.iterations * self.cost.seconds / 60


@dataclass
class Plan:
    """All decisions for a data set.

    Attributes:
        root: absolute path of the data.
        task: task of the data.
        hours: time limit for the iterations of all stages together.
        decisions: choices for the whole run: pretraining and encoder.
        stages: trainings in the order in which they run.
        warnings: problems that the user should check.
    """

    root: str
    task: str
    hours: float
    decisions: list[Choice] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def stage(self, task: str) -> Stage | None:
        """Returns the stage of a task; None if there is none."""
        return next((stage for stage in self.stages if stage.task == task), None)

    @property
    def training(self) -> Stage:
        """The last stage: the training of the task, or the pretraining if there is no other."""
        return self.stages[-1]

    def choices(self) -> Iterator[Choice]:
        """Yields the choices of the whole run and of all stages."""
        yield from self.decisions
        for stage in self.stages:
            yield from stage.choices

    def sections(self) -> Iterator[tuple[str, list[Choice]]]:
        """Yields the title and the choices of the whole run, then of each stage."""
        yield 'encoder and pretraining', self.decisions
        for stage in self.stages:
            yield stage.task, stage.choices

    def decisions_json(self) -> dict[str, Any]:
        """Returns the choices and warnings for JSON."""
        return dict(decisions=[asdict(choice) for choice in self.decisions], warnings=list(self.warnings),
                    stages=[dict(task=stage.task, base=stage.base, iterations=stage.iterations,
                                 choices=[asdict(choice) for choice in stage.choices]) for stage in self.stages])


@dataclass(frozen=True)
class WrittenPlan:
    """Files of a plan.

    Attributes:
        config: config of the training.
        pretraining_config: config of the pretraining that runs first; None if there is none, or if pretraining is the
            only training (`config`).
        report: HTML report.
        plan: all decisions.
        fingerprint: fingerprint of the data.
    """

    config: Path
    pretraining_config: Path | None
    report: Path
    plan: Plan
    fingerprint: 'Fingerprint'


def shown(value: Any) -> str:
    """Formats a value of a choice as text: numbers with at most four digits, sequences in brackets."""
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, int):
        return f'{value:,}'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(shown, value))}]'
    if isinstance(value, dict):
        return ', '.join(f'{key} {shown(entry)}' for key, entry in value.items())
    return str(value)
