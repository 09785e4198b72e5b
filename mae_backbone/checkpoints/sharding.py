"""Converts between sharded tensors (FSDP2) and whole tensors, which are stored in files."""
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor


def gather_on_first(tree: object) -> object:
    """Gathers all sharded tensors in nested dicts and lists on process 0.

    In the result, each sharded tensor is replaced by the whole tensor on the CPU in process 0, and by None in the other
    processes. Other values are not changed. Tensors are gathered one by one, so that a device has only one whole tensor
    at a time, and only process 0 has all of them in memory. All processes must call this function.

    `torch.distributed.checkpoint.state_dict` is not used, because it needs the state of an optimizer by names of
    parameters, and files of MMEngine have it by their indices.
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
    """Returns the whole tensor of a sharded tensor, in every process. Returns any other tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def scatter_shard(value: object, like: Tensor) -> object:
    """Returns the shard of a whole tensor for this process if `like` is sharded, otherwise `value` unchanged."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    # With src_data_rank=None no data are sent, because every process has read the file.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
