"""The refusal of data that cannot be trained on, before a model is built: what is wrong, how often, what to do."""
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import TRANSFORMS

from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.data.files import list_images
from mae_backbone.data.labeled import Labeled, layout, open_labeled
from mae_backbone.data.sources import open_source
from mae_backbone.formats.coco import check_coco, read_coco
from mae_backbone.formats.dataset_spec import (
    SPLITS,
    DataError,
    Source,
    class_folders,
    dicts_in,
    does_not_exist,
    evenly,
    some,
    sources,
)
from mae_backbone.formats.label_maps import check_label_maps, pairs_of

DECODED = 50  # images of a data set that are decoded, at even distances


def check_data(cfg: Config, *, splits: Sequence[str] = SPLITS) -> list[str]:
    """Looks at what the dataloaders of a config will read; returns lines that say what there is.

    Understood are mmdet's CocoDataset, mmseg's BaseSegDataset, their subclasses that read files in the same way, and
    the data sets of this package. Call `fit_classes` first: the data are held against the classes of the config.

    Args:
        cfg: of a run of MMEngine's Runner.
        splits: some of 'train', 'val', 'test'.

    Raises:
        DataError: the data cannot be trained on or tested with.
        ValueError, OSError: a folder for pretraining has no images, or cannot be read.
    """
    lines, seen = [], {}
    for source in [source for split in splits for source in sources(cfg, split)]:
        needs = _needs_masks(cfg, source), _needs_labels(cfg, source.split)
        place = (source.cls, source.root, source.annotations, str(source.option('data_prefix')),
                 source.option('split'), *needs)
        if place not in seen:
            lines += _check(source, *needs)
        elif seen[place] != source.split:
            lines.append(f'{source.split}: the same data as {seen[place]}')
        seen.setdefault(place, source.split)
    for split in splits:
        _check_evaluators(cfg, split)
    return lines


def _check(source: Source, masks: bool, labeled: bool) -> list[str]:
    if not source.kind or not source.is_local or not (labeled or source.kind == 'coco'):
        return [f'{source.split}: {source.cfg.get("type")} in {source.root}, not looked at']
    if source.kind == 'unlabeled':
        return [f'{source.split}: {_count_unlabeled(source):,} images']
    if source.root and not os.path.isdir(source.root):
        raise DataError(f'{source.root} is a file, wanted the folder of the data (unpack an archive first): give it '
                        'with --data-root DIR' if os.path.exists(source.root.rstrip('/')) else
                        f'{does_not_exist(source.root)}: give the folder of the data with --data-root DIR')
    if source.kind == 'coco':
        return check_coco(source, masks=masks, labeled=labeled) + _check_coco_images(source)
    if source.kind == 'label maps':
        pairs = pairs_of(source)
        decode_some(source.split, [image for image, _ in pairs])
        return check_label_maps(source, pairs)
    return _check_class_folders(source)


def _count_unlabeled(source: Source) -> int:
    root, reader = source.option('data_root'), source.option('reader') or dict(type='mae_backbone.ColorReader')
    if isinstance(root, str) and not os.path.exists(root):
        raise DataError(f'{does_not_exist(root)}: give the folder of the images, a list of them or shards with '
                        '--data-root DIR')
    return len(open_source(root or '', suffixes=TRANSFORMS.build(reader).suffixes))


def decode_some(split: str, paths: Sequence[str | Path]) -> dict[str | Path, tuple[int, int]]:
    """Reads `DECODED` of the images at even distances -> their (width, height).

    Raises:
        DataError: one of them cannot be read.
    """
    drawn = evenly(paths, DECODED)
    with ThreadPoolExecutor(8) as pool:
        results = dict(zip(drawn, pool.map(_size_or_error, drawn), strict=True))
    errors = [result for result in results.values() if isinstance(result, Exception)]
    if errors:
        raise DataError(f'{split}: {len(errors)} of {len(drawn)} images looked at cannot be read: '
                        + '; '.join(str(error) for error in errors[:3]))
    return results


def _size_or_error(path: str | Path) -> tuple[int, int] | Exception:
    try:
        height, width, _ = read_image(path).shape
    except (BadImageError, OSError) as error:
        return error
    return width, height


