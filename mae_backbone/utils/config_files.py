"""Config files of the package: their folder, and the paths of their names."""
import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_SCOPE = 'mae_backbone::'
_CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.bin', '.pkl', '.safetensors', '.onnx')


def configs_root() -> Path:
    """The folder of the config files: `configs/` of the repository, or the copy inside an installed wheel."""
    repository = _PACKAGE.parent
    if (repository / 'setup.py').is_file() and (repository / 'configs').is_dir():
        return repository / 'configs'
    return _PACKAGE / '.mim' / 'configs'


def find_config(name: str | Path) -> Path:
    """Returns the config file that `name` refers to.

    Args:
        name: a path; `mae_backbone::FOLDER/NAME.py`, as in MMEngine's `_base_`; or the name of one of our configs, such
            as `mask-rcnn_vitdet-b_100e_coco`. The folder and `.py` are optional.

    Raises:
        FileNotFoundError: the config does not exist; the message has similar names.
    """
    text = str(name)
    if not text.startswith(_SCOPE) and Path(text).is_file():
        return Path(text)
    # `configs/` is the folder's name in the repository. Paths with it are accepted with a wheel, too.
    inner = text.removeprefix(_SCOPE).removeprefix('configs/').removesuffix('.py')
    root = configs_root()
    exact = root / f'{inner}.py'
    if not Path(inner).is_absolute() and exact.is_file():
        return exact
    known = {file.relative_to(root).with_suffix('').as_posix(): file for file in sorted(root.rglob('*.py'))
             if '_base_' not in file.parts}
    matches = [file for key, file in known.items() if key.split('/')[-1] == inner]
    if len(matches) == 1:
        return matches[0]
    similar = difflib.get_close_matches(inner, known, n=3, cutoff=0.5)
    similar += difflib.get_close_matches(Path(inner).name, [key.split('/')[-1] for key in known], n=3, cutoff=0.6)
    if matches:
        similar = [file.relative_to(root).with_suffix('').as_posix() for file in matches]
    advice = f'did you mean {", ".join(dict.fromkeys(similar[:3]))}?' if similar else \
        f'pass the path of a config file, or the name of one in {root}'
    raise FileNotFoundError(f'config {name} does not exist: {advice}')


def base_reference(name: str) -> str:
    """Returns the name for one of our configs in a `_base_` outside of the repository.

    Args:
        name: folder and name without suffix, such as 'own/vit-b_24gb'.

    Returns:
        `mae_backbone::FOLDER/NAME.py`, which MMEngine resolves once the package is installed; else the path.
    """
    installed = (_PACKAGE / '.mim' / 'model-index.yml').is_file()
    return f'{_SCOPE}{name}.py' if installed else str(find_config(f'{_SCOPE}{name}.py'))


def is_checkpoint(name: str | Path) -> bool:
    """True if the suffix of `name` is a suffix of checkpoints."""
    return Path(name).suffix.lower() in _CHECKPOINTS


def drop_scope(node: object) -> None:
    """Removes the `_scope_` that MMEngine puts into a base of `mae_backbone::`.

    Our configs name types of mmdet and mmseg without a prefix, which are found from the default scope.
    """
    if isinstance(node, dict):
        if node.get('_scope_') == 'mae_backbone':
            del node['_scope_']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            drop_scope(child)
