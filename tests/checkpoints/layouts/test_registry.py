"""Every table of names is used in both directions and changes no bit on the way back."""
import pytest
import torch
from torch import Tensor

from mae_backbone.checkpoints.layouts.layout import Layout, is_decoder
from mae_backbone.checkpoints.layouts.registry import LAYOUTS, find_layouts, layout
from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import ViT

# Layouts that have no way back: their LayerScale is folded, or they have no absolute positions.
INWARD = ('hf-beit', 'timm-beit')


def whole_mae(**options) -> dict[str, Tensor]:
    """All tensors of a small MAE under our names, without prefixes, with random values."""
    encoder = ViT(dict(width=16, depth=2, heads=2), image_size=16, patch_size=4, **options)
    model = MAE(encoder, decoder_width=8, decoder_depth=2, decoder_heads=2)
    return {name.split('.', 1)[1]: torch.randn_like(value) for name, value in model.state_dict().items()}


@pytest.mark.parametrize('table', [table for table in LAYOUTS if table.name not in INWARD and not table.refused],
                         ids=lambda table: table.name)
def test_weights_return_bit_for_bit(table: Layout):
    ours = whole_mae()
    if not table.decoder:
        ours = {name: value for name, value in ours.items() if not is_decoder(name)}
    if any(word in table.name for word in ('ijepa', 'sam', 'patches')):  # no class token
        del ours['cls_token']
        ours['pos_embed'][:, 0] = 0
    returned = table.to_ours(table.from_ours(ours))
    assert returned.keys() == ours.keys()
    for name, value in ours.items():
        assert torch.equal(returned[name], value), name


@pytest.mark.parametrize('table', [table for table in LAYOUTS if table.decoder], ids=lambda table: table.name)
def test_whole_mae_is_recognized(table: Layout):
    (found,) = find_layouts(table.from_ours(whole_mae()), {}).values()
    assert found.name == table.name


def test_names_are_unique():
    names = [table.name for table in LAYOUTS]
    assert len(set(names)) == len(names)
    assert layout('hf').name == 'hf'
    with pytest.raises(ValueError, match="no layout 'x'; expected one of"):
        layout('x')
