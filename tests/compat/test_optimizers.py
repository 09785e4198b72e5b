"""transformers is imported when its optimizer is built, not when MMEngine is imported."""
import subprocess
import sys
from pathlib import Path

import pytest

CODE = '''
import sys
import mae_backbone
from mmengine.registry import OPTIMIZERS
import mmengine.optim
assert 'transformers' not in sys.modules
import torch
weight = torch.nn.Parameter(torch.ones(3))
optimizer = OPTIMIZERS.build(dict(type='Adafactor', params=[weight], lr=1e-3, relative_step=False))
import transformers
assert type(optimizer) is transformers.Adafactor
assert OPTIMIZERS.get('TorchAdafactor') is torch.optim.Adafactor
assert OPTIMIZERS.get('AdamW') is torch.optim.AdamW
print('built')
'''


@pytest.mark.slow  # a fresh interpreter that imports torch and transformers
def test_the_optimizer_of_transformers_is_imported_when_it_is_built():
    pytest.importorskip('transformers')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', CODE], cwd=Path(__file__).parents[2], text=True,
                          capture_output=True, check=False)
    assert done.stdout.endswith('built\n'), done.stderr[-3000:]
