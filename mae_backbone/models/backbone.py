"""The ViT as mmdet and mmseg see a backbone: images -> feature maps."""
from collections.abc import Sequence

from torch import Tensor, nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.core.vit import ViT
from mae_backbone.registry import MODELS


@MODELS.register_module()
class ViTBackbone(ViT):
    """Plain ViT for dense tasks: `type='mae_backbone.ViTBackbone'`.

    Args:
        arch: as in `ViT`.
        out_indices: the blocks whose output is given out, one map each; -1 is the last.
        frozen_stages: -1 trains all; 0 freezes the embedding; k freezes the embedding with the first k blocks, and all
            of them the norm after them too; half a block more is the attention of the next one.
        init_cfg: dict(type='Pretrained', checkpoint=PATH) starts from a checkpoint of tools/pretrain.py or of the
            public MAE code. Whatever does not fit stops the run.
        options: all other arguments of `ViT`; here class_token and final_norm are False, as in ViTDet.

    Raises:
        ValueError: an option that does not exist, or a checkpoint that does not fit.
    """

    def __init__(self, arch: str | dict = 'base', *, out_indices: Sequence[int] = (-1,), frozen_stages: float = -1,
                 init_cfg: dict | None = None, class_token: bool = False, final_norm: bool = False, **options) -> None:
        super().__init__(arch, class_token=class_token, final_norm=final_norm, **options)
        depth = self.arch.depth
        if any(not -depth <= i < depth for i in out_indices):
            raise ValueError(f'out_indices={tuple(out_indices)}, the {depth} blocks are numbered from 0')
        if frozen_stages != -1 and not (0 <= frozen_stages <= depth and frozen_stages % 0.5 == 0):
            raise ValueError(f'frozen_stages={frozen_stages}, wanted -1 (none) to {depth} (all blocks)')
        if init_cfg is not None and (init_cfg.get('type') != 'Pretrained' or 'checkpoint' not in init_cfg):
            raise ValueError(f"init_cfg={init_cfg}, wanted dict(type='Pretrained', checkpoint=PATH) or None")
        self.out_indices, self.frozen_stages, self.init_cfg = tuple(out_indices), frozen_stages, init_cfg
        for part in self.frozen_parts():
            part.requires_grad_(False)
        for tokens in (self.pos_embed, self.cls_token) if frozen_stages >= 0 else ():
            if tokens is not None:
                tokens.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, C, H, W) -> maps (B, D, h, w), one for each of `out_indices`."""
        return tuple(self.feature_maps(images, self.out_indices))

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; MMEngine's Runner calls it once before training."""
        if self.init_cfg is not None:
            load_encoder(self, self.init_cfg['checkpoint'])

    def train(self, mode: bool = True) -> 'ViTBackbone':
        """Frozen parts stay in evaluation mode, so that they drop no path."""
        super().train(mode and self.frozen_stages < len(self.blocks))
        for part in self.frozen_parts():
            part.eval()
        return self

    def frozen_parts(self) -> list[nn.Module]:
        """The modules that `frozen_stages` keeps from training."""
        if self.frozen_stages < 0:
            return []
        whole, half = divmod(self.frozen_stages, 1)
        last = [self.norm] if whole == len(self.blocks) else []
        if half:
            last = [self.blocks[int(whole)].norm1, self.blocks[int(whole)].attn]
        return [self.patch_embed, *self.blocks[:int(whole)], *last]
