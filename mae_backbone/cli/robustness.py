"""Evaluate a classifier on ImageNet-A, -R, -Sketch, -V2 and -C, or on corrupted test images.

--corrupt makes the test images of the config worse in nine ways at five strengths; these are not the files of
ImageNet-C. With FOLDERs only, the test images may be missing. After an interruption the same command continues.

examples:
  mae-backbone robustness CONFIG CHECKPOINT imagenet-a imagenet-r imagenet-c --data-root DIR
  mae-backbone robustness CONFIG CHECKPOINT --corrupt --data-root DIR
"""
import argparse
from typing import TYPE_CHECKING

from mae_backbone.cli.options import add_config_options, add_work_dir

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.utils.data import Dataset

RESUME_HINT = 'the same command continues'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command."""
    add_config_options(parser)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='checkpoint of `mae-backbone train`')
    parser.add_argument('sets', nargs='*', metavar='FOLDER', help='a set of images, or a folder of sets')
    group = parser.add_argument_group('evaluation')
    group.add_argument('--corrupt', nargs='*', metavar='NAME', help='corruptions to apply (default: all)')
    group.add_argument('--workers', type=int, default=2, metavar='N',
                       help='processes that read images (default: %(default)s)')
    add_work_dir(group)


def run(args: argparse.Namespace) -> None:
    """Runs the command."""
    from pathlib import Path

    from mmengine.registry import DATASETS

    from mae_backbone.cli.config import data_lines, load_config, make_folder
    from mae_backbone.cli.errors import log_rank0
    from mae_backbone.data.files import checked_size
    from mae_backbone.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Corrupted
    from mae_backbone.evaluation.feature_cache import fingerprint as weights_print
    from mae_backbone.evaluation.imagenet_variants import SetImages, find_sets, fingerprint, unless_cut_out
    from mae_backbone.evaluation.robustness import Table, accuracies, as_markdown, check_names
    from mae_backbone.prediction.predictor import Predictor
    from mae_backbone.utils.image_grid import save_picture, side_by_side

    corruptions = [] if args.corrupt is None else args.corrupt or [*CORRUPTIONS]
    if unknown := [name for name in corruptions if name not in CORRUPTIONS]:
        raise ValueError(f'--corrupt {" ".join(unknown)}: choose from {", ".join(CORRUPTIONS)}')
    cfg = load_config(args)
    data = cfg.test_dataloader.dataset
    root = str(data.get('data_root', ''))
    with_test = not args.sets or args.corrupt is not None or args.data_root or Path(root).exists()
    for line in data_lines(cfg, ['test']) if with_test else [f'test: {root} does not exist, only the sets are used']:
        log_rank0(line)
    make_folder(cfg.work_dir, '--work-dir')
    predictor = Predictor(cfg, args.checkpoint)
    if predictor.task != 'classification':
        raise ValueError(f'{args.config} is a config for {predictor.task}: pass the config of a classifier')
    variants = [variant for folder in args.sets for variant in find_sets(folder, predictor.classes)]
    check_names(['test', *(variant.name for variant in variants)])
    size = data.get('image_size', 224)
    table = Table(Path(cfg.work_dir, 'robustness.json'), {
        'weights': weights_print(predictor.net), 'transform': repr((size, data.get('augment')))})

    def measure(name: str, images: 'Dataset', labels: 'np.ndarray', **key: str) -> None:
        row = table.add(name, key, lambda: accuracies(predictor.net, images, labels, workers=args.workers,
                                                      batch_size=cfg.test_dataloader.batch_size))
        log_rank0(f'{name}: top-1 {row["top-1"]:.1f}, top-5 {row["top-5"]:.1f}, {row["images"]:,} images')

    def prepare(image: 'np.ndarray') -> 'Tensor':
        return predictor.prepare(image)['inputs']

    if with_test:
        test = DATASETS.build(data)
        test_key = {'folder': root, 'files': fingerprint(test.files, test.labels)}
        measure('test', test, test.labels, **test_key)
    for variant in variants:
        images = SetImages(variant, unless_cut_out(prepare, checked_size(size)) if variant.is_corrupted else prepare)
        measure(variant.name, images, images.labels, folder=str(variant.folder.absolute()),
                files=fingerprint(images.files, images.labels))
    for name in corruptions:
        for strength in STRENGTHS:
            measure(f'corrupted/{name}/{strength}', Corrupted(test, name, strength), test.labels, **test_key)
    if corruptions:
        figure = Path(cfg.work_dir, 'corruptions.png')
        titles = ['', *(f'strength {strength}' for strength in STRENGTHS)]
        save_picture(str(figure), side_by_side(_examples(test, corruptions), titles))
        log_rank0(f'examples of the corruptions: {figure}')
    text = as_markdown(table.rows)
    Path(cfg.work_dir, 'robustness.md').write_text(text, encoding='utf-8')
    log_rank0(f'\n{text}\nwritten to {cfg.work_dir}/robustness.md and robustness.json')


def _examples(dataset: 'Dataset', names: list[str]) -> 'list[list[np.ndarray]]':
    """The first image of a set at all strengths: for each corruption a row of images (192, W, 3), after its name."""
    import numpy as np

    from mae_backbone.evaluation.corruptions import STRENGTHS, Corrupted
    from mae_backbone.utils.image_grid import title_bar, to_height
    rows = []
    for name in names:
        images = [Corrupted(dataset, name, strength)[0]['inputs'].permute(1, 2, 0).numpy() for strength in STRENGTHS]
        label = np.pad(title_bar(name, 160), ((84, 84), (0, 0), (0, 0)), constant_values=255)
        rows.append([label, *(to_height(image, 192) for image in images)])
    return rows
