"""Our ViT and our backbone in one small size, to compare with models of other libraries."""
from mae_backbone.core.vit import ViT
from mae_backbone.models.backbone import ViTBackbone

WIDTH, DEPTH, HEADS, PATCH, SIZE = 64, 2, 4, 8, 32
ARCH = dict(width=WIDTH, depth=DEPTH, heads=HEADS)


def vit(**options) -> ViT:
    """Our ViT of the size that all tests here use."""
    return ViT(**dict(arch=ARCH, image_size=SIZE, patch_size=PATCH) | options).eval()


def backbone(**options) -> ViTBackbone:
    """Our backbone without class token, of the same size."""
    return ViTBackbone(**dict(arch=ARCH, image_size=SIZE, patch_size=PATCH) | options).eval()
