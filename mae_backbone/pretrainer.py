"""MAE as MMEngine's Runner sees a model."""
from mmengine.model import BaseModel
from torch import Tensor

from mae_backbone import device_log
from mae_backbone.mae import MAE
from mae_backbone.registry import MODELS
from mae_backbone.vit import ViT


@MODELS.register_module()
class MAEPretrainer(BaseModel):
    """MAE pretraining: `type='mae_backbone.MAEPretrainer'`.

    Args:
        encoder: arguments of `ViT`.
        decoder_width, decoder_depth, decoder_heads, mask_ratio, norm_pix: as in `MAE`.
        data_preprocessor: config of what puts images on the device and normalises them.
    """

    def __init__(self, encoder: dict, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, norm_pix: bool = True, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        # Positions stay the fixed sin-cos table in pretraining (public MAE code, `models_mae.py`).
        self.mae = MAE(ViT(**encoder, fixed_positions=True), decoder_width=decoder_width, decoder_depth=decoder_depth,
                       decoder_heads=decoder_heads, mask_ratio=mask_ratio, norm_pix=norm_pix)

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = 'loss') -> dict[str, Tensor] | Tensor:
        """inputs (B, C, H, W) -> the loss to train on, or with mode='tensor' features (B, D), nothing hidden."""
        if mode == 'loss':
            return {'loss': self.mae(inputs)[0]}
        if mode == 'tensor':
            encoder = self.mae.encoder
            return encoder.encode(encoder.embed(inputs))[:, -_patches(encoder, inputs):].mean(dim=1)
        raise ValueError(f"mode={mode!r}: a MAE predicts no labels; wanted 'loss' or 'tensor'")

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict]:
        """The loss to train on, and nothing to log: the loss stays on the device until `DeviceLogHook` fetches it."""
        device_log.record('loss', losses['loss'], mean=True)
        return losses['loss'], {}


def _patches(encoder: ViT, images: Tensor) -> int:
    h, w = encoder.check(images)
    return h * w
