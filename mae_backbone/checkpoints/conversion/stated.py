"""Reads the facts that a checkpoint states about its model in our config, in metadata of conversions, and elsewhere."""
import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.conversion.model import Architecture
from mae_backbone.checkpoints.facts import Facts, is_ours
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.weight_files import WeightFile
from mae_backbone.core.vit import Arch, find_arch


def stated_by_file(file: WeightFile, facts: Facts, config: Mapping[str, Any],
                   metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of `Architecture` that a file states, and `image_size`.

    Args:
        file: file, with the content of its `config.json`.
        facts: facts that were found in the file.
        config: config of this package in the file.
        metadata: metadata of an earlier conversion in the file.
    """
    pool = {'token': 'class', 'class': 'class', 'avg': 'mean', 'mean': 'mean'}.get(str(facts.pool), facts.pool)
    stated = dict(heads=facts.heads, mean=facts.mean, std=facts.std, norm_pix=facts.norm_pix, pool=pool,
                  decoder=facts.decoder_heads and Arch(0, 0, facts.decoder_heads),
                  image_size=facts.image_size, mask_ratio=_number(file.config.get('mask_ratio')))
    labels = file.config.get('label_names') or file.config.get('id2label')
    if isinstance(labels, dict):
        # Files may have the indices in the order of text: 0, 1, 10, 11, 2.
        labels = [labels[index] for index in sorted(labels, key=lambda index: int(index) if index.isdecimal() else -1)]
    classes = classes_in(file.content) or (tuple(map(str, labels)) if isinstance(labels, list) else ())
    stated = {name: value for name, value in stated.items() if value is not None}
    stated |= stated_by_config(config) | stated_by_metadata(metadata, file.path)
    return stated | (dict(classes=classes) if classes else {})


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def stated_by_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns attributes of `Architecture`, and `image_size`, from a config of this package; {} for other configs.

    Configs of mmpretrain and mmseg have the same keys, with other meanings and defaults.
    """
    model = _dict(config.get('model'))
    encoder = _dict(model.get('encoder')) or _dict(model.get('backbone'))
    if not encoder or not is_ours(model, encoder):
        return {}
    stated: dict[str, Any] = {}
    with contextlib.suppress(ValueError, TypeError):  # `arch` is not a literal in the config
        stated['heads'] = find_arch(encoder.get('arch', 'base')).heads
    size = encoder.get('pretrain_image_size') or encoder.get('image_size', 224)
    if isinstance(size, (int, list, tuple)):
        stated['image_size'] = (size, size) if isinstance(size, int) else tuple(size)
    window = encoder.get('window_size', 0)
    stated |= dict(window_size=window, shifted_windows=bool(encoder.get('shifted_windows', False)),
                   global_blocks=tuple(encoder.get('global_blocks') or ()) if window else ())
    preprocessor = _dict(model.get('data_preprocessor'))
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple)):
        stated |= dict(mean=tuple(mean), std=tuple(std))
    if 'encoder' in model:  # the model is a MAEPretrainer
        masking = _dict(model.get('masking'))
        stated |= dict(norm_pix=model.get('norm_pix', True),
                       mask_ratio=masking.get('ratio', model.get('mask_ratio', 0.75)),
                       decoder=Arch(model.get('decoder_width', 512), model.get('decoder_depth', 8),
                                    model.get('decoder_heads', 16)))
    elif str(model.get('type', '')).endswith('ViTClassifier'):
        stated['pool'] = model.get('pool', 'mean')
    return stated


def stated_by_metadata(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns the attributes of `Architecture` that an earlier conversion wrote into the file.

    Raises:
        CheckpointError: the metadata do not describe a conversion.
    """
    architecture = metadata.get('architecture')
    if not isinstance(architecture, dict):
        return {}
    try:
        stated = Architecture.from_dict(architecture)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{path} has metadata of a conversion that was changed ({error}): convert the original '
                              'file again') from error
    return {name: getattr(stated, name) for name in architecture if hasattr(stated, name)}


def classes_in(content: object) -> tuple[str, ...]:
    """Returns the names of the classes in a checkpoint of `mae-backbone train`; empty if it has none."""
    meta = content.get('meta') if isinstance(content, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    names = meta.get('classes') or _dict(meta.get('dataset_meta')).get('classes')
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()


def training_in(content: object, config: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, str]:
    """Returns facts about the training for a model card, by label. They do not include paths.

    Args:
        content: content of the checkpoint.
        config: config in the checkpoint.
        metadata: metadata of an earlier conversion. If they have facts about the training, these are returned.
    """
    earlier = metadata.get('training')
    if isinstance(earlier, dict):
        return {str(label): str(value) for label, value in earlier.items()}
    meta = _dict(content.get('meta')) if isinstance(content, dict) else {}
    loader, wrapper, loop = (_dict(config.get(key)) for key in ('train_dataloader', 'optim_wrapper', 'train_cfg'))
    optimizer, dataset = _dict(wrapper.get('optimizer')), _dict(loader.get('dataset'))
    root = dataset.get('data_root') or config.get('data_root')
    facts = dict(recipe=_recipe(meta), data=Path(root).name if isinstance(root, str) else None,
                 length=next((f'{loop[key]} {unit}' for key, unit in (('max_epochs', 'epochs'), ('max_iters', 'steps'))
                              if key in loop), None),
                 images_per_step=loader.get('batch_size'), optimizer=optimizer.get('type'),
                 learning_rate=optimizer.get('lr'), seed=meta.get('seed'), finished=meta.get('time'),
                 mmengine=meta.get('mmengine_version'))
    return {label.replace('_', ' '): str(value) for label, value in facts.items() if value is not None}


def _recipe(meta: Mapping[str, Any]) -> str | None:
    """Returns the name of the config of a run, without the start time that MMEngine adds."""
    name = meta.get('experiment_name')
    return re.sub(r'_\d{8}_\d{6}$', '', name) if isinstance(name, str) else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
