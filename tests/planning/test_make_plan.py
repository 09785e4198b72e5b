"""Decisions of the planner: laws, and six users whose plans are compared with those of before, with all reasons."""
import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.fingerprints import GPU, LAPTOP, LARGE_GPU, MACHINES, SMALL_GPU, fingerprint, objects, users

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning.data_settings import MAX_CUT
from mae_backbone.planning.make_plan import make_plan
from mae_backbone.planning.plan import PlanOptions, StepCost, WeightFacts

DATA = Path(__file__).parent / 'data'
USERS = users()
HOURS = (0.02, 0.5, 1, 3, 12, 100, 10_000)
every_user = pytest.mark.parametrize('name', USERS)


@every_user
def test_decisions_and_reasons_are_those_of_before(name):
    """After a change of the rules, delete the files: they are written again, and shall be read."""
    file = DATA / f'{name.replace(" ", "_")}.json'
    decisions = json.loads(json.dumps(make_plan(*USERS[name]).decisions_json()))
    if not file.exists():
        file.write_text(json.dumps(decisions, indent=1) + '\n', encoding='utf-8')
        pytest.fail(f'{file.name} did not exist and was written: read it, and run the test again')
    assert decisions == json.loads(file.read_text(encoding='utf-8'))


@every_user
def test_a_plan_is_a_pure_function(name):
    assert make_plan(*USERS[name]) == make_plan(*USERS[name])


@every_user
def test_every_choice_has_a_reason_and_a_source(name):
    for choice in make_plan(*USERS[name]).choices():
        assert choice.name
        assert choice.reason
        assert choice.source


@every_user
@pytest.mark.parametrize('machine', MACHINES, ids=lambda machine: machine.name)
def test_more_time_never_gives_fewer_iterations(name, machine):
    data = USERS[name][0]
    plans = [make_plan(data, machine, PlanOptions(hours=hours)) for hours in HOURS]
    for less, more in pairwise(plans):
        assert [stage.task for stage in less.stages] == [stage.task for stage in more.stages]
        for before, after in zip(less.stages, more.stages, strict=True):
            assert before.iterations <= after.iterations


@every_user
def test_a_faster_step_never_gives_fewer_iterations(name):
    data, machine = USERS[name]
    lengths = [make_plan(data, machine, PlanOptions(hours=1, train_step=StepCost(4, seconds))).training.iterations
               for seconds in (10, 1, 0.1)]
    assert lengths == sorted(lengths)


@every_user
def test_the_last_of_the_planned_validations_is_at_the_end(name):
    """With an interval of 242 and 970 iterations, a validation at 968 would be followed by one at 970."""
    for hours in HOURS:
        stage = make_plan(*USERS[name], PlanOptions(hours=hours)).training
        chosen = {choice.name: choice for choice in stage.choices}
        if 'validation interval' in chosen:
            interval = chosen['validation interval']
            assert f'{math.ceil(stage.iterations / interval.value)} validations' in interval.reason


@every_user
def test_the_time_that_is_allowed_is_kept(name):
    for hours in HOURS[2:]:
        plan = make_plan(*USERS[name], PlanOptions(hours=hours))
        assert sum(stage.minutes for stage in plan.stages) <= 60 * hours


def test_the_training_gets_the_time_that_the_pretraining_does_not_need():
    options = PlanOptions(hours=1, pretrain_step=StepCost(64, 0.01), train_step=StepCost(4, 1.0))
    plan = make_plan(*USERS['cells on a laptop'], options)
    pretraining, training = (stage.minutes for stage in plan.stages)
    assert pretraining < 10  # has all iterations that the data need in less than its part of the hour
    assert training == pytest.approx(0.9 * (60 - pretraining), rel=0.1)


@every_user
def test_more_memory_never_gives_a_smaller_encoder(name):
    widths = [make_plan(USERS[name][0], machine).decisions[0].value for machine in MACHINES]
    order = ['ViT-micro, 6 blocks of width 128', 'ViT-S', 'ViT-B']
    assert [order.index(width) for width in widths] == sorted(order.index(width) for width in widths)


@pytest.mark.parametrize('machine', MACHINES, ids=lambda machine: machine.name)
def test_smaller_objects_never_get_a_smaller_input(machine):
    def pixels(side: float) -> float:
        data = fingerprint('detection', train=500, size=(1000, 800), classes=['a'], class_counts=[400],
                           objects=objects((1000, 800), (side, 2 * side), per_image=10))
        stage = make_plan(data, machine).training
        names = [choice.name for choice in stage.choices]
        return stage.value('input size') if 'input size' in names else stage.value(
            'long side of images' if 'long side of images' in names else 'factor of images')
    sizes = [pixels(side) for side in (4, 8, 16, 60, 300)]
    assert sizes == sorted(sizes, reverse=True)


