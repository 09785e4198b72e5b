"""ViTDet's backbone of detectron2."""
import argparse
import warnings
from functools import partial
from typing import Any

from torch import Tensor, nn

from mae_backbone.benchmark.peers.detectron2_code import Detectron2
from mae_backbone.benchmark.peers.peer import BackbonePeer
from mae_backbone.benchmark.reference_vitdet import PATCH, WINDOW, global_blocks
from mae_backbone.core.vit import ARCHS


class Detectron2ViT(Detectron2, BackbonePeer):
    """`detectron2.modeling.ViT`."""

    form = 'N x N table'

    def build(self, args: argparse.Namespace, size: int, weights: dict[str, Tensor]) -> nn.Module:
        """Builds the ViT as in detectron2's configs of ViTDet (`mask_rcnn_vitdet.py`), without dropped paths."""
        arch = ARCHS[args.arch]
        blocks = [i for i in range(arch.depth) if i not in global_blocks(arch.depth)]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # it uses deprecated functions of timm
            model = self.module('detectron2.modeling.backbone.vit').ViT(
                img_size=size, patch_size=PATCH, embed_dim=arch.width, depth=arch.depth, num_heads=arch.heads,
                norm_layer=partial(nn.LayerNorm, eps=1e-6), window_size=WINDOW, window_block_indexes=blocks,
                use_rel_pos=True, out_feature='last_feat')
        model.load_state_dict(weights)
        return _Maps(model)


class _Maps(nn.Module):
    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return self.vit(images)['last_feat'],
