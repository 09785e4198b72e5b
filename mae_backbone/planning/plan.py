"""Plan of a training: each setting with the fact of the data that led to it and the source of the rule."""
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
        name: of the setting, in words.
        value: of the setting.
        reason: the fact of the data or of the machine that led to it.
        source: of the rule.
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
        width, depth: of the ViT.
        patch_size: in pixels.
        image_size: side of the images of the pretraining in pixels.
        mean, std: normalization of the pixels of the pretraining; empty if the file does not say.
        has_decoder: whether the file has the decoder of a MAE.
        title: of the layout, for messages.
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


@dataclass(frozen=True)
class StepCost:
    """What an iteration costs.

    Attributes:
        batch: images of an iteration.
        seconds: of an iteration.
        memory: bytes at its peak; 0 if unknown.
        measured: whether the iteration ran on this machine. If not, it is estimated from the number of operations.
    """

    batch: int
    seconds: float
    memory: int = 0
    measured: bool = True


@dataclass(frozen=True)
class PlanOptions:
    """Wishes of the user, and what was measured for an earlier draft of the plan.

    Attributes:
        hours: for all trainings together; None for the default of the device.
        weights: pretrained weights; None if the user names none.
        pretrain_step, train_step: costs of an iteration that were measured.
        has_peft: whether peft is installed, which LoRA needs.
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
        base: name of the config that it builds on.
        choices: with their reasons, in the order in which they were taken.
        config: what differs from the base, as the config file has it.
        cost: of an iteration.
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
        """Value of the choice of that name. Raises KeyError if there is none."""
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
    """Everything that was decided for a data set.

    Attributes:
        root: absolute path of the data.
        task: of the data.
        hours: that the iterations of all stages may take together.
        decisions: about the run as a whole: pretraining and encoder.
        stages: in the order in which they run.
        warnings: what the user should look at.
    """

    root: str
    task: str
    hours: float
    decisions: list[Choice] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def stage(self, task: str) -> Stage | None:
        """The stage of a task, if there is one."""
        return next((stage for stage in self.stages if stage.task == task), None)

    @property
    def training(self) -> Stage:
        """The last stage: the training of the task, or the pretraining if there is no other."""
        return self.stages[-1]

    def choices(self) -> Iterator[Choice]:
        """All choices."""
        yield from self.decisions
        for stage in self.stages:
            yield from stage.choices

    def sections(self) -> Iterator[tuple[str, list[Choice]]]:
        """Title and choices of the run as a whole, and of each stage."""
        yield 'encoder and pretraining', self.decisions
        for stage in self.stages:
            yield stage.task, stage.choices

    def decisions_json(self) -> dict[str, Any]:
        """The choices and warnings, as JSON has them."""
        return dict(decisions=[asdict(choice) for choice in self.decisions], warnings=list(self.warnings),
                    stages=[dict(task=stage.task, base=stage.base, iterations=stage.iterations,
                                 choices=[asdict(choice) for choice in stage.choices]) for stage in self.stages])


@dataclass(frozen=True)
class WrittenPlan:
    """Files of a plan.

    Attributes:
        config: of the training.
        pretraining_config: of the pretraining before it; None if the plan has none, or nothing else.
        report: page in HTML.
        plan, fingerprint: what was decided, and for which data.
    """

    config: Path
    pretraining_config: Path | None
    report: Path
    plan: Plan
    fingerprint: 'Fingerprint'


def shown(value: Any) -> str:
    """A value in the words of a line: numbers with few digits, sequences in brackets."""
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