def test_crops_hold_as_many_objects_as_the_training_expects():
    for ratio in (0.2, 1.0, 3.0):
        data = fingerprint('detection', train=500, size=(900, 700), classes=['a'], class_counts=[400],
                           objects=objects((900, 700), (10, 200), per_image=4, ratio=ratio))
        stage = make_plan(data, LAPTOP).training
        factor, boxes = stage.value('factor of images'), np.array(data.objects.boxes)[:, :2]
        cut = (boxes.max(axis=1) * factor > stage.value('crop')).mean()
        assert cut <= MAX_CUT or stage.value('crop') == 320


def test_crops_on_a_cpu_are_much_larger_than_large_objects():
    crops = []
    for side in (30, 50, 60, 83, 120):
        data = fingerprint('detection', train=500, size=(320, 320), classes=['a'], class_counts=[400],
                           objects=objects((320, 320), (side, side), per_image=4))
        crops.append(make_plan(data, LAPTOP).training.value('crop'))
        assert crops[-1] >= 2.5 * side or crops[-1] == 320
    assert crops == [128, 128, 192, 256, 320]


def test_anchors_fit_the_boxes_that_the_input_shows():
    for side, ratio in ((100, 1.0), (30, 4.0)):
        data = fingerprint('detection', train=500, size=(640, 640), classes=['a'], class_counts=[400],
                           objects=objects((640, 640), (side, 1.5 * side), per_image=4, ratio=ratio))
        stage = make_plan(data, LAPTOP).training
        assert 'rpn_head' in stage.config['model'] or 'they fit 9' in str(stage.choices) or '100' in str(stage.choices)


def test_pretraining_by_data_and_weights():
    def decision(options=None, machine=GPU, **changes) -> str:
        data = fingerprint('detection', **(dict(
            train=500, size=(640, 480), classes=['a'], class_counts=[100],
            objects=objects((640, 480), (20, 90), per_image=4)) | changes))
        return next(c.value for c in make_plan(data, machine, options).decisions if c.name == 'pretraining')
    far = dict(mean=[20.0, 20.0, 20.0], std=[15.0, 15.0, 15.0])
    assert decision() == 'none'                                       # photographs, public weights
    assert decision(**far) == 'none'                                  # too few images
    assert decision(**far, unlabeled=20_000) == 'continued'
    assert decision(**far, unlabeled=200_000) == 'from scratch'
    assert decision(machine=LAPTOP) == 'from scratch'                 # no public weights of this size
    own = WeightFacts('mae.pth', dict(width=128, depth=6, heads=4), 128, 6, 8, 64, (40.0,) * 3, (60.0,) * 3)
    assert decision(PlanOptions(weights=own), machine=LAPTOP) == 'none'


