"""transformers is imported when its optimizer is built, not when MMEngine is imported."""
import pytest
import torch
from mmengine.registry import OPTIMIZERS

from mae_backbone.compat import optimizers


def test_the_optimizer_of_transformers_is_imported_when_it_is_built():
    transformers = pytest.importorskip('transformers')
    # MMEngine registers the class if it can import transformers itself.
    assert OPTIMIZERS.get('Adafactor') is optimizers._adafactor
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS.build(dict(type='Adafactor', params=[weight], lr=1e-3, relative_step=False))
    assert type(optimizer) is transformers.Adafactor
    assert OPTIMIZERS.get('TorchAdafactor') is torch.optim.Adafactor
    assert OPTIMIZERS.get('AdamW') is torch.optim.AdamW
