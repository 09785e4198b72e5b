"""From a folder of unlabeled images to a detector and a segmenter, with masked autoencoders (MAE) and plain ViTs.

One alphabet of shapes for the whole package:

    B images in a batch      L patches of an image       K visible patches of an image
    D width of a token       P = patch_size**2 * C pixels of a patch (C channels)
    H W image in pixels      h w image in patches, L = h * w

The names of `__all__` are imported when they are first used: `import mae_backbone` itself imports no torch.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mae_backbone.compat import config_scope, install_check, mmcv_ops, optimizers, quiet_logs

if TYPE_CHECKING:
    from mae_backbone.checkpoints.conversion.convert import convert
    from mae_backbone.checkpoints.encoder import load_encoder
    from mae_backbone.checkpoints.model_index import public_weights
    from mae_backbone.checkpoints.publish import publish
    from mae_backbone.cli.python_api import auto, evaluate, plan, pretrain, run_command, train
    from mae_backbone.cli.python_data import import_data, measure, pack
    from mae_backbone.core.masking import BlockMasking, GridMasking, Mask, RandomMasking, random_mask
    from mae_backbone.export.run import export
    from mae_backbone.models.backbone import ViTBackbone
    from mae_backbone.models.classifier import ViTClassifier
    from mae_backbone.models.pretrained import MAE, ViT
    from mae_backbone.models.pretrainer import MAEPretrainer
    from mae_backbone.models.pyramid import SimpleFeaturePyramid
    from mae_backbone.models.timm_vit import TimmViT
    from mae_backbone.prediction.file_info import info
    from mae_backbone.prediction.loading import load

__version__ = '0.1.0'

__all__ = [
    'MAE', 'BlockMasking', 'GridMasking', 'MAEPretrainer', 'Mask', 'RandomMasking', 'SimpleFeaturePyramid', 'TimmViT',
    'ViT', 'ViTBackbone', 'ViTClassifier', 'auto', 'convert', 'evaluate', 'export', 'import_data', 'info', 'load',
    'load_encoder', 'measure', 'pack', 'plan', 'pretrain', 'public_weights', 'publish', 'random_mask', 'run_command',
    'train',
]

# Public name -> the module that defines it.
_MODULES = {
    'MAE': 'models.pretrained',
    'ViT': 'models.pretrained',
    'Mask': 'core.masking',
    'RandomMasking': 'core.masking',
    'BlockMasking': 'core.masking',
    'GridMasking': 'core.masking',
    'random_mask': 'core.masking',
    'ViTBackbone': 'models.backbone',
    'TimmViT': 'models.timm_vit',
    'SimpleFeaturePyramid': 'models.pyramid',
    'MAEPretrainer': 'models.pretrainer',
    'ViTClassifier': 'models.classifier',
    'load': 'prediction.loading',
    'info': 'prediction.file_info',
    'publish': 'checkpoints.publish',
    'export': 'export',  # the folder itself, which is callable
    'evaluate': 'cli.python_api',
    'auto': 'cli.python_api',
    'plan': 'cli.python_api',
    'pretrain': 'cli.python_api',
    'train': 'cli.python_api',
    'run_command': 'cli.python_api',
    'import_data': 'cli.python_data',
    'measure': 'cli.python_data',
    'pack': 'cli.python_data',
    'load_encoder': 'checkpoints.encoder',
    'convert': 'checkpoints.conversion.convert',
    'public_weights': 'checkpoints.model_index',
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = import_module(f'{__name__}.{_MODULES[name]}')
    value = module if _MODULES[name] == name else getattr(module, name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


install_check.warn_of_clashes()
config_scope.install()
optimizers.install()
quiet_logs.quiet_imports()
# Before mmdet or mmseg is imported: both bind the ops of mmcv when they are imported.
mmcv_ops.install()