def test_large_weights_without_a_gpu_are_frozen():
    weights = WeightFacts('vit.pth', 'base', 768, 12, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    data = USERS['cells on a laptop'][0]
    stage = make_plan(data, LAPTOP, PlanOptions(weights=weights)).training
    assert stage.config['model']['backbone']['frozen_stages'] == 12
    assert stage.config['model']['neck'] == dict(in_channels=768, input_stride=16)
    assert stage.config['model']['data_preprocessor']['mean'] == [123.7, 116.3, 103.5]


FAR = dict(mean=[20.0, 20.0, 20.0], std=[15.0, 15.0, 15.0])
DINO = WeightFacts('dino.pth', 'small', 384, 12, title='DINO')


@pytest.mark.parametrize(('labels', 'changes', 'machine', 'options', 'part', 'settings'), [
    (100, {}, SMALL_GPU, {}, 'none: the encoder is frozen', dict(frozen_stages=12)),
    (100, {}, GPU, {}, 'the last 4 of 12 blocks', dict(frozen_stages=8)),                   # weights of MAE
    (100, FAR, SMALL_GPU, {}, 'LoRA of rank 16', dict(lora=dict(rank=16))),
    (500, {}, GPU, {}, 'LoRA of rank 16', dict(lora=dict(rank=16))),
    (500, {}, GPU, dict(has_peft=False), 'the last 4 of 12 blocks', dict(frozen_stages=8)),
    (5000, {}, GPU, {}, 'all weights', {}),
    (100, {}, LAPTOP, {}, 'all weights', {}),                                               # an own pretraining
    (5000, {}, LAPTOP, dict(weights=DINO), 'none: the encoder is frozen', dict(frozen_stages=12)),
])
def test_the_trained_part_by_labels_weights_and_machine(labels, changes, machine, options, part, settings):
    for task, more in (('segmentation', dict(class_counts=[9, 9], foreground=0.5)), ('detection', dict(
            class_counts=[9, 9], objects=objects((640, 480), (20, 90), per_image=4)))):
        data = fingerprint(task, **(dict(train=labels, size=(640, 480), classes=['a', 'b']) | more | changes))
        plan = make_plan(data, machine, PlanOptions(**options))
        assert next(c.value for c in plan.decisions if c.name == 'trained part of the encoder') == part
        backbone = plan.training.config['model']['backbone']
        assert {key: backbone[key] for key in ('frozen_stages', 'lora') if key in backbone} == settings
        layer_decay = plan.training.config['optim_wrapper'].get('paramwise_cfg', {}).get('layer_decay')
        assert (layer_decay is None) == (part.startswith(('LoRA', 'none')) or machine is LAPTOP)


@pytest.mark.parametrize(('labels', 'in_file', 'expected'), [
    (100, False, False), (500, False, False),  # a frozen encoder, and LoRA: new tables would stay zero
    (100, True, None), (500, True, None), (5000, False, None)])  # None: as in the base config, which has tables
def test_tables_of_relative_positions_are_only_used_if_they_are_in_the_weights_or_trained(
        labels: int, in_file: bool, expected: bool | None):
    data = fingerprint('segmentation', train=labels, size=(640, 480), classes=['a', 'b'], class_counts=[9, 9],
                       foreground=0.5)
    plan = make_plan(data, SMALL_GPU, PlanOptions(weights=replace(DINO, relative_positions=in_file)))
    assert plan.training.config['model']['backbone'].get('relative_positions') is expected


def test_fewer_labels_train_less_of_a_classifier():
    def model(labels: int, machine=SMALL_GPU, **options) -> dict:
        data = fingerprint('classification', train=labels, size=(300, 300), classes=['a', 'b'],
                           class_counts=[labels // 2, labels // 2])
        return make_plan(data, machine, PlanOptions(**options)).training.config['model']
    assert model(100)['probe']
    assert model(100, GPU)['tuned_blocks'] == 4
    assert model(500)['backbone']['lora'] == dict(rank=16)
    assert model(500, has_peft=False)['tuned_blocks'] == 4
    assert not {'probe', 'tuned_blocks'} & model(5000).keys()


def test_rare_classes_are_repeated_by_the_rule_of_lvis():
    def sampler(*shown: float, images: int = 1000, task: str = 'classification') -> dict:
        data = fingerprint(task, train=images, size=(300, 300), classes=list('abc')[:len(shown)],
                           class_counts=[round(images * fraction) for fraction in shown], class_images=list(shown))
        return make_plan(data, LAPTOP).training.config['sampling'].get('sampler', {})
    assert sampler(0.6, 0.4) == {}
    assert sampler(0.9, 0.1) == {}, 'a tenth is not rare'
    assert sampler(0.9, 0.05)['threshold'] == 0.09
    assert sampler(0.9, 0.05, 0.0)['threshold'] == 0.09, 'a class without images does not count'
    assert sampler(0.9, 0.05, images=100_000) == {}, '5,000 images are enough'
    assert sampler(0.9, 0.0005, images=100_000)['threshold'] == 0.001, 'the threshold of LVIS'
    assert sampler(1.0, 0.02, task='segmentation')['threshold'] == 0.1


def test_weights_are_averaged_on_a_gpu():
    def average(name: str, step: StepCost | None = None) -> list[dict]:
        stage = make_plan(*USERS[name], PlanOptions(train_step=step)).training
        return [hook for hook in stage.config['custom_hooks'] if hook['type'] == 'EMAHook']
    assert average('cells on a laptop') == []
    traffic = 'traffic on a GPU with 24 GB'
    assert average(traffic, StepCost(4, 0.1)) == [dict(type='EMAHook', momentum=0.007, interval=4)]
    assert average(traffic, StepCost(16, 0.1)) == [dict(type='EMAHook', momentum=0.007)]


@pytest.mark.parametrize('channels', [1, 2, 5, 16])
@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_bands_are_read_by_the_reader_of_their_files(task, channels):
    data = replace(next(data for data, _ in USERS.values() if data.task == task), channels=channels, bits=16,
                   reader='TiffReader', mean=[900.0] * channels, std=[80.0] * channels, value_range=[1.0, 4000.0])
    config = make_plan(data, LAPTOP).training.config
    reader = dict(type='mae_backbone.TiffReader', channels=channels, dtype='uint16')
    loading = config['dataset']['reader'] if task == 'classification' else config['train_pipeline'][0]['reader']
    assert loading == reader
    assert config['model']['backbone']['in_channels'] == channels
    assert config['model']['data_preprocessor']['mean'] == [900.0] * channels, 'not scaled'
    assert 'PhotoMetricDistortion' not in str(config)


@pytest.mark.parametrize('num_train', [1, 2, 3])
def test_batch_norm_of_a_segmenter_has_two_images(num_train: int):
    data = fingerprint('segmentation', train=num_train, size=(64, 48), classes=['a', 'b'], class_counts=[9, 9])
    stage = make_plan(data, LAPTOP, PlanOptions()).stage('segmentation')
    assert stage.config['batch'] == 2


def test_accumulation_never_exceeds_an_epoch():
    data = replace(USERS['cells on a laptop'][0], images={'train': 6, 'val': 2})
    stage = make_plan(data, SMALL_GPU, PlanOptions(train_step=StepCost(2, 0.1))).training
    assert stage.value('accumulated batches') * 2 <= 6


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(images={'train': 0}), 'no image of the training set in /data/own can be read'),
    (dict(objects=None), 'has no object: label some'),
    (dict(channels=17), 'have 17 channels, expected up to 16'),
    (dict(bits=32), 'have 32 bits, expected 8 or 16'),
])
def test_data_that_nothing_can_be_learned_from_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        make_plan(replace(USERS['cells on a laptop'][0], **changes), LAPTOP)


