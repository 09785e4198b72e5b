"""Names of the peers for `--against`. Imports nothing but the standard library, as the command line reads it."""
from importlib import import_module
from pathlib import Path
from typing import Any

# Benchmark -> name -> module and class in this folder.
PEERS: dict[str, dict[str, str]] = {
    'step': {'plain': 'plain:PlainMAE', 'mae': 'public_mae:PublicMAE',
             'transformers': 'transformers_mae:TransformersMAE', 'lightly': 'lightly_mae:LightlyMAE'},
    'backbone': {'plain': 'plain:PlainViTDet', 'detectron2': 'detectron2_vit:Detectron2ViT'},
    'loader': {'plain': 'plain:PlainLoader', 'torchvision': 'torchvision_loader:TorchvisionLoader',
               'lightly': 'lightly_loader:LightlyLoader'},
    'train': {'detectron2': 'detectron2_mask_rcnn:Detectron2MaskRCNN'},
}


def find_peer(benchmark: str, name: str, root: str | Path | None = None) -> Any:
    """The peer of a benchmark, with its code imported.

    Args:
        benchmark: a key of `PEERS`.
        name: a key of `PEERS[benchmark]`.
        root: checkout of the peer's repository, for peers that are not installed.

    Returns:
        An instance of the class in `PEERS`.

    Raises:
        MissingPeerError: the peer is neither installed nor in `root`.
    """
    module, name_of_class = PEERS[benchmark][name].split(':')
    peer = getattr(import_module(f'mae_backbone.benchmark.peers.{module}'), name_of_class)(root)
    peer.load()
    return peer
