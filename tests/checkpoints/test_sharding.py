"""Sharded tensors are gathered one by one, on the CPU of process 0 only."""
import weakref
from collections.abc import Iterator

import pytest
import torch
from helpers.micro_runs import free_port
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mae_backbone.checkpoints.sharding import gather_on_first, scatter_shard, whole


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceMesh]:
    """A group of one process."""
    for name, value in (('MASTER_ADDR', '127.0.0.1'), ('MASTER_PORT', free_port()), ('RANK', 0), ('WORLD_SIZE', 1)):
        monkeypatch.setenv(name, str(value))
    dist.init_process_group('gloo')
    try:
        yield init_device_mesh('cpu', (1,))
    finally:
        dist.destroy_process_group()


def test_shards_become_whole_tensors_and_other_values_stay(mesh: DeviceMesh):
    value, plain = torch.randn(4, 3), torch.randn(2)
    shard = distribute_tensor(value, mesh, [Shard(0)])
    tree = gather_on_first({'state': {0: {'step': 1, 'moment': shard}}, 'list': [plain, 'text', (shard,)]})
    assert torch.equal(tree['state'][0]['moment'], value)
    assert type(tree['state'][0]['moment']) is Tensor
    assert tree['list'][0] is plain
    assert tree['list'][1] == 'text'
    assert torch.equal(tree['list'][2][0], value)
    assert torch.equal(whole(shard), value)
    assert torch.equal(scatter_shard(value, shard).full_tensor(), value)


def test_other_processes_keep_nothing_and_hold_one_tensor_at_a_time(mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch):
    alive, most, gather = [], 0, DTensor.full_tensor

    def counted(shard: DTensor) -> Tensor:
        nonlocal most
        gathered = gather(shard).clone()
        alive.append(weakref.ref(gathered))
        most = max(most, sum(reference() is not None for reference in alive))
        return gathered
    shards = {name: distribute_tensor(torch.randn(4, 3), mesh, [Shard(0)]) for name in 'abc'}
    monkeypatch.setattr(DTensor, 'full_tensor', counted)
    monkeypatch.setattr(dist, 'get_rank', lambda *_: 1)
    assert gather_on_first(shards) == dict(a=None, b=None, c=None)
    assert (len(alive), most) == (3, 1)