def test_a_single_class_cannot_be_told_from_others():
    with pytest.raises(DataError, match='expected two or more'):
        make_plan(replace(USERS['vessels on a laptop'][0], class_counts=[100, 0]), LAPTOP)


def test_too_little_time_and_leaks_are_warned_of():
    plan = make_plan(*USERS['defects in large images on a GPU with 8 GB'], PlanOptions(hours=0.1))
    text = ' '.join(plan.warnings)
    assert '4 validation images are equal or similar to a training image' in text
    assert '--hours' in text
    assert 'Predict with --tile' in text


@pytest.mark.parametrize('machine', [LAPTOP, LARGE_GPU])
@pytest.mark.parametrize(('side', 'warned'), [(2000, False), (20_000, True)])
def test_images_that_are_too_large_for_a_validation_are_warned_of(machine, side, warned):
    data = fingerprint('detection', train=50, size=(side, side), classes=['ship'], class_counts=[100],
                       objects=objects((side, side), (20, 60), per_image=2))
    assert ('read whole images' in ' '.join(make_plan(data, machine).warnings)) is warned


@every_user
def test_the_hours_in_a_warning_are_enough(name):
    options = PlanOptions(hours=0.001, pretrain_step=StepCost(64, 2.0), train_step=StepCost(4, 5.0))
    hours = [int(text) for warning in make_plan(*USERS[name], options).warnings
             for text in re.findall(r'--hours (\d+)', warning)]
    assert hours
    assert '--hours' not in ' '.join(make_plan(*USERS[name], replace(options, hours=max(hours))).warnings)


def test_no_class_has_a_weight_of_zero():
    cells, machine = USERS['vessels on a laptop']
    plan = make_plan(replace(cells, classes=['wall', 'crack', 'hole'], class_counts=[10**9, 3000, 4000],
                             foreground=0.5), machine)
    assert min(plan.training.value('class weights')) > 0


def test_rare_objects_are_trained_with_dice_also_if_most_images_have_none():
    cells, machine = USERS['vessels on a laptop']
    for foreground in (0.0, 0.001):
        plan = make_plan(replace(cells, classes=['wall', 'crack'], class_counts=[10**9, 3000], foreground=foreground),
                         machine)
        assert 'Dice' in plan.training.value('loss')


@pytest.mark.parametrize(('reader', 'channels', 'cached'), [('', 3, True), ('TiffReader', 12, False)])
def test_decoded_images_are_kept_in_memory_only_if_all_their_bands_fit(reader, channels, cached):
    data = replace(USERS['cells on a laptop'][0], reader=reader, channels=channels, bits=16 if reader else 8)
    machine = replace(LAPTOP, memory=4 * 5 * 430 * 256 * 256)
    pretraining = make_plan(data, machine).stage('pretraining')
    assert pretraining.config['train_dataloader']['dataset']['cache'] is cached


def test_a_large_gpu_scales_the_batch_not_the_step():
    data = USERS['traffic on a GPU with 24 GB'][0]
    small, large = (make_plan(data, machine, PlanOptions(train_step=StepCost(batch, 0.1))).training
                    for machine, batch in ((GPU, 2), (LARGE_GPU, 16)))
    assert small.value('learning rate') == large.value('learning rate')
    assert small.value('accumulated batches') == 8
