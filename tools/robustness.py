"""A classifier on sets that differ from that of its training: ImageNet-A, -R, -Sketch, -V2, -C, or corrupted images.

    python tools/robustness.py CONFIG CHECKPOINT imagenet-a imagenet-r imagenet-c --data-root DIR
    python tools/robustness.py CONFIG CHECKPOINT --corrupt --data-root DIR

--corrupt makes the test images of the config worse in nine ways at five strengths; they are ours, and not the files of
ImageNet-C. With sets alone the test images may be missing. Killed and started again, it repeats nothing that was
measured.
"""
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.cli import common as cli
from mae_backbone.data.files import checked_size
from mae_backbone.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Corrupted
from mae_backbone.evaluation.feature_cache import fingerprint as weights_print
from mae_backbone.evaluation.imagenet_variants import SetImages, find_sets, fingerprint, unless_cut_out
from mae_backbone.evaluation.robustness import Table, accuracies, as_markdown, check_names
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.utils.image_grid import save_picture, side_by_side, title_bar, to_height


def main() -> None:
    parser = cli.run_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of tools/train.py')
    parser.add_argument('sets', nargs='*', metavar='FOLDER', help='a set, or a folder of sets')
    parser.add_argument('--corrupt', nargs='*', metavar='NAME', choices=[*CORRUPTIONS],
                        help=f'corruptions to make, by default all: {", ".join(CORRUPTIONS)}')
    parser.add_argument('--workers', type=int, default=2, help='processes that read images (default: 2)')
    args = parser.parse_args()
    cfg = cli.load_config(args)
    data = cfg.test_dataloader.dataset
    root = str(data.get('data_root', ''))
    with_test = not args.sets or args.corrupt is not None or args.data_root or Path(root).exists()
    for line in cli.data_lines(cfg, ['test']) if with_test else [f'test: {root} does not exist, the sets alone']:
        cli.say(line)
    cli.make_folder(cfg.work_dir, '--work-dir')
    predictor = Predictor(cfg, args.checkpoint)
    if predictor.task != 'classification':
        raise ValueError(f'{args.config} is of {predictor.task}, wanted a classifier')
    found = [one for folder in args.sets for one in find_sets(folder, predictor.classes)]
    check_names(['test', *(one.name for one in found)])
    size = data.get('image_size', 224)
    table = Table(Path(cfg.work_dir, 'robustness.json'), {
        'weights': weights_print(predictor.net), 'transform': repr((size, data.get('augment')))})

    def measure(name: str, images: Dataset, labels: np.ndarray, **of: str) -> None:
        row = table.add(name, of, lambda: accuracies(predictor.net, images, labels, workers=args.workers,
                                                     batch_size=cfg.test_dataloader.batch_size))
        cli.say(f'{name}: top-1 {row["top-1"]:.1f}, top-5 {row["top-5"]:.1f}, {row["images"]:,} images')

    if with_test:
        test = DATASETS.build(data)
        of = {'folder': root, 'files': fingerprint(test.files, test.labels)}
        measure('test', test, test.labels, **of)

    def prepare(image: np.ndarray) -> Tensor:
        return predictor.prepare(image)['inputs']

    for one in found:
        images = SetImages(one, unless_cut_out(prepare, checked_size(size)) if one.is_corrupted else prepare)
        measure(one.name, images, images.labels, folder=str(one.folder.absolute()),
                files=fingerprint(images.files, images.labels))
    names = [] if args.corrupt is None else args.corrupt or [*CORRUPTIONS]
    for name in names:
        for strength in STRENGTHS:
            measure(f'corrupted/{name}/{strength}', Corrupted(test, name, strength), test.labels, **of)
    if names:
        picture = Path(cfg.work_dir, 'corruptions.png')
        save_picture(str(picture), side_by_side(examples(test, names), ['', *(f'strength {s}' for s in STRENGTHS)]))
        cli.say(f'what they do to an image: {picture}')
    text = as_markdown(table.rows)
    Path(cfg.work_dir, 'robustness.md').write_text(text, encoding='utf-8')
    cli.say(f'\n{text}\nwritten to {cfg.work_dir}/robustness.md and robustness.json')


def examples(dataset: Dataset, names: list[str]) -> list[list[np.ndarray]]:
    """The first image of a set, a row (192, W, 3) of all strengths for each corruption, behind its name."""
    rows = []
    for name in names:
        images = [Corrupted(dataset, name, strength)[0]['inputs'].permute(1, 2, 0).numpy() for strength in STRENGTHS]
        label = np.pad(title_bar(name, 160), ((84, 84), (0, 0), (0, 0)), constant_values=255)
        rows.append([label, *(to_height(image, 192) for image in images)])
    return rows


if __name__ == '__main__':
    cli.tool(main, again='run the same command again')
