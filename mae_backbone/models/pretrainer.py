"""The MAE as a model of MMEngine's Runner."""
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from mae_backbone.core.compiling import compile_model
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
        decoder_width, decoder_depth, decoder_heads, mask_ratio, norm_pix, predict_ratio: as in `MAE`.
        masking: config of a class of masks, which gets `mask_ratio` as its ratio unless the config sets one. Those of
            this package are in core/masking.py. A class of yours is a `masking.Masking`, is registered in
            mmengine.registry.MODELS, and is imported by `custom_imports`.
        compile: whether torch.compile compiles the blocks and the loss: 'auto' if it pays on the device and the
            compiler works, True, or False. The log says which. Names of parameters do not change.
        data_preprocessor: config of the module that moves images to the device and normalizes them.
        predict_share: former name of `predict_ratio`.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, encoder: dict, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, masking: dict | None = None, norm_pix: bool | str = True,
                 predict_ratio: float = 1.0, compile: bool | str = 'auto', data_preprocessor: dict | None = None,
                 predict_share: float | None = None) -> None:
        super().__init__(data_preprocessor)
        if compile not in ('auto', True, False):
            raise ValueError(f"compile={compile!r}, expected 'auto', True or False")
        self.compile_when, self.compile_decided = compile, False
        self.compile_options: dict[str, object] = {}  # of torch.compile; the Runner sets them
        # Positions stay the fixed sin-cos table in pretraining (public MAE code, `models_mae.py`).
        self.mae = MAE(ViT(**encoder, fixed_positions=True), decoder_width=decoder_width, decoder_depth=decoder_depth,
                       decoder_heads=decoder_heads, norm_pix=norm_pix,
                       predict_ratio=predict_ratio if predict_share is None else predict_share,
                       masking=MODELS.build(masking or dict(type='mae_backbone.RandomMasking'),
                                            default_args=dict(ratio=mask_ratio)))

    def forward(self, inputs: Tensor, data_samples: object = None, seeds: Tensor | None = None,
                weights: Tensor | None = None, mask: Mask | None = None,
                mode: str = 'loss') -> dict[str, Tensor] | tuple[Tensor, Tensor] | Tensor:
        """inputs (B, C, H, W) -> what `mode` asks for.

        Sharded weights are gathered only inside of this call, which is why every use of the model has a mode.

        Args:
            inputs: normalized images.
            data_samples: ignored.
            seeds, weights, mask: as in `MAE.forward`.
            mode: 'loss' for the loss; 'tokens' for the tokens (B, 1 + L, D) of the whole image; 'tensor' for the mean
                (B, D) of its patch tokens; 'reconstruct' for the images of `MAE.reconstruct`.

        Raises:
            ValueError: another mode.
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
        raise ValueError(f"mode={mode!r}: a MAE predicts no labels; expected 'loss', 'tokens', "
                         "'tensor' or 'reconstruct'")

    def _decide_compile(self, device: torch.device) -> None:
        """Compiles before the first step; only then the device is known."""
        self.compile_decided = True
        print_log(compile_model(self, self.compile_when, device, **self.compile_options), logger='current')

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict]:
        """Returns the loss, without values to log: it stays on the device until `DeviceLogHook` fetches it."""
        device_scalars.record('loss', losses['loss'], mean=True)
        return losses['loss'], {}
