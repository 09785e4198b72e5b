"""The list of all layouts. To add one, write a file with a `LAYOUT` and list it here."""
from pathlib import Path

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import coco_variants, createml, csv_boxes, cvat, jsonl_boxes, labelme, via, voc, yolo
from mae_backbone.formats.layouts.labeled_set import LabeledSet
from mae_backbone.formats.layouts.layout import Layout
from mae_backbone.formats.messages import first_few

# In the order in which they are tried.
LAYOUTS: tuple[Layout, ...] = (
    yolo.LAYOUT, cvat.LAYOUT, voc.LAYOUT, coco_variants.LAYOUT, csv_boxes.LAYOUT, labelme.LAYOUT, via.LAYOUT,
    createml.LAYOUT, jsonl_boxes.LAYOUT)


def read_layout(root: str | Path) -> LabeledSet | None:
    """Reads a folder in the layout that it has; None if it is not recognized.

    Raises:
        DataError: the labels cannot be used, or no image has an object.
    """
    layout = find_layout(root)
    if layout is None:
        return None
    labeled = layout.read(Path(root))
    if not labeled.images:
        raise DataError(f'{root}: the labels, which have the layout of {layout.name}, name no image: label objects, or '
                        'remove the labels if the images are for pretraining')
    if not any(image.objects for image in labeled.images):
        raise DataError(f'{root}: none of the {len(labeled.images):,} images has an object in its labels '
                        f'({first_few(image.file_name for image in labeled.images)}), which have the layout of '
                        f'{layout.name}: label objects, or remove the labels if the images are for pretraining')
    return labeled


def find_layout(root: str | Path) -> Layout | None:
    """Returns the layout that a folder has; None if it is not recognized."""
    folder = Path(root)
    return next((layout for layout in LAYOUTS if layout.detect(folder)), None) if folder.is_dir() else None
