"""Configs that a suite uses: their paths, hashes, lengths, and the architectures of their encoders."""
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mae_backbone.checkpoints.architecture import EncoderArchitecture
from mae_backbone.core.vit import ARCHS, find_arch
from mae_backbone.transfer.encoder_reader import known_reader, stated_reader
from mae_backbone.utils.config_files import find_config


class SuiteConfig(NamedTuple):
    """A config: its path, a hash of its content including inherited configs, and its content."""

    path: Path
    fingerprint: str
    cfg: Config


class SuiteConfigs:
    """Reader of the configs of a suite. Each config is read once.

    Args:
        suite: name of the suite, for messages.
    """

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self._read: dict[str, SuiteConfig] = {}

    def read(self, config: str) -> SuiteConfig:
        """Reads a config.

        Args:
            config: path of the config, absolute or relative to `configs/`.

        Raises:
            ValueError: the config does not exist.
        """
        if config not in self._read:
            # With the scope `mae_backbone::`, a file with the same name in the current folder is not read.
            name = config if Path(config).is_absolute() else f'mae_backbone::{config}'
            try:
                path = find_config(name)
            except FileNotFoundError as error:
                raise ValueError(f'the suite {self.suite} uses a config that does not exist: {error}') from error
            cfg = Config.fromfile(path, import_custom_modules=False)
            content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
            self._read[config] = SuiteConfig(path, hashlib.sha256(content.encode()).hexdigest()[:16], cfg)
        return self._read[config]

    def architecture(self, config: str, options: Mapping[str, object]) -> EncoderArchitecture:
        """Returns the architecture of the encoder that a training with a config produces.

        Args:
            config: as for `read`.
            options: --cfg-options of the training.

        Raises:
            ValueError: the config has no ViT of this package, or does not state the normalization of its pixels.
        """
        cfg = self._with_options(config, options)
        part = cfg.model.get('encoder') or cfg.model.get('backbone') or {}
        if 'arch' not in part:
            raise ValueError(f'{config} has no ViT with an `arch`: an encoder of a suite is made by a config of a MAE, '
                             'or of a classifier, detector or segmenter with ViTBackbone')
        width, depth, heads = find_arch(part['arch'] if isinstance(part['arch'], str) else dict(part['arch']))
        patch_size, channels = part.get('patch_size', 16), part.get('in_channels', 3)
        side = part.get('pretrain_image_size') or part.get('image_size', 224)
        if not isinstance(side, int):
            side = round(math.sqrt(math.prod(side)) / patch_size) * patch_size
        pixels = cfg.model.get('data_preprocessor') or {}
        mean, std = pixels.get('mean'), pixels.get('std')
        if not isinstance(mean, (list, tuple)) or not isinstance(std, (list, tuple)):
            raise ValueError(f'{config} has mean={mean!r} and std={std!r} in its data_preprocessor: an encoder of a '
                             'suite needs numbers for each channel')
        return EncoderArchitecture(
            name=next((name for name, arch in ARCHS.items() if (arch.width, arch.depth) == (width, depth)), None),
            width=width, depth=depth, heads=heads, patch_size=patch_size, image_size=side, in_channels=channels,
            mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    def reader(self, config: str, options: Mapping[str, object]) -> dict[str, Any] | None:
        """Returns the reader of the images of a training with a config; None for color images with 8 bits.

        Args:
            config, options: as for `architecture`.

        Raises:
            ValueError: the reader is not of this package.
        """
        return known_reader(self._with_options(config, options), config)

    def stated_reader(self, config: str, options: Mapping[str, object]) -> dict[str, Any] | None:
        """Returns the reader that a config or the options of a training state, which may be a reader of the user."""
        return stated_reader(self._with_options(config, {key: value for key, value in options.items()
                                                         if 'reader' in key or 'LoadImage' in repr(value)}))

    def _with_options(self, config: str, options: Mapping[str, object]) -> Config:
        cfg = Config(self.read(config).cfg.to_dict())
        cfg.merge_from_dict(dict(options))
        return cfg

    def length(self, config: str, length: int | None, factor: float) -> list[str] | None:
        """Returns the command-line option for a length, such as ['--iters', '200']; None for the length of the config.

        Args:
            config: as for `read`.
            length: epochs or iterations, the unit that the config uses; None for the length of the config.
            factor: factor by which the length is multiplied. The product is rounded, to at least 1.
        """
        loop = self.read(config).cfg.train_cfg
        unit = 'epochs' if loop.get('max_epochs') else 'iters'
        stated = loop[f'max_{unit}']
        wanted = max(1, round((length or stated) * factor))
        return None if wanted == stated else [f'--{unit}', str(wanted)]

