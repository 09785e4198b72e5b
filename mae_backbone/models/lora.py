"""Low-rank adapters (LoRA, Hu et al., ICLR 2022) in the blocks of a ViT, by peft."""
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mae_backbone.core.vit import ViT

# Linear layers of a block, and their modules. All of them: arXiv:2106.09685 adapts only attention, QLoRA (Dettmers et
# al., 2023, section 4) needed all layers to reach full tuning.
TARGETS = {'qkv': 'attn.qkv', 'proj': 'attn.proj', 'fc1': 'mlp.fc1', 'fc2': 'mlp.fc2'}
_MAX_RANK = 1024
# Names of peft -> those in checkpoints. A weight keeps the name that it has without adapters.
_STORED = (('.base_layer.', '.'), ('.lora_A.default.', '.lora_A.'), ('.lora_B.default.', '.lora_B.'))
_OURS = re.compile(r'^(.*blocks\.\d+\.(?:attn|mlp)\.(?:qkv|proj|fc1|fc2))\.(?:(lora_[AB])\.)?(weight|bias)$')


def add_lora(vit: ViT, *, rank: int = 8, targets: Sequence[str] = tuple(TARGETS)) -> None:
    """Freezes a ViT, and adds trained matrices A (rank, in) and B (out, rank) to its linear layers: W + B A.

    B starts at zero, so that the first outputs equal the outputs of the frozen ViT. alpha equals the rank, so that B A
    has the factor 1, and a checkpoint can be merged without its config. The state dict has the names of the ViT without
    adapters, and `lora_A.weight` and `lora_B.weight` next to the weights that they adapt.

    Args:
        vit: changed in place.
        rank: of the product B A; 8 is peft's default.
        targets: names in `TARGETS`.

    Raises:
        ImportError: peft is not installed.
        ValueError: a rank or a target that does not exist.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= _MAX_RANK:
        raise ValueError(f'lora has rank={rank!r}, expected an integer from 1 to {_MAX_RANK}')
    unknown = [name for name in targets if name not in TARGETS]
    if unknown or not targets:
        raise ValueError(f'lora has targets={list(targets)}, expected some of {", ".join(TARGETS)}')
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError('LoRA needs peft: pip install mae_backbone[lora]') from error
    layers = '|'.join(re.escape(TARGETS[name]) for name in dict.fromkeys(targets))
    # A regular expression for whole names. 'proj' would also match the patch embedding.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=rf'blocks\.\d+\.(?:{layers})')
    inject_adapter_in_model(config, vit)
    vit.register_state_dict_post_hook(_to_stored)
    vit.register_load_state_dict_pre_hook(_from_stored)


def lora_parameters(vit: nn.Module) -> list[nn.Parameter]:
    """The matrices of the adapters."""
    return [parameter for name, parameter in vit.named_parameters() if '.lora_A.' in name or '.lora_B.' in name]


def _to_stored(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: Any) -> None:
    for name in [name for name in state_dict if name.startswith(prefix)]:
        stored = name
        for of_peft, ours in _STORED:
            stored = stored.replace(of_peft, ours)
        if stored != name:
            state_dict[stored] = state_dict.pop(name)


def _from_stored(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    adapted = {name for name, child in module.named_modules() if hasattr(child, 'base_layer')}
    for name in [name for name in state_dict if name.startswith(prefix)]:
        match = _OURS.match(name)
        if match is None or match[1][len(prefix):] not in adapted:
            continue
        layer, matrix, part = match.groups()
        of_peft = f'{matrix}.default' if matrix else 'base_layer'
        state_dict[f'{layer}.{of_peft}.{part}'] = state_dict.pop(name)
