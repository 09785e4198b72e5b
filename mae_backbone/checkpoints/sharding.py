"""Converts between sharded tensors (FSDP2) and whole tensors, as files store them."""
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor


def gather_on_first(tree: object) -> object:
    """Nested dicts and lists with every sharded tensor whole, on the CPU of process 0, and None in the others.

    One tensor is gathered after the other, so that a device holds one whole tensor at a time, and no other memory than
    that of process 0 holds the whole tree. All processes must call this in the same order. Other values are kept.

    `torch.distributed.checkpoint.state_dict` does the same for a state by names of parameters; MMEngine's files have
    one by their numbers.
    """
    if isinstance(tree, DTensor):
        gathered = tree.full_tensor()
        return gathered.cpu() if dist.get_rank() == 0 else None
    if isinstance(tree, dict):
        return type(tree)((key, gather_on_first(value)) for key, value in tree.items())
    if isinstance(tree, (list, tuple)) and not hasattr(tree, '_fields'):
        return type(tree)(gather_on_first(value) for value in tree)
    return tree


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor whole, in every process; any other tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def scatter_shard(value: object, like: Tensor) -> object:
    """Returns the shard of a whole tensor that this process holds if `like` is sharded, otherwise the tensor."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    # src_data_rank=None: every process has read the file, nothing is sent.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
