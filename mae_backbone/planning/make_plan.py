"""Makes a plan from fingerprint, machine and options. Equal arguments give an equal plan."""
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import Plan, PlanOptions, Stage
from mae_backbone.planning.rules import classification, detection, segmentation
from mae_backbone.planning.rules.encoder import choose_encoder
from mae_backbone.planning.rules.lengths import total_hours
from mae_backbone.planning.rules.pretraining import plan_pretraining
from mae_backbone.planning.rules.tuning import choose_tuning

_FEW = 20          # smallest number of labeled images without a warning that results are unreliable
_MAX_CHANNELS = 16  # largest number that the readers support


def make_plan(fingerprint: Fingerprint, machine: Machine, options: PlanOptions | None = None) -> Plan:
    """Chooses all settings of the trainings.

    Args:
        fingerprint: fingerprint of the data.
        machine: machine that runs the trainings.
        options: options of the user, and the costs of iterations that were measured with a first plan.

    Raises:
        DataError: the data cannot be used for training: no readable image, no object, only one class, or too many
            channels or bits.
    """
    options = options or PlanOptions()
    _check(fingerprint)
    plan = Plan(fingerprint.root, fingerprint.task, total_hours(machine, options))
    encoder = choose_tuning(plan, fingerprint, options, choose_encoder(plan, fingerprint, machine, options))
    stage, factor = Stage(fingerprint.task), 1.0
    if fingerprint.task == 'detection':
        size = detection.choose_input(stage, plan, fingerprint, encoder)
        factor = size.factor
    elif fingerprint.task == 'segmentation':
        size = segmentation.choose_input(stage, fingerprint, encoder)
        factor = size.factor
    if encoder.pretraining != 'none':
        plan_pretraining(plan, fingerprint, machine, options, encoder, factor)
    if fingerprint.task == 'detection':
        detection.plan_detection(plan, fingerprint, machine, options, encoder, stage, size)
    elif fingerprint.task == 'segmentation':
        segmentation.plan_segmentation(plan, fingerprint, machine, options, encoder, stage, size)
    elif fingerprint.task == 'classification':
        classification.plan_classification(plan, fingerprint, machine, options, encoder)
    _warn(plan, fingerprint, machine)
    return plan


def _check(fingerprint: Fingerprint) -> None:
    """Raises DataError if the data cannot be used for training."""
    root = fingerprint.root
    if not fingerprint.num_train:
        raise DataError(f'no image of the training set in {root} can be read'
                        + (f': {fingerprint.notes[0]}' if fingerprint.notes else ''))
    if fingerprint.task == 'detection' and fingerprint.objects is None:
        raise DataError(f'the training set in {root} has no object: label some of its images')
    if fingerprint.task in ('segmentation', 'classification') and sum(
            count > 0 for count in fingerprint.class_counts) < 2:
        raise DataError(f'the training set in {root} has {sum(count > 0 for count in fingerprint.class_counts)} class, '
                        'expected two or more: label images of another class, or the background')
    if fingerprint.channels > _MAX_CHANNELS:
        raise DataError(f'the images in {root} have {fingerprint.channels} channels, expected up to {_MAX_CHANNELS}: '
                        'save only the channels that you need')
    if fingerprint.bits > 16:
        raise DataError(f'the images in {root} have {fingerprint.bits} bits, expected 8 or 16 unsigned bits: '
                        'scale them and save them again')


def _warn(plan: Plan, fingerprint: Fingerprint, machine: Machine) -> None:
    """Adds warnings about the data and the machine that do not belong to a single setting."""
    if fingerprint.unreadable:
        plan.warnings.append(f'{fingerprint.unreadable:,} files cannot be read: remove or replace them')
    if fingerprint.leaks:
        verb, pronoun = ('s are', 'them') if fingerprint.leaks > 1 else (' is', 'it')
        plan.warnings.append(f'{fingerprint.leaks:,} validation image{verb} equal or similar to a training image: '
                             f'move {pronoun}, otherwise results are too good')
    if fingerprint.equal_images > 0.01 * fingerprint.num_pretraining:
        plan.warnings.append(f'{fingerprint.equal_images:,} files are copies of other files: remove them')
    if fingerprint.mixed:
        plan.warnings.append(f'{fingerprint.mixed:,} images differ in channels or bits from the others, which have '
                             f'{fingerprint.channels} channels of {fingerprint.bits} bits')
    if fingerprint.border > 0.25:
        plan.warnings.append(f'{fingerprint.border:.0%} of a median image is a border of a single value: cut it off')
    if fingerprint.task != 'pretraining' and fingerprint.num_labeled < _FEW:
        plan.warnings.append(f'{fingerprint.num_labeled:,} labeled images are too few for results that can be trusted: '
                             'label more images, and repeat the training with other splits')
    if machine.disk and machine.device != 'cpu' and machine.disk < 50:
        plan.warnings.append(f'the disk reads {machine.disk:.0f} MB/s: `mae-backbone pack` makes reading '
                             'faster')
