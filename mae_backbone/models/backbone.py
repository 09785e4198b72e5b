"""The ViT as a backbone of mmdet and mmseg: images -> feature maps."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from mae_backbone.checkpoints.adapters import merged_weights
from mae_backbone.checkpoints.conversion.describe import architecture_of, arguments_of, encoder_arguments
from mae_backbone.checkpoints.conversion.model import Origin, StoredModel
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.hub import HubMixin
from mae_backbone.core.vit import ViT
from mae_backbone.models.lora import add_lora
from mae_backbone.registry import MODELS

Self = TypeVar('Self', bound='ViTBackbone')


@MODELS.register_module()
class ViTBackbone(HubMixin, ViT):
    """Plain ViT for dense tasks: `type='mae_backbone.ViTBackbone'`.

    Args:
        arch: as in `ViT`.
        out_indices: indices of the blocks whose output is returned, one map each; -1 is the last block.
        frozen_stages: -1 trains everything; 0 freezes the embedding and a shared relative bias; k also freezes the
            first k blocks, and with all blocks the norm after them. k + 0.5 also freezes the attention of the next
            block.
        lora: trains low-rank matrices next to the frozen weights of all blocks, see `add_lora`: dict(rank=8), and
            `targets` for some of the layers. Not together with `frozen_stages`.
        init_cfg: dict(type='Pretrained', checkpoint=PATH) loads a file or a folder of any layout, see `load_encoder`.
            It may also have `weights_key` and `heads`, the `key` and `heads` of that function. Weights for another
            number of channels than `in_channels` are adapted.
        options: all other arguments of `ViT`. class_token and final_norm are False by default, as in ViTDet.

    Raises:
        ValueError: an option is out of its range, or the checkpoint does not fit.
    """

    def __init__(self, arch: str | dict = 'base', *, out_indices: Sequence[int] = (-1,), frozen_stages: float = -1,
                 lora: Mapping[str, Any] | None = None, init_cfg: dict | None = None, class_token: bool = False,
                 final_norm: bool = False, **options: Any) -> None:
        super().__init__(arch, class_token=class_token, final_norm=final_norm, **options)
        depth = self.arch.depth
        if not out_indices or any(not -depth <= i < depth for i in out_indices):
            raise ValueError(f'out_indices={tuple(out_indices)}, the {depth} blocks are numbered from 0')
        if frozen_stages != -1 and not (0 <= frozen_stages <= depth and frozen_stages % 0.5 == 0):
            raise ValueError(f'frozen_stages={frozen_stages}, expected -1 (none) to {depth} (all blocks)')
        if init_cfg is not None and (init_cfg.get('type') != 'Pretrained' or 'checkpoint' not in init_cfg
                                     or not set(init_cfg) <= {'type', 'checkpoint', 'weights_key', 'heads'}):
            raise ValueError(f"init_cfg={init_cfg}, expected dict(type='Pretrained', checkpoint=PATH), with "
                             'weights_key=KEY or heads=N if needed, or None')
        self.out_indices, self.frozen_stages, self.init_cfg = tuple(out_indices), frozen_stages, init_cfg
        for module in self.frozen_modules():
            module.requires_grad_(False)
        for tokens in (self.pos_embed, self.cls_token) if frozen_stages >= 0 else ():
            if tokens is not None:
                tokens.requires_grad_(False)
        if lora is not None:
            if frozen_stages != -1:
                raise ValueError(f'frozen_stages={frozen_stages} with lora, which freezes all weights of the ViT '
                                 'already: leave one of the two out')
            add_lora(self, **lora)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, C, H, W) -> maps (B, D, h, w), one for each block in `out_indices`."""
        return tuple(self.feature_maps(images, self.out_indices))

    def tokens(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> tokens (B, 1 + L, D) after all blocks, class token first."""
        return self.encode(self.embed(images))

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; MMEngine's Runner calls it once before training."""
        if self.init_cfg is not None:
            load_encoder(self, self.init_cfg['checkpoint'], key=self.init_cfg.get('weights_key'),
                         heads=self.init_cfg.get('heads'), adapt_channels=True)

    def load_weights(self, path: str | Path) -> None:
        """Loads the encoder in a file, see `load_encoder`."""
        load_encoder(self, path)

    def train(self, mode: bool = True) -> 'ViTBackbone':
        """Keeps frozen modules in evaluation mode, so that they drop no path."""
        super().train(mode and self.frozen_stages < len(self.blocks))
        for module in self.frozen_modules():
            module.eval()
        return self

    def hub_arguments(self) -> dict[str, Any]:
        """Arguments of `ViTBackbone`; frozen stages, adapters and checkpoints to start from are left out."""
        return arguments_of(self) | dict(out_indices=list(self.out_indices))

    def hub_model(self, origin: Origin) -> StoredModel:
        """All weights, with adapters added to the weights that they adapt."""
        return StoredModel(merged_weights(self.state_dict()), architecture_of(self), origin)

    @classmethod
    def from_stored(cls: type[Self], model: StoredModel, path: Path, arguments: Mapping[str, Any],
                    heads: int | None) -> Self:
        """Builds a backbone for the encoder of a model, without class token and last norm unless asked for."""
        backbone = cls(**encoder_arguments(model.architecture) | dict(arguments))
        load_encoder(backbone, path, heads=heads)
        return backbone

    def frozen_modules(self) -> list[nn.Module]:
        """The modules that `frozen_stages` freezes."""
        if self.frozen_stages < 0:
            return []
        blocks = list(self.blocks)
        whole, half = int(self.frozen_stages), self.frozen_stages % 1
        modules: list[nn.Module] = [self.patch_embed, *blocks[:whole]]
        if self.rel_pos_bias is not None:  # the frozen blocks use it too
            modules.append(self.rel_pos_bias)
        if half:
            modules += blocks[whole].get_submodule('norm1'), blocks[whole].get_submodule('attn')
        elif whole == len(blocks):
            modules.append(self.norm)
        return modules
