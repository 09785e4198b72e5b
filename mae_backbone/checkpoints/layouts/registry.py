"""List of all layouts. To add one, write a subclass of `Layout` in its own file and add it to `LAYOUTS`."""
from collections.abc import Iterable, Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.foreign import HuggingFaceCLIP, HuggingFaceDINO, OpenCLIP, Registers
from mae_backbone.checkpoints.layouts.huggingface import HuggingFace, HuggingFaceBEiT, HuggingFaceIJEPA
from mae_backbone.checkpoints.layouts.layout import Layout, Names, prefixes_of
from mae_backbone.checkpoints.layouts.lightly import Lightly
from mae_backbone.checkpoints.layouts.openmmlab import MmdetViTDet, Mmpretrain, MmsegBEiT, MmsegViT
from mae_backbone.checkpoints.layouts.ours import Ours
from mae_backbone.checkpoints.layouts.public_mae import PublicMAE
from mae_backbone.checkpoints.layouts.sam import SegmentAnything, TimmSAM
from mae_backbone.checkpoints.layouts.self_supervised import DINO, IJEPA, MoCo
from mae_backbone.checkpoints.layouts.timm import Timm, TimmBEiT, TimmPatches
from mae_backbone.checkpoints.layouts.torchvision import Torchvision
from mae_backbone.checkpoints.layouts.vitdet import Detectron2, MmdetDetectron2

# Layouts in the order in which they are tried. Of layouts with the same anchor, the more special ones come first.
LAYOUTS: tuple[Layout, ...] = (
    HuggingFace(), HuggingFaceBEiT(), HuggingFaceIJEPA(),
    MmsegBEiT(), MmsegViT(), MmdetViTDet(), Mmpretrain(),
    Torchvision(),
    Ours(), SegmentAnything(), TimmSAM(), Detectron2(), MmdetDetectron2(), IJEPA(), MoCo(), DINO(), Lightly(),
    TimmBEiT(), PublicMAE(), Registers(), TimmPatches(), Timm(),
    OpenCLIP(), HuggingFaceCLIP(), HuggingFaceDINO(),
)


def layout(name: str) -> Layout:
    """Returns the layout with a name. Raises ValueError if there is none."""
    for candidate in LAYOUTS:
        if candidate.name == name:
            return candidate
    raise ValueError(f'no layout {name!r}; expected one of {", ".join(candidate.name for candidate in LAYOUTS)}')


def find_layouts(names: Iterable[str], content: Mapping[str, Any]) -> dict[str, Layout]:
    """Returns the layout of each ViT in a file, by its prefix.

    Args:
        names: names of the tensors of the file.
        content: top level of the file.
    """
    names, found = list(names), {}
    for candidate in LAYOUTS:
        for prefix in prefixes_of(candidate.anchor, names):
            if prefix not in found and candidate.matches(Names.split(names, prefix), content):
                found[prefix] = candidate
    return found
