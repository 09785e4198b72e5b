"""ViTDet's backbone of detectron2, installed or from a checkout."""
import argparse
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mae_backbone.benchmark.peers.peer import BackbonePeer, MissingPeerError, commit_text, importing_from
from mae_backbone.benchmark.reference_vitdet import PATCH, WINDOW, global_blocks
from mae_backbone.core.vit import ARCHS


class Detectron2ViT(BackbonePeer):
    """`detectron2.modeling.ViT`. Its compiled ops are not needed, its dependencies are."""

    title, form = 'detectron2', 'N x N table'

    def load(self) -> None:
        """Imports the module of the ViT. Raises MissingPeerError."""
        try:
            self.module()
        except ImportError as error:
            raise MissingPeerError(
                f'--against detectron2 needs detectron2 ({error}): git clone '
                'https://github.com/facebookresearch/detectron2, give the folder as --peer-root, and python -m pip '
                'install fvcore iopath omegaconf hydra-core cloudpickle tabulate termcolor yacs pycocotools') from error

    def module(self) -> Any:
        """`detectron2.modeling.backbone.vit`."""
        with ExitStack() as stack:
            if self.root is not None:
                stack.enter_context(importing_from(self.root))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter('ignore')  # it uses what torch and timm have deprecated
            import detectron2  # noqa: F401  fails at once if it is missing
            from detectron2.modeling.backbone import vit
        return vit

    def code(self) -> str:
        """Version, and the commit of a checkout."""
        import detectron2
        folder = Path(detectron2.__file__).parents[1]
        return f'detectron2 {detectron2.__version__}' + (f', {commit_text(folder)}' if self.root is not None else '')

    def build(self, args: argparse.Namespace, size: int, weights: dict[str, Tensor]) -> nn.Module:
        """Builds the ViT as in detectron2's configs of ViTDet (`mask_rcnn_vitdet.py`), without dropped paths."""
        arch = ARCHS[args.arch]
        blocks = [i for i in range(arch.depth) if i not in global_blocks(arch.depth)]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # it uses what timm has deprecated
            model = self.module().ViT(
                img_size=size, patch_size=PATCH, embed_dim=arch.width, depth=arch.depth, num_heads=arch.heads,
                norm_layer=partial(nn.LayerNorm, eps=1e-6), window_size=WINDOW, window_block_indexes=blocks,
                use_rel_pos=True, out_feature='last_feat')
        model.load_state_dict(weights)
        return _Maps(model)


class _Maps(nn.Module):
    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return self.vit(images)['last_feat'],
