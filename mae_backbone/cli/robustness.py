"""Evaluate a classifier on ImageNet-A, -R, -Sketch, -V2 and -C, or on corrupted test images.

--corrupt applies the corruptions of ImageNet-C to the test images of the config, at five strengths each. zoom_blur and
glass_blur are the slowest: 0.2 to 0.3 s per image of 224 pixels on one CPU core. With FOLDERs only, the test images may
be missing. After an interruption the same command continues.

examples:
  mae-backbone robustness CONFIG CHECKPOINT imagenet-a imagenet-r imagenet-c --data-root DIR
  mae-backbone robustness CONFIG CHECKPOINT --corrupt --data-root DIR
"""
import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mae_backbone.cli.options import add_config_options, add_work_dir, natural
from mae_backbone.evaluation.imagenet_c import CORRUPTIONS, STRENGTHS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.utils.data import Dataset

_TASKS = {'mmdet': 'detection', 'mmseg': 'segmentation'}  # by default scope
RESUME_HINT = 'the same command continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of `mae-backbone train`')
    parser.add_argument('sets', nargs='*', metavar='FOLDER', help='a set of images, or a folder of sets')
    group = parser.add_argument_group('evaluation')
    group.add_argument('--corrupt', nargs='*', metavar='NAME', choices=[*CORRUPTIONS],
                       help=f'corruptions to apply (default: all): {", ".join(CORRUPTIONS)}')
    group.add_argument('--workers', type=natural, default=2, metavar='N',
                       help='processes that read images (default: %(default)s)')
    add_work_dir(group)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from pathlib import Path

    from mmengine.registry import DATASETS

    from mae_backbone.cli.config import check_test, data_lines, load_config, make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.files import checked_size
    from mae_backbone.evaluation.corruptions import CorruptedImages
    from mae_backbone.evaluation.feature_cache import model_fingerprint
    from mae_backbone.evaluation.imagenet_variants import SetImages, files_fingerprint, find_sets, skip_if_cropped
    from mae_backbone.evaluation.robustness import Table, accuracies, as_markdown, check_names, is_imagenet
    from mae_backbone.planning.match_classes import checkpoint_classes, match_classes
    from mae_backbone.prediction.predictor import Predictor
    from mae_backbone.utils.atomic_write import write_text

    corruptions = [] if args.corrupt is None else args.corrupt or [*CORRUPTIONS]
    cfg = load_config(args)
    check_test(cfg, args.config)
    if cfg.get('default_scope') in ('mmdet', 'mmseg'):  # before the data, which are none of a classifier
        raise ValueError(f'{args.config} is for {_TASKS[cfg.default_scope]}, and robustness is measured for '
                         'classifiers: pass the checkpoint or the config of a classifier')
    data = cfg.test_dataloader.dataset
    root = str(data.get('data_root', ''))
    with_test = not args.sets or args.corrupt is not None or args.data_root or Path(root).exists()
    for line in data_lines(cfg, ['test']) if with_test else [f'test: {root} does not exist, only the sets are used']:
        log_rank0(line)
    for line in match_classes(cfg, checkpoint_classes(args.checkpoint), args.checkpoint) if with_test else []:
        log_rank0(line)
    make_folder(cfg.work_dir, '--work-dir')
    predictor = Predictor(cfg, args.checkpoint)
    variants = [variant for folder in args.sets for variant in find_sets(folder, predictor.classes)]
    check_names(['test', *(variant.name for variant in variants)])
    size = data.get('image_size', 224)
    table = Table(Path(cfg.work_dir, 'robustness.json'), {
        'weights': model_fingerprint(predictor.net), 'transform': repr((size, data.get('augment'))),
        'corruptions': 'imagecorruptions'})

    def measure(name: str, images: 'Dataset', labels: 'Sequence[int] | np.ndarray', **key: str) -> None:
        row = table.add(name, key, lambda: accuracies(predictor.net, images, labels, workers=args.workers,
                                                      batch_size=cfg.test_dataloader.batch_size))
        log_rank0(f'{name}: top-1 {row["top-1"]:.1f}, top-5 {row["top-5"]:.1f}, {row["images"]:,} images')

    def prepare(image: 'np.ndarray') -> 'Tensor':
        return predictor.prepare(image)['inputs']

    if with_test:
        test = DATASETS.build(data)
        test_key = {'folder': root, 'files': files_fingerprint(test.files, test.labels)}
        measure('test', test, test.labels, **test_key)
    for variant in variants:
        transform = skip_if_cropped(prepare, checked_size(size)) if variant.is_corrupted else prepare
        images = SetImages(variant, transform)
        measure(variant.name, images, images.labels, folder=str(variant.folder.absolute()),
                files=files_fingerprint(images.files, images.labels))
    for name in corruptions:
        for strength in STRENGTHS:
            measure(f'corrupted/{name}/{strength}', CorruptedImages(test, name, strength), test.labels, **test_key)
    if corruptions:
        log_rank0(f'examples of the corruptions: {_save_examples(test, corruptions, cfg.work_dir)}')
    text = as_markdown(table.rows, imagenet=is_imagenet(predictor.classes))
    write_text(Path(cfg.work_dir, 'robustness.md'), text)
    log_rank0(f'\n{text}\nwritten to {cfg.work_dir}/robustness.md and robustness.json')


def _save_examples(dataset: 'Dataset', names: list[str], folder: str) -> str:
    """Saves a picture of the first image of a set with each corruption at all strengths. Returns its path."""
    from pathlib import Path

    from mae_backbone.utils.image_grid import save_picture, side_by_side
    figure = Path(folder, 'corruptions.png')
    titles = ['', *(f'strength {strength}' for strength in STRENGTHS)]
    save_picture(str(figure), side_by_side(_examples(dataset, names), titles))
    return str(figure)


def _examples(dataset: 'Dataset', names: list[str]) -> 'list[list[np.ndarray]]':
    """Draws the first image of a set at all strengths: for each corruption its name and a row of images (192, W, 3)."""
    import numpy as np

    from mae_backbone.evaluation.corruptions import CorruptedImages
    from mae_backbone.utils.image_grid import title_bar, to_height
    rows = []
    for name in names:
        images = [cast('Tensor', CorruptedImages(dataset, name, strength)[0]['inputs']).permute(1, 2, 0).numpy()
                  for strength in STRENGTHS]
        label = np.pad(title_bar(name, 160), ((84, 84), (0, 0), (0, 0)), constant_values=255)
        rows.append([label, *(to_height(image, 192) for image in images)])
    return rows
