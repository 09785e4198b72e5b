"""Measures continued pretraining and distillation with small ViTs on CIFAR-10: the tables of docs/pretraining.md.

    python tools/studies/continued_pretraining.py CIFAR10 CAMVID WORK_DIR

CIFAR10 has {train,val}/CLASS/*.jpg, and CAMVID is a folder of images. Run it again to continue. It pretrains small MAEs
one after the other, judges their frozen encoders by nearest neighbors and by a linear probe, and prints means and
standard deviations over three seeds. A seed determines the pretraining and the choice of the labeled images.
"""
import argparse
import json
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mae_backbone.cli.main import main

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = (0, 1, 2)
IMAGES = dict(train=500, val=200)     # of each class: 5,000 images for pretraining and labels, 2,000 for the test
LABELS = (0.1, 1.0)                   # of the 5,000 images: 1 and 10 % of CIFAR-10
ITERS, SOURCE_ITERS, FROZEN_ITERS = 400, 800, 100
NANO, DISTILLED = 'mae_vit-nano_cifar10', 'mae_vit-nano-distilled_cifar10'
TEACHER = ('model.encoder.arch.width=128', 'model.encoder.arch.depth=6')
ATTENTION = 'model.teacher.type=mae_backbone.AttentionDistillation'


class Run(NamedTuple):
    """A pretraining: arguments of `mae-backbone pretrain`, without its data, length and work directory."""

    name: str
    config: str
    seed: int
    pretrained: Path | None = None
    options: tuple[str, ...] = ()
    iters: int = ITERS
    camvid: bool = False


def runs(work_dir: Path) -> Iterator[Run]:
    """All runs, in an order in which the files that a run needs exist."""
    source, teacher = work_dir / 'source_0', work_dir / 'teacher_0'
    encoder = work_dir / 'source_encoder.pth'
    yield Run('source', NANO, 0, iters=SOURCE_ITERS, camvid=True)
    yield Run('teacher', NANO, 0, options=TEACHER, iters=SOURCE_ITERS)
    for seed in SEEDS:
        taught = (f'model.teacher.checkpoint={teacher}/iter_{SOURCE_ITERS}.pth',)
        yield Run('scratch', NANO, seed)
        yield Run('continued', NANO, seed, source / f'iter_{SOURCE_ITERS}.pth')
        yield Run('features', DISTILLED, seed, options=taught)
        yield Run('new decoder', NANO, seed, encoder)
        yield Run('new decoder, frozen first', NANO, seed, encoder,
                  options=(f'model.freeze_encoder_iters={FROZEN_ITERS}',))
        yield Run('attention', DISTILLED, seed, options=(*taught, ATTENTION))
        # Weights at which both losses start about equal.
        yield Run('features, weight 10', DISTILLED, seed, options=(*taught, 'model.teacher.weight=10'))
        yield Run('attention, weight 50', DISTILLED, seed, options=(*taught, ATTENTION, 'model.teacher.weight=50'))


def pretrain(run: Run, folder: Path, images: Path, camvid: Path) -> Path:
    """Pretrains, unless it is done, and returns the checkpoint."""
    checkpoint = folder / f'iter_{run.iters}.pth'
    if not checkpoint.is_file():
        crops = ('train_dataloader.dataset.scale=(0.016,0.066)',) * run.camvid
        code = main(['pretrain', run.config, '--data-root', str(camvid if run.camvid else images / 'train'),
                     '--work-dir', str(folder), '--resume', '--iters', str(run.iters), '--seed', str(run.seed),
                     *(['--pretrained', str(run.pretrained), '--weights-heads', '4'] if run.pretrained else []),
                     '--cfg-options',
                     'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
                     'default_hooks.health=None', 'custom_hooks=[]', 'default_hooks.checkpoint.interval=100',
                     *crops, *run.options])
        if code:
            raise SystemExit(code)
    return checkpoint


