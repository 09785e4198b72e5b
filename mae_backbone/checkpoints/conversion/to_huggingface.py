"""Writes folders for `from_pretrained` of transformers: ViTMAEForPreTraining, ViTModel, ViTForImageClassification."""
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.target import NotInstalledError, Result, Target
from mae_backbone.checkpoints.conversion.to_safetensors import write_folder
from mae_backbone.checkpoints.layouts.huggingface import HuggingFace


class HuggingFaceTarget(Target):
    """ViTMAE for a model with a decoder, ViTForImageClassification for a model with a head, otherwise ViTModel."""

    name, title = 'hf', "Hugging Face's ViTMAE and ViT"
    layout = HuggingFace()
    library = package = 'transformers'
    holds_decoder = True
    needs_square = False
    pools = ('class',)

    def problems(self, model: StoredModel) -> list[str]:
        """Adds problems with ViTMAE: it needs square images, and does not support norm_pix='image'."""
        problems, architecture = super().problems(model), model.architecture
        if architecture.decoder is not None and architecture.grid[0] != architecture.grid[1]:
            problems.append(f'a MAE of {architecture.grid[0]}x{architecture.grid[1]} patches, as ViTMAE takes square '
                            'images only: pass --encoder, or use --to safetensors')
        if architecture.decoder is not None and architecture.norm_pix == 'image':
            problems.append("norm_pix='image', which the loss of ViTMAE does not have: pass --encoder, or use "
                            '--to safetensors')
        return problems

    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the content of `config.json`. The epsilon of LayerNorm is 1e-6, not 1e-12, transformers' default."""
        architecture, (height, width) = model.architecture, model.architecture.image_size
        config: dict[str, Any] = dict(
            architectures=[_class_name(model)], model_type='vit', hidden_size=architecture.width,
            num_hidden_layers=architecture.depth, num_attention_heads=architecture.heads,
            intermediate_size=4 * architecture.width, hidden_act='gelu', hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, initializer_range=0.02, layer_norm_eps=1e-6,
            image_size=height if height == width else [height, width], patch_size=architecture.patch_size,
            num_channels=architecture.in_channels, qkv_bias=True)
        if architecture.decoder is not None:
            size = architecture.decoder
            config |= dict(model_type='vit_mae', decoder_hidden_size=size.width, decoder_num_hidden_layers=size.depth,
                           decoder_num_attention_heads=size.heads, decoder_intermediate_size=4 * size.width,
                           mask_ratio=architecture.mask_ratio, norm_pix_loss=bool(architecture.norm_pix))
        if model.num_classes:
            names = architecture.classes
            if len(set(names)) != model.num_classes:  # `label2id` needs unique names
                names = tuple(f'LABEL_{i}' for i in range(model.num_classes))
            config |= dict(id2label={str(i): name for i, name in enumerate(names)},
                           label2id={name: i for i, name in enumerate(names)})
        return config

    def files(self, model: StoredModel) -> dict[str, str]:
        """Returns `preprocessor_config.json` if the pixel normalization is known and images have three channels."""
        architecture, scale = model.architecture, model.architecture.pixel_scale
        if scale is None or len(architecture.mean) != 3:
            return {}
        height, width = architecture.image_size
        preprocessor = dict(
            image_processor_type='ViTImageProcessor', do_resize=True, size=dict(height=height, width=width),
            resample=3, do_rescale=True, rescale_factor=1 / scale, do_normalize=True,
            image_mean=[value / scale for value in architecture.mean],
            image_std=[value / scale for value in architecture.std])
        return {'preprocessor_config.json': json.dumps(preprocessor, indent=2) + '\n'}

    def write(self, result: Result, path: Path) -> None:
        """Writes `model.safetensors` and `config.json`."""
        dtype = next(value.dtype for value in result.tensors.values() if value.is_floating_point())
        config = result.config | {'dtype': str(dtype).removeprefix('torch.')}
        write_folder(result._replace(config=config), path, self.layout.name)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns a call of `from_pretrained`."""
        options = ', add_pooling_layer=False' if _class_name(model) == 'ViTModel' else ''
        return f"import transformers\nmodel = transformers.{_class_name(model)}.from_pretrained('{path}'{options})"

    @torch.no_grad()
    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes features, the pixels of a MAE, and the logits of a classifier."""
        try:
            import transformers
        except ImportError as error:
            raise NotInstalledError(f'{self.package} is not installed') from error
        transformers.utils.logging.disable_progress_bar()
        name = _class_name(model)
        options = dict(add_pooling_layer=False) if name == 'ViTModel' else {}
        found = getattr(transformers, name).from_pretrained(path, local_files_only=True, dtype=torch.float32,
                                                            **options).eval()
        if name == 'ViTMAEForPreTraining':
            pixels = found(images, noise=noise).logits
            # The encoder of ViTMAE sorts the patches by the noise even if it hides none. Increasing noise keeps their
            # order.
            found.config.mask_ratio = 0.0
            order = torch.arange(noise.shape[1], dtype=noise.dtype).expand_as(noise)
            return {'features': found.vit(images, noise=order).last_hidden_state, 'pixels': pixels}
        if name == 'ViTModel':
            return {'features': found(images).last_hidden_state}
        return {'features': found.vit(images).last_hidden_state, 'logits': found(images).logits}


def _class_name(model: StoredModel) -> str:
    if model.architecture.decoder is not None:
        return 'ViTMAEForPreTraining'
    return 'ViTForImageClassification' if model.num_classes else 'ViTModel'
