"""Makes `import mmcv.ops` work if mmcv was installed without its compiled extension, `mmcv._ext`.

mmcv from pip is pure Python. Without the extension, onedl-mmdetection and onedl-mmsegmentation bind error stubs (or
None) instead of NMS, RoIAlign and others, or fail to import. `install` provides `mmcv_ext.py` in its place, after
everything else that could provide `mmcv._ext`: a compiled extension is always preferred. Nothing heavy is imported
before `mmcv.ops` is.
"""
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

STAND_IN = Path(__file__).with_name('mmcv_ext.py')

# Modules of onedl-mmdetection 3.5.1 and onedl-mmsegmentation 1.4.2 with `try: from mmcv.ops import ...` at their top,
# by the start of their names.
BINDERS = ('mmdet.apis.inference', 'mmdet.evaluation.metrics.dump_odvg_results', 'mmdet.models.',
           'mmdet.structures.mask.structures', 'mmdet.utils.large_image',
           'mmseg.models.', 'mmseg.utils.mask_classification')


class OpNotCompiledError(NotImplementedError):
    """An op of mmcv was called that exists only in its compiled extension."""


class _Finder(MetaPathFinder):
    """Finds only `mmcv._ext`, in the file `STAND_IN`."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        return spec_from_file_location(fullname, STAND_IN) if fullname == 'mmcv._ext' else None


_FINDER = _Finder()


def install() -> None:
    """Make the replacements available to every later `import mmcv.ops`. A second call does nothing.

    Raises:
        ImportError: mmdet or mmseg was imported before and holds stubs.
    """
    if _FINDER in sys.meta_path:
        return
    if 'mmcv.ops' not in sys.modules and (late := without_ops(sys.modules)):
        raise ImportError(f'mmdet or mmseg was imported before mae_backbone ({", ".join(late[:3])}, ...), when mmcv '
                          'had no ops yet: they hold stubs instead of nms, roi_align and others. Start again with '
                          '`import mae_backbone` before the first import of mmdet or mmseg. For the tools of '
                          "mmdet and mmseg, set custom_imports = dict(imports=['mae_backbone']) in the config")
    sys.meta_path.append(_FINDER)


def without_ops(modules: Iterable[str]) -> list[str]:
    """Names of the `modules` that bind mmcv's ops when they are imported, sorted."""
    return sorted(name for name in modules if name.startswith(BINDERS))
