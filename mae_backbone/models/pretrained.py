"""ViT and MAE of the public API: the classes of `core` with `from_pretrained`, `save_pretrained`, `push_to_hub`."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mae_backbone.checkpoints.conversion.describe import architecture_of, arguments_of, encoder_arguments
from mae_backbone.checkpoints.conversion.model import Origin, StoredModel
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.hub import HubMixin
from mae_backbone.checkpoints.mae import load_mae
from mae_backbone.core import mae, vit
from mae_backbone.core.vit import Arch

AnyViT = TypeVar('AnyViT', bound='ViT')
AnyMAE = TypeVar('AnyMAE', bound='MAE')


class ViT(HubMixin, vit.ViT):
    """`mae_backbone.core.vit.ViT`, which can be saved as a folder and loaded from one or from the hub."""

    def hub_arguments(self) -> dict[str, Any]:
        """Arguments of `ViT`."""
        return arguments_of(self)

    def hub_model(self, origin: Origin) -> StoredModel:
        """All weights."""
        return StoredModel(dict(self.state_dict()), architecture_of(self), origin)

    @classmethod
    def from_stored(cls: type[AnyViT], model: StoredModel, path: Path, arguments: Mapping[str, Any],
                    heads: int | None) -> AnyViT:
        """Builds the encoder of a model, and resizes positions if the arguments ask for another image size."""
        architecture = model.architecture
        options = encoder_arguments(architecture) | dict(class_token=architecture.class_token,
                                                         final_norm=architecture.final_norm)
        vit = cls(**options | dict(arguments))
        load_encoder(vit, path, heads=heads)
        return vit


class MAE(HubMixin, mae.MAE):
    """`mae_backbone.core.mae.MAE`, which can be saved as a folder and loaded from one or from the hub."""

    def hub_arguments(self) -> dict[str, Any]:
        """Arguments of `MAE`, with the arguments of the encoder under `encoder`. The class of the masks is left out."""
        size = self._decoder_size()
        return dict(encoder=arguments_of(self.encoder), decoder_width=size.width, decoder_depth=size.depth,
                    decoder_heads=size.heads, mask_ratio=self.mask_ratio, norm_pix=self.norm_pix,
                    predict_ratio=self.predict_ratio)

    def hub_model(self, origin: Origin) -> StoredModel:
        """All weights."""
        weights = {name.removeprefix('encoder.').removeprefix('decoder.'): value
                   for name, value in self.state_dict().items()}
        architecture = architecture_of(self.encoder, decoder=self._decoder_size(), norm_pix=self.norm_pix,
                                       mask_ratio=self.mask_ratio)
        return StoredModel(weights, architecture, origin)

    @classmethod
    def from_stored(cls: type[AnyMAE], model: StoredModel, path: Path, arguments: Mapping[str, Any],
                    heads: int | None) -> AnyMAE:
        """Builds a MAE. A decoder that the file lacks starts from random weights, which the log says."""
        architecture, options = model.architecture, dict(arguments)
        encoder = encoder_arguments(architecture) | options.pop('encoder', {})
        if architecture.decoder is not None:
            size = architecture.decoder
            options = dict(decoder_width=size.width, decoder_depth=size.depth, decoder_heads=size.heads,
                           norm_pix=architecture.norm_pix, mask_ratio=architecture.mask_ratio) | options
        mae = cls(vit.ViT(**encoder), **options)
        load_mae(mae, path, heads=heads)
        return mae

    def _decoder_size(self) -> Arch:
        blocks = self.decoder.decoder_blocks
        attention = blocks[0].get_submodule('attn')
        return Arch(self.decoder.decoder_embed.out_features, len(blocks), attention.heads)  # type: ignore[arg-type]
