"""Chooses numbers of iterations: as many as the amount of data needs, within the time limit of the user."""
import math

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Plan, PlanOptions, Stage, StepCost
from mae_backbone.planning.rules.encoder import Encoder

DEFAULT_HOURS = {'cpu': 1.0, 'mps': 4.0, 'cuda': 12.0}  # 12: nnU-Net's smallest preset, resenc_presets.md; 1, 4: ours
_PRETRAINING_SHARE = {'scratch': 0.55, 'continued': 0.4, 'none': 0.0}
_VALIDATION_SHARE = 0.1  # fraction of the time of a training that validations take
# For costs that are not measured: operations per second of a training, relative to matrix products.
_EFFICIENCY = 0.5
# For costs that are not measured: operations of an iteration of the model, relative to its encoder.
_HEADS = {'pretraining': 1.7, 'detection': 3.0, 'segmentation': 2.5, 'classification': 1.1}
_MIN_ITERATIONS = 50
# Operations per weight and token, by the trained part of the encoder: 2 in the forward pass, 2 for the gradient of the
# token, and 2 for the gradient of the weight.
_PASSES = {'all': 6.0, 'lora': 4.0, 'last': 2 + 4 / 3, 'none': 2.0}


def total_hours(machine: Machine, options: PlanOptions) -> float:
    """Returns the hours for all trainings: the limit of the user, or the default of the device."""
    return options.hours or DEFAULT_HOURS[machine.device]


def estimated_step(task: str, encoder: Encoder, machine: Machine, *, batch: int, side: int,
                   visible: float = 1.0) -> StepCost:
    """Estimates the cost of an iteration from the number of operations, for a plan without measurements.

    Args:
        task: task of the stage.
        encoder: encoder of the plan.
        machine: machine with a measured speed.
        batch: images per iteration.
        side: height and width of an image in pixels.
        visible: fraction of the patches that the encoder processes.
    """
    tokens = batch * visible * (side / encoder.patch_size) ** 2
    operations = _PASSES[encoder.tuned] * encoder.block_parameters * tokens * _HEADS[task]
    return StepCost(batch, operations / (machine.gflops * 1e9 * _EFFICIENCY), measured=False)


def set_length(stage: Stage, plan: Plan, encoder: Encoder, wanted: int, why: str, source: str) -> int:
    """Chooses the number of iterations of a stage: `wanted`, or fewer if the time limit does not allow it.

    A pretraining before another training gets a fixed part of the time limit. The training gets the rest, which is
    more if the pretraining needs less than its part.

    Args:
        stage: stage whose cost of an iteration is set. The choice is added to it.
        plan: plan with the time limit, and with the pretraining if there is one. A warning is added if the time limit
            is far too small.
        encoder: encoder of the plan. It determines whether a pretraining needs a part of the time.
        wanted: number of iterations that the amount of data needs.
        why: reason for this number, for the report.
        source: source of the rule for this number.
    """
    is_pretraining = stage.task == 'pretraining'
    part = 1.0
    if plan.task != 'pretraining':
        pretraining = plan.stage('pretraining')
        part = _PRETRAINING_SHARE[encoder.pretraining] if is_pretraining else max(
            0.0, 1 - (pretraining.minutes if pretraining else 0.0) / (60 * plan.hours))
    seconds = plan.hours * 3600 * part * (1.0 if is_pretraining else 1 - _VALIDATION_SHARE)
    possible = int(seconds / max(stage.cost.seconds, 1e-9))
    speed = f'{stage.cost.seconds:.3g} s each, {"measured" if stage.cost.measured else "estimated"}'
    if possible >= wanted:
        stage.iterations = stage.choose('iterations', wanted, f'{why} ({speed})', source)
        return wanted
    iterations = max(_MIN_ITERATIONS, rounded(possible))
    stage.iterations = stage.choose(
        'iterations', iterations,
        f'{part:.0%} of {hours_text(plan.hours)}, at {speed}; {why}, would need '
        f'{wanted:,}', OURS)
    if iterations < wanted / 4:
        share = _PRETRAINING_SHARE[encoder.pretraining]
        least = share if is_pretraining else (1 - share) * (1 - _VALIDATION_SHARE)
        least = 1.0 if plan.task == 'pretraining' else least
        more = wanted * stage.cost.seconds / (3600 * least)
        plan.warnings.append(f'{stage.task}: {iterations:,} iterations are {iterations / wanted:.0%} of the '
                             f'{wanted:,} that the data need: --hours {math.ceil(more)} is enough for them')
    return iterations


def hours_text(hours: float) -> str:
    """Formats hours as text, such as '1 hour' or '2.5 hours'."""
    return f'{hours:g} hour' + 's' * (hours != 1)


def rounded(number: int) -> int:
    """Rounds a number down to two digits: 1,234 -> 1,200."""
    if number < 100:
        return number
    unit = 10 ** (len(str(number)) - 2)
    return number // unit * unit


def clamp(value: float, low: float, high: float) -> int:
    """Returns `value` limited to the range from `low` to `high`, as an integer."""
    return int(min(max(value, low), high))


def validation_interval(stage: Stage, machine: Machine, fingerprint: Fingerprint) -> int:
    """Chooses the number of iterations between validations.

    There are 10 validations in a training, or 4 on a CPU, where they take a larger part of the time.
    """
    count = 4 if machine.device == 'cpu' else 10
    interval = math.ceil(stage.iterations / count)  # rounded down, there would be one more right before the end
    return int(stage.choose('validation interval', interval,
                            f'{count} validations on {fingerprint.images.get("val", 0):,} images',
                            'number ours: it only determines which checkpoint can be the best'))
