"""Reads class folders without splits, and CSV lists: writes lists of images into the cache, for ClassFolder."""
import os
from pathlib import Path

from mmengine.config import Config

from mae_backbone.data.labeled import layout
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec
from mae_backbone.formats.layout_cache import is_written, layout_folder, write_once, write_record
from mae_backbone.formats.layouts.class_lists import ClassSet, check_classes, find_class_images
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES, LabeledImage, LabeledObject, LabeledSet
from mae_backbone.formats.layouts.registry import find_layout
from mae_backbone.formats.layouts.splits import MadeSplit, make_validation

FORMAT = ClassFolders


def is_missing(spec: DatasetSpec) -> bool:
    """True if the split in the config has a usual name, and its folder, list or shards do not exist."""
    split = spec.option('split') or ''
    return not is_written(spec.root) and split in SPLIT_NAMES and layout(Path(spec.root), split) == 'folders' and (
        not Path(spec.root, split).is_dir())


def is_odd(spec: DatasetSpec) -> bool:
    """Returns False: class folders, lists and shards that exist can always be read as they are."""
    return False


def use(cfg: Config, root: str, specs: list[DatasetSpec], pattern: str) -> list[str]:
    """Changes data sets so that they read lists in the cache. Returns lines for the plan; none without images.

    Raises:
        DataError: the lists cannot be read, or the labels are boxes.
    """
    layout = find_layout(root)
    found = find_class_images(Path(root)) if layout is None else None
    if layout:
        raise DataError(f'{root} has labels in the layout of {layout.name}, which configs of detection read, such as '
                        f'faster-rcnn_vit-micro_nuclei. For a class of each image: mae-backbone import {root} DST '
                        '--to folders')
    if found is None:
        return []
    made = split_images(found, pattern=pattern)
    check_classes(found)
    top, names = os.path.abspath(root), found.names
    numbers = {name: label for label, name in enumerate(names)}
    # The lists have numbers instead of names, so that names that consist of digits keep their order.
    texts = {split: ''.join(f'{os.path.join(top, image.image)}\t{numbers[image.name]}\n' for image in found.images
                            if image.split == split) for split in SPLITS}
    texts = {split: text for split, text in texts.items() if text}
    classes = '\n'.join(names) + '\n'
    folder, lines = layout_folder([*texts.values(), classes]), found.lines()
    for split, text in texts.items():
        write_once(folder / f'{split}.txt', text)
    write_once(folder / 'classes.txt', classes)
    if made:
        lines.append(f'{made.line}; lists in {write_record(folder, made.record)}')
    for spec in specs:
        # The labeled images for k-NN are in the config of the test, but they are training images.
        split = SPLIT_NAMES.get(spec.option('split') or '', spec.split)
        if spec.split == 'test' and split == 'val' and 'test' in texts:
            split = 'test'
            lines.append(f'test: the split of the data named test, {folder / "test.txt"}')
        spec.cfg.update(data_root=str(folder), split=split)
    return lines


def split_images(found: ClassSet, *, pattern: str = '') -> MadeSplit | None:
    """Makes a validation split if the images have none. Changes `found.images`. See `make_validation`."""
    images = [LabeledImage(image.image, (0, 0), [LabeledObject(image.name, (0, 0, 1, 1))], image.split, image.group)
              for image in found.images]
    labeled = LabeledSet(found.root, found.layout, found.names, images)
    made = make_validation(labeled, pattern=pattern)
    found.images = [image._replace(split=other.split) for image, other in zip(found.images, labeled.images,
                                                                             strict=True)]
    return made
