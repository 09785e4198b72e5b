"""The MAE as a model of MMEngine's Runner."""
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from mae_backbone.checkpoints.mae import load_mae
from mae_backbone.core.compiling import compile_model
from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import BlockMasking, GridMasking, Mask, RandomMasking
from mae_backbone.core.vit import ViT
from mae_backbone.models.distillation import Distillation
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
        teacher: config of a `Distillation`, by default of `FeatureDistillation`: dict(checkpoint=, encoder=, ...). Its
            loss is added to the loss of the pixels in training.
        freeze_encoder_iters: number of iterations in which only the decoder is trained, see `FreezeEncoderHook`.
        init_cfg: dict(type='Pretrained', checkpoint=PATH) starts from the weights of a file or a folder, see
            `load_mae`. It may also have `weights_key` and `heads`, the `key` and `heads` of that function.
        data_preprocessor: config of the module that moves images to the device and normalizes them.
        predict_share: former name of `predict_ratio`.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, encoder: dict, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, masking: dict | None = None, norm_pix: bool | str = True,
                 predict_ratio: float = 1.0, compile: bool | str = 'auto', teacher: dict | None = None,
                 freeze_encoder_iters: int = 0, init_cfg: dict | None = None, data_preprocessor: dict | None = None,
                 predict_share: float | None = None) -> None:
        super().__init__(data_preprocessor)
        if init_cfg is not None and (init_cfg.get('type') != 'Pretrained' or 'checkpoint' not in init_cfg
                                     or not set(init_cfg) <= {'type', 'checkpoint', 'weights_key', 'heads'}):
            raise ValueError(f"init_cfg={init_cfg}, expected dict(type='Pretrained', checkpoint=PATH), with "
                             'weights_key=KEY or heads=N if needed, or None')
        self.init_cfg, self.freeze_encoder_iters = init_cfg, freeze_encoder_iters
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
        self.distillation: Distillation | None = None
        if teacher is not None:
            self.distillation = MODELS.build(dict(teacher), default_args=dict(
                type='mae_backbone.FeatureDistillation', student=self.mae.encoder))

    def init_weights(self) -> None:
        """Loads the teacher and the checkpoint of `init_cfg`; MMEngine's Runner calls it once before training."""
        self.load_teacher()
        if self.init_cfg is not None:
            load_mae(self.mae, self.init_cfg['checkpoint'], key=self.init_cfg.get('weights_key'),
                     heads=self.init_cfg.get('heads'))

    def load_teacher(self) -> None:
        """Loads the teacher, if there is one and it is not loaded yet."""
        if self.distillation is not None:
            self.distillation.load()
            self.distillation.to(next(self.mae.parameters()).device)

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
            return self._losses(inputs, mask, seeds, weights)
        if mode == 'reconstruct':
            return self.mae.reconstruct(inputs, mask)
        if mode in ('tokens', 'tensor'):
            tokens = self.mae.encoder.encode(self.mae.encoder.embed(inputs))
            return tokens if mode == 'tokens' else tokens[:, 1:].mean(dim=1)
        raise ValueError(f"mode={mode!r}: a MAE predicts no labels; expected 'loss', 'tokens', "
                         "'tensor' or 'reconstruct'")

    def _losses(self, inputs: Tensor, mask: Mask | None, seeds: Tensor | None,
                weights: Tensor | None) -> dict[str, Tensor]:
        """The loss () of `MAE.forward`; in training with a teacher, the sum of both losses, and each of them."""
        if self.distillation is None or not self.training:
            return {'loss': self.mae(inputs, mask, seeds=seeds, weights=weights)[0]}
        states: list[Tensor] = []
        pixels, _, mask = self.mae(inputs, mask, seeds=seeds, weights=weights, states=states)
        teacher = self.distillation(self.mae.encoder, states, self._for_teacher(inputs), mask, weights)
        return {'loss': pixels + self.distillation.weight * teacher, 'loss_pixels': pixels, 'loss_teacher': teacher}

    def _for_teacher(self, inputs: Tensor) -> Tensor:
        """inputs (B, C, H, W), normalized for the student -> normalized for the teacher."""
        assert self.distillation is not None
        if self.distillation.mean is None or self.distillation.std is None:
            return inputs
        own, shape = self.data_preprocessor, (-1, 1, 1)
        pixels = inputs * own.std + own.mean if own._enable_normalize else inputs
        return (pixels - inputs.new_tensor(self.distillation.mean).reshape(shape)) / inputs.new_tensor(
            self.distillation.std).reshape(shape)

    def _decide_compile(self, device: torch.device) -> None:
        """Compiles before the first step; only then the device is known."""
        self.compile_decided = True
        print_log(compile_model(self, self.compile_when, device, **self.compile_options), logger='current')

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict]:
        """Returns the loss, without values to log: they stay on the device until `DeviceLogHook` fetches them."""
        for name, loss in losses.items():
            device_scalars.record(name, loss, mean=True)
        return losses['loss'], {}
