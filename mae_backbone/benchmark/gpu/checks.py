"""All checks of `benchmark gpu`, in their order: right numbers first, then the speeds that matter most."""
from typing import Any

from mae_backbone.benchmark.gpu.check import Check

_HERE = 'mae_backbone.benchmark.gpu'
_DETECTOR = dict(config='mask-rcnn_vitdet-b_100e_coco', tiny='mask-rcnn_vit-micro_nuclei', side=1024, num_classes=80)
_SEGMENTER = dict(config='upernet_vit-b_160k_ade20k-512x512', tiny='upernet_vit-micro_camvid', side=512,
                  num_classes=150)


def _mae(arch: str, batch: int, form: str, *, aim: int | None = None) -> Check:
    """A step of MAE pretraining. Compiling a whole step takes longest."""
    return Check(f'mae {arch} {form} {batch}', 120 if form == 'whole' else 90, f'{_HERE}.mae:throughput',
                 dict(arch=arch, batch=batch, form=form, aim=aim), tiny=(arch, batch) == ('base', 512))


def _vitdet(form: str, batch: int, *, aim: int | None = None) -> Check:
    return Check(f'vitdet {form} {batch}', 90 if form == 'blocks' else 45, f'{_HERE}.vitdet:throughput',
                 dict(form=form, batch=batch, aim=aim), tiny=batch > 1)


def _openmmlab(name: str, batch: int, options: dict[str, Any], *, aim: int | None = None) -> Check:
    return Check(f'{name} {batch}', 90, f'{_HERE}.openmmlab:throughput', dict(batch=batch, aim=aim, **options),
                 tiny=batch > 1)


# The targets are our estimates from operations and memory traffic. docs/benchmarks.md has the table.
CHECKS = [
    Check('machine', 90, f'{_HERE}.environment:machine'),
    Check('limits', 30, f'{_HERE}.environment:limits'),
    Check('masks', 30, f'{_HERE}.masks:bit_for_bit'),
    Check('attention', 90, f'{_HERE}.attention:forms'),
    Check('ops', 45, f'{_HERE}.ops:stand_ins'),
    Check('one step', 45, f'{_HERE}.training:one_step'),
    Check('twenty steps', 90, f'{_HERE}.training:twenty_steps'),
    Check('steps of the runner', 90, f'{_HERE}.training:steps_of_the_runner'),
    _mae('base', 512, 'eager'), _mae('base', 512, 'blocks', aim=8000), _mae('base', 512, 'reference'),
    _vitdet('folded', 8), _vitdet('blocks', 8, aim=150), _vitdet('explicit', 4),
    _mae('large', 512, 'blocks', aim=3900), _mae('large', 256, 'reference'), _mae('large', 256, 'eager'),
    _openmmlab('mask r-cnn', 4, _DETECTOR, aim=45), _openmmlab('mask r-cnn', 1, _DETECTOR),
    _openmmlab('upernet', 8, _SEGMENTER, aim=130),
    Check('validation', 60, f'{_HERE}.validation:features'),
    Check('jpeg', 45, f'{_HERE}.jpeg:decoding'),
    Check('loader', 60, f'{_HERE}.loading:from_shards'),
    _vitdet('folded, exact widths', 8), _vitdet('folded', 1), _vitdet('explicit', 1),
    _mae('base', 512, 'whole'), _mae('large', 256, 'whole'), _mae('base', 64, 'blocks'),
]
