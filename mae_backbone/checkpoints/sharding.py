"""Converts between sharded tensors (FSDP2) and whole tensors, as files store them."""
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def gather_shards(tree: object) -> object:
    """Nested dicts and lists with every shard replaced by the whole tensor.

    All processes must call this in the same order.
    """
    if isinstance(tree, DTensor):
        return tree.full_tensor()
    if isinstance(tree, dict):
        return type(tree)((key, gather_shards(value)) for key, value in tree.items())
    if isinstance(tree, (list, tuple)) and not hasattr(tree, '_fields'):
        return type(tree)(gather_shards(value) for value in tree)
    return tree


def scatter_shard(whole: object, like: Tensor) -> object:
    """The shard of a whole tensor that this process holds if `like` is sharded; anything else unchanged."""
    if not isinstance(like, DTensor) or not isinstance(whole, Tensor) or whole.shape != like.shape:
        return whole
    # src_data_rank=None: every process has read the file, nothing is sent.
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