def _check_coco_images(source: Source) -> list[str]:
    """Decodes some images and compares them with what the annotation file says; there is nothing to print."""
    stated = {os.path.join(source.folder('img'), name): (width, height)
              for name, width, height in read_coco(source.annotations).images.values()}
    sizes = decode_some(source.split, list(stated))
    wrong = [f'{path}: {stated[path][0]}x{stated[path][1]} stated, {width}x{height} read'
             for path, (width, height) in sizes.items() if stated[path] != (width, height)]
    if wrong:
        raise DataError(f'{source.split}: {len(wrong)} of {len(sizes)} images looked at have another size than '
                        f'{source.annotations} says ({"; ".join(wrong[:3])}): the boxes would not fit; annotate the '
                        'images as they are now, or bring back those that were annotated (unscaled; turned as their '
                        'EXIF data say)')
    return []


def _check_class_folders(source: Source) -> list[str]:
    split = source.option('split') or ''
    if layout(Path(source.root), split) != 'folders':
        return _check_labeled(source, open_labeled(Path(source.root), split, source.classes or None))
    found = class_folders(source)
    folder = Path(source.root, split)
    if not folder.is_dir():
        raise DataError(f'the {source.split} split {does_not_exist(str(folder))}: set split of the data set, or give '
                        'the folder of the data with --data-root DIR')
    if not found:
        raise DataError(f'{folder} has no class folders: wanted the images of each class in a folder of its name')
    missing, extra = sorted(set(source.classes) - set(found)), sorted(set(found) - set(source.classes))
    if source.classes and (missing or extra):
        raise DataError(f'{folder} has other class folders than training: {len(missing)} are missing '
                        f'({some(missing)}), {len(extra)} are unknown ({some(extra)}): add, rename or remove folders')
    images = {name: _images(folder / name) for name in found}
    empty = [name for name, paths in images.items() if not paths]
    if empty:
        raise DataError(f'{len(empty)} of the {len(found)} class folders of {folder} hold no images ({some(empty)}): '
                        'add images, or remove these folders from all splits')
    paths = [path for name in found for path in images[name]]
    decode_some(source.split, paths)
    return [f'{source.split}: {len(paths):,} images of {len(found)} classes']


def _check_labeled(source: Source, found: Labeled) -> list[str]:
    """A list or shards: `open_labeled` has compared its classes; some of a list's images are decoded."""
    if found.shards is None:
        decode_some(source.split, [os.fsdecode(name) for name in found.files])
    return [f'{source.split}: {len(found.labels):,} images of {len(set(found.labels.tolist()))} classes']


def _images(folder: Path) -> list[Path]:
    try:
        return list_images(folder)
    except ValueError:  # none
        return []


# ---- what the config asks for

def _needs_masks(cfg: Config, source: Source) -> bool:
    """Whether the pipeline or the evaluation of a data set needs segmentations."""
    loads = any(step.get('with_mask') for step in dicts_in(source.cfg.get('pipeline')))
    return loads or any('segm' in evaluator.get('metric', ()) for evaluator in _evaluators(cfg, source.split))


def _needs_labels(cfg: Config, split: str) -> bool:
    """False where predictions are only written down."""
    evaluators = _evaluators(cfg, split)
    return not (evaluators and all(evaluator.get('format_only') for evaluator in evaluators))


def _evaluators(cfg: Config, split: str) -> list[ConfigDict]:
    evaluators = cfg.get(f'{split}_evaluator') or []
    return [evaluators] if isinstance(evaluators, dict) else list(evaluators)


def _check_evaluators(cfg: Config, split: str) -> None:
    """CocoMetric and LVISMetric read an annotation file of their own: its images must be those that are predicted."""
    read = sources(cfg, split)
    for evaluator in _evaluators(cfg, split):
        path = evaluator.get('ann_file')
        if (not path or len(read) != 1 or read[0].kind != 'coco' or not read[0].is_local
                or not str(evaluator.get('type')).endswith(('CocoMetric', 'LVISMetric'))):
            continue
        if read_coco(path).images.keys() != read_coco(read[0].annotations).images.keys():
            raise DataError(f'{split}_evaluator.ann_file is {path}, with other images than {read[0].annotations}, '
                            f'which {split}_dataloader reads: set both to the same file')