def evaluate(checkpoint: Path, images: Path, seed: int, *, random: bool = False) -> dict[str, float]:
    """Top-1 of the frozen encoder, in percent, by probe and number of labels; with `random` of random weights."""
    import torch

    from mae_backbone.checkpoints.architecture import architecture_in
    from mae_backbone.checkpoints.reading import read_content
    from mae_backbone.evaluation.feature_cache import Features
    from mae_backbone.transfer import probes
    from mae_backbone.transfer.frozen_encoder import build_frozen, normalized
    architecture = architecture_in(read_content(checkpoint), checkpoint)._asdict()
    model = build_frozen(architecture, None if random else checkpoint, seed=seed)

    @torch.no_grad()
    def features(split: str) -> Features:
        pixels, labels = load_images(images, split)
        batches = [normalized(model, list(batch)) for batch in pixels.split(256)]
        return Features(torch.cat([model.backbone.encode(model.backbone.embed(batch))[:, 1:].mean(1)
                                   for batch in batches]), labels)

    train, test = features('train'), features('val')
    values = {}
    for fraction in LABELS:
        rows = probes.labeled_rows(str(images), fraction, seed)
        labeled = train if rows is None else train.select(rows)
        values[f'k-NN, {len(labeled.labels)} labels'] = probes.knn(labeled, test, seed=seed)['values']['top-1']
        linear = probes.trained(probes.linear_probe, labeled, test, seed=seed, epochs=30)
        values[f'linear, {len(labeled.labels)} labels'] = linear['values']['top-1']
    return values


@cache
def load_images(images: Path, split: str) -> 'tuple[Tensor, Tensor]':
    """All images (N, 3, 32, 32) uint8 of a split, and their labels (N,)."""
    import torch

    from mae_backbone.data.class_folder import ClassFolder
    items = list(ClassFolder(images, split, train=False, image_size=32))
    return torch.stack([item['inputs'] for item in items]), torch.tensor([item['data_samples'] for item in items])


def take_subset(cifar10: Path, folder: Path) -> Path:
    """Links to the first images of each class."""
    for split, number in IMAGES.items():
        for path in sorted(p for kind in sorted((cifar10 / split).iterdir()) for p in sorted(kind.iterdir())[:number]):
            link = folder / split / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(path.resolve())
    return folder


def write_encoder(checkpoint: Path, target: Path) -> None:
    """Writes a checkpoint without its decoder."""
    import torch

    from mae_backbone.checkpoints.run_files import read_run
    content = read_run(checkpoint)
    weights = {name: value for name, value in content['state_dict'].items() if not name.startswith('mae.decoder.')}
    torch.save(dict(state_dict=weights, meta={}), target)


def print_table(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Means and standard deviations over the seeds that are finished."""
    columns = list(next(iter(next(iter(results.values())).values())))
    print('| run | seeds | ' + ' | '.join(columns) + ' |\n|---|---|' + '---|' * len(columns))
    for name, by_seed in results.items():
        cells = [[values[column] for values in by_seed.values()] for column in columns]
        print(f'| {name} | {len(by_seed)} | ' + ' | '.join(
            f'{statistics.mean(cell):.1f}' + (f' ± {statistics.stdev(cell):.1f}' if len(cell) > 1 else '')
            for cell in cells) + ' |')


def measure() -> None:
    """Runs what is not finished, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('cifar10', type=Path)
    parser.add_argument('camvid', type=Path)
    parser.add_argument('work_dir', type=Path)
    args = parser.parse_args()
    work_dir = args.work_dir.absolute()
    images = take_subset(args.cifar10, work_dir / 'images')
    results: dict[str, dict[str, dict[str, float]]] = {}
    for run in runs(work_dir):
        folder = work_dir / f'{run.name.replace(", ", "_").replace(" ", "_")}_{run.seed}'
        checkpoint, result = pretrain(run, folder, images, args.camvid), folder / 'result.json'
        if run.name == 'source' and not (work_dir / 'source_encoder.pth').is_file():
            write_encoder(checkpoint, work_dir / 'source_encoder.pth')
        if not result.is_file():
            result.write_text(json.dumps(evaluate(checkpoint, images, run.seed)))
        results.setdefault(run.name, {})[str(run.seed)] = json.loads(result.read_text())
        if run.name == 'scratch':
            values = evaluate(checkpoint, images, run.seed, random=True)
            results.setdefault('random weights', {})[str(run.seed)] = values
        print_table(results)


if __name__ == '__main__':
    measure()
