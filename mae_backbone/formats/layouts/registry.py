"""The list of all layouts. To add one, write a file with a `LAYOUT` and list it here."""
from pathlib import Path

from mae_backbone.formats.layouts import coco_variants, csv_boxes, cvat, labelme, voc, yolo
from mae_backbone.formats.layouts.layout import Layout

# In the order in which they are tried.
LAYOUTS: tuple[Layout, ...] = (
    yolo.LAYOUT, cvat.LAYOUT, voc.LAYOUT, coco_variants.LAYOUT, csv_boxes.LAYOUT, labelme.LAYOUT)


def find_layout(root: str | Path) -> Layout | None:
    """Returns the layout that a folder has; None if it is not recognized."""
    folder = Path(root)
    return next((layout for layout in LAYOUTS if layout.detect(folder)), None) if folder.is_dir() else None
