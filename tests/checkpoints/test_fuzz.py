"""Mutated checkpoint files of every kind are read or refused with CheckpointError, and take little memory."""
import argparse
import io
import pickle
import random
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.run_checkpoints import run_content, torch_file, vit
from mmengine.logging import MessageHub
from safetensors.torch import save
from torch import Tensor, nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import check_optimizer_state, load_model, read_run

MUTATIONS = 80  # of each kind of file


def files() -> dict[str, bytes]:
    """A small file of each kind that is read, under its name."""
    weights = vit().state_dict()
    public = dict(model=weights, args=argparse.Namespace(lr=1e-3), epoch=3)
    arrays = {f'backbone.net.{name}': value.numpy() for name, value in weights.items()}
    return {'run.pth': torch_file(run_content()),
            'public.pth': torch_file(public, _use_new_zipfile_serialization=False),
            'model.pkl': pickle.dumps(dict(model=arrays), protocol=2),
            'protocol5.pkl': pickle.dumps(dict(model=arrays), protocol=5),
            'weights.safetensors': save(weights)}


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A copy with some bytes changed, repeated, or removed, most often near the start, where the structure is."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = int(len(changed) * chance.random() ** chance.choice([1, 3]))
        how = chance.randrange(5)
        if how == 0:
            changed[place] = chance.randrange(256)
        elif how == 1:
            changed[place:place + 4] = chance.choice([b'\xff' * 4, bytes(4), b'\x7f\xff\xff\xff', b'r\xff\xff\xff\xff'])
        elif how == 2:
            del changed[place:place + chance.randint(1, 20)]
        elif how == 3:
            changed[place:place] = changed[place:place + chance.randint(1, 40)]
        else:
            changed[place] ^= 1 << chance.randrange(8)
        if not changed:
            break
    return bytes(changed)


def mutated_inside(data: bytes, chance: random.Random) -> bytes:
    """An archive whose checksums are right around a pickle that is mutated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, 'w') as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, mutated(content, chance) if name.endswith('data.pkl') else content)
    return buffer.getvalue()


def use(path: Path) -> None:
    """Takes a file the way of the tools, as a start of another model and as a run."""
    model = vit()
    load_encoder(model, path)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    content = read_run(path)
    if 'optimizer' in content:
        load_model(model, content, path)
        optimizer = torch.optim.AdamW(model.parameters())
        check_optimizer_state(content['optimizer'], optimizer, path)
        MessageHub('fuzz').load_state_dict(content['message_hub'])


@pytest.mark.parametrize('kind', [*files(), 'inside'])
def test_mutated_files_are_read_or_refused(tmp_path: Path, kind: str):
    chance, memory = random.Random(kind), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = files()[kind if kind != 'inside' else 'run.pth']
    mutate: Callable[[bytes, random.Random], bytes] = mutated_inside if kind == 'inside' else mutated
    path = tmp_path / (kind if kind != 'inside' else 'run.pth')
    refused = unnamed = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(data, chance))
        try:
            use(path)
        except CheckpointError as error:
            refused += path.name in str(error)
            unnamed += path.name not in str(error)
    assert unnamed == 0
    assert refused > MUTATIONS // 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500_000  # kilobytes


def test_files_that_are_not_mutated_are_read(tmp_path: Path):
    path = tmp_path / 'run.pth'
    path.write_bytes(files()['run.pth'])
    use(path)
    content = read_run(path)
    assert content['message_hub']['log_scalars']['train/loss'].data[0].tolist() == [2.0, 1.5]
    assert content['message_hub']['runtime_info'] == {'iter': 2}
    assert content['param_schedulers'] == run_content()['param_schedulers']


def state_of(change: Callable[[dict], None]) -> tuple[dict, nn.Module]:
    content = run_content()
    change(content['optimizer'])
    return content['optimizer'], vit()


@pytest.mark.parametrize(('change', 'says'), [
    (lambda state: state['state'][0].update(exp_avg=torch.zeros(3)),
     r'exp_avg of parameter 0: \(3,\) in the file, \(1, 1, 8\) expected'),
    (lambda state: state['state'][0].update(exp_avg=torch.full((1, 1, 8), torch.nan)), 'exp_avg of parameter 0: NaN'),
    (lambda state: state['state'][2].pop('exp_avg_sq'), 'other entries than AdamW keeps'),
    (lambda state: state['state'][0].update(step=[1]), r'step of parameter 0: \[1\] in the file, a number expected'),
    (lambda state: state['state'].update({2: None}), 'other entries than AdamW keeps'),
    (lambda state: state['param_groups'][0]['params'].insert(0, [0]), 'no groups of parameters'),
    (lambda state: state['state'].update({99: {}}), 'states of unknown parameters'),
    (lambda state: state['param_groups'][0]['params'].pop(), r'parameters in 1 groups, the model of this config has'),
    (lambda state: state.update(param_groups=3), 'no groups of parameters')])
def test_moments_that_do_not_fit_are_refused(change: Callable[[dict], None], says: str):
    state, model = state_of(change)
    with pytest.raises(CheckpointError, match=says):
        check_optimizer_state(state, torch.optim.AdamW(model.parameters()), 'run.pth')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float, dtype: torch.dtype):
    weights: dict[str, Tensor] = {name: tensor.to(dtype) for name, tensor in vit().state_dict().items()}
    weights['blocks.0.mlp.fc1.bias'][3] = value
    path = tmp_path / 'run.pth'
    torch.save(dict(state_dict=weights, meta={}), path)
    with pytest.raises(CheckpointError, match=r'NaN or infinite values in 1 of \d+ tensors \(blocks.0.mlp.fc1.bias\)'):
        load_encoder(vit(), path)
    with pytest.raises(CheckpointError, match=r'blocks.0.mlp.fc1.bias'):
        load_model(vit(), read_run(path), path)
