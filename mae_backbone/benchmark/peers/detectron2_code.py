"""detectron2, installed or from a checkout."""
import warnings
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from mae_backbone.benchmark.peers.peer import MissingPeerError, Peer, commit_text, importing_from


class Detectron2(Peer):
    """A part of detectron2. Its compiled ops are not needed, its dependencies are."""

    title = 'detectron2'

    def load(self) -> None:
        """Imports the module of the ViT. Raises MissingPeerError."""
        try:
            self.module('detectron2.modeling.backbone.vit')
        except ImportError as error:
            raise MissingPeerError(
                f'--against detectron2 needs detectron2 ({error}): git clone '
                'https://github.com/facebookresearch/detectron2, give the folder as --peer-root, and python -m pip '
                'install fvcore iopath omegaconf hydra-core cloudpickle tabulate termcolor yacs pycocotools') from error

    def module(self, name: str) -> Any:
        """Imports a module of detectron2."""
        with ExitStack() as stack:
            if self.root is not None:
                stack.enter_context(importing_from(self.root))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter('ignore')  # it uses deprecated functions of torch and timm
            import detectron2  # noqa: F401  fails at once if it is missing
            return import_module(name)

    def code(self) -> str:
        """Version, and the commit of a checkout."""
        import detectron2
        folder = Path(detectron2.__file__).parents[1]
        return f'detectron2 {detectron2.__version__}' + (f', {commit_text(folder)}' if self.root is not None else '')
