"""MAE as MMEngine's Runner sees a model."""
import importlib.util

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import BlockMasking, GridMasking, Mask, RandomMasking
from mae_backbone.core.vit import ViT
from mae_backbone.registry import MODELS
from mae_backbone.utils import device_scalars

# Configs name them as `masking=dict(type='mae_backbone.BlockMasking')`; the core knows no registry.
for masking in (RandomMasking, BlockMasking, GridMasking):
    MODELS.register_module(module=masking)


@MODELS.register_module()
class MAEPretrainer(BaseModel):
    """MAE pretraining: `type='mae_backbone.MAEPretrainer'`.

    Args:
        encoder: arguments of `ViT`.
        decoder_width, decoder_depth, decoder_heads, mask_ratio, norm_pix, predict_share: as in `MAE`.
        masking: config of a class of masks, which gets `mask_ratio` as its ratio unless it names its own. Those of this
            package are in masking.py. One of yours has `__init__(self, ratio)` and `__call__(self, noise, grid)` as
            `masking.Masking` says, is registered in mmengine.registry.MODELS, and is imported by `custom_imports`.
        compile: whether torch.compile makes one program of the step: 'auto' where it pays, True, or False. The log says
            which it was. Names of parameters stay.
        data_preprocessor: config of what puts images on the device and normalizes them.
    """

    def __init__(self, encoder: dict, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, masking: dict | None = None, norm_pix: bool | str = True,
                 predict_share: float = 1.0, compile: bool | str = 'auto',
                 data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        if compile not in ('auto', True, False):
            raise ValueError(f"compile={compile!r}, wanted 'auto', True or False")
        self.compile_when, self.compile_decided = compile, False
        # Positions stay the fixed sin-cos table in pretraining (public MAE code, `models_mae.py`).
        self.mae = MAE(ViT(**encoder, fixed_positions=True), decoder_width=decoder_width, decoder_depth=decoder_depth,
                       decoder_heads=decoder_heads, norm_pix=norm_pix, predict_share=predict_share,
                       masking=MODELS.build(masking or dict(type='mae_backbone.RandomMasking'),
                                            default_args=dict(ratio=mask_ratio)))

    def forward(self, inputs: Tensor, data_samples: object = None, seeds: Tensor | None = None,
                weights: Tensor | None = None, mask: Mask | None = None,
                mode: str = 'loss') -> dict[str, Tensor] | tuple[Tensor, Tensor] | Tensor:
        """inputs (B, C, H, W) -> the loss to train on; or, nothing hidden, tokens (B, 1 + L, D) or their mean (B, D).

        The loss comes with mode='loss', all tokens with 'tokens', the mean of those of the patches with 'tensor', what
        `MAE.reconstruct` gives with 'reconstruct': sharded weights are gathered for this call alone.
        seeds (B,), weights (B,) and mask are those of `MAE.forward`.
        """
        if mode == 'loss':
            if self.training and not self.compile_decided:
                self._decide_compile(inputs.device)
            return {'loss': self.mae(inputs, mask, seeds=seeds, weights=weights)[0]}
        if mode == 'reconstruct':
            return self.mae.reconstruct(inputs, mask)
        if mode in ('tokens', 'tensor'):
            tokens = self.mae.encoder.encode(self.mae.encoder.embed(inputs))
            return tokens if mode == 'tokens' else tokens[:, 1:].mean(dim=1)
        raise ValueError(f"mode={mode!r}: a MAE predicts no labels; wanted 'loss', 'tokens', "
                         "'tensor' or 'reconstruct'")

    def _decide_compile(self, device: torch.device) -> None:
        """Compiles before the first step, when the device is known."""
        chosen, why = compiles(self.compile_when, device)
        self.compile_decided = True
        if chosen:
            self.mae.compile()
        print_log(f'torch.compile: {"on" if chosen else "off"} ({why})', logger='current')

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict]:
        """The loss to train on, and nothing to log: the loss stays on the device until `DeviceLogHook` fetches it."""
        device_scalars.record('loss', losses['loss'], mean=True)
        return losses['loss'], {}


def compiles(when: bool | str, device: torch.device) -> tuple[bool, str]:
    """The option `compile` of `MAEPretrainer` -> whether to compile for a device, and why."""
    if when != 'auto':
        return bool(when), 'as the config says'
    if device.type != 'cuda':
        # One thread of a Sapphire Rapids, float32, blocks of ViT-B and of its decoder: 1.00 to 1.01 of the time without
        # it, after 45 to 120 s of compiling. Products of matrices, which it leaves alone, are most of a step there.
        return False, f'on {device.type} it does not pay'
    if importlib.util.find_spec('triton') is None:
        return False, 'it needs triton, which is not installed'
    return True, 'on CUDA with triton'
