"""When the replacements for mmcv's ops are there, when they keep out of the way, and that whole models run on them."""
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from mae_backbone.compat import mmcv_ops

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.filterwarnings('ignore:``MultiScaleDeformableAttention`` has been moved:ImportWarning'),  # mmcv
    pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore`` is False:UserWarning'),  # mmseg
    pytest.mark.filterwarnings('ignore:To copy construct from a tensor:UserWarning'),  # mmdet's FCNMaskHead
]


def run(code: str, *, first_on_path: Path | None = None) -> str:
    """What `code` prints in a fresh interpreter."""
    path = [str(entry) for entry in (first_on_path, ROOT, os.environ.get('PYTHONPATH')) if entry]
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    heavy = run('import mae_backbone, sys; print(sys.modules.keys() & {"torch", "torchvision", "mmengine", "mmcv"})')
    assert heavy == 'set()\n'


def test_install_is_idempotent_and_comes_last():
    before = list(sys.meta_path)
    mmcv_ops.install()
    assert sys.meta_path == before
    assert sum(type(finder).__name__ == '_Finder' for finder in before) == 1
    assert run('import mae_backbone.compat.mmcv_ops, sys; print(type(sys.meta_path[-1]).__name__)') == '_Finder\n'


def test_a_compiled_extension_wins_untouched(tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').touch()
    (tmp_path / 'mmcv/_ext.py').write_text('nms = "compiled"')
    code = 'import mae_backbone, mmcv._ext as ext; print(ext.__file__, ext.nms, hasattr(ext, "softnms"), sep="\\n")'
    assert run(code, first_on_path=tmp_path).splitlines() == [str(tmp_path / 'mmcv/_ext.py'), 'compiled', 'False']


# ---- mmdet and mmseg swallow the ImportError of mmcv.ops: who comes first decides

def test_late_import_raises_with_advice_and_installs_nothing():
    code = '''
import sys, warnings
warnings.simplefilter('ignore')
for binder in ('mmseg.utils.mask_classification', 'mmdet.structures.mask.structures'):
    __import__(binder)
    try:
        import mae_backbone
    except ImportError as error:
        print(binder in str(error), '`import mae_backbone` before' in str(error), 'custom_imports' in str(error))
    try:
        import mmcv.ops
    except ImportError as error:
        print(error)
try:
    sys.modules['mmdet.structures.mask.structures'].roi_align()
except RuntimeError as error:
    print('stub')
'''
    refused = "True True True\nNo module named 'mmcv._ext'\n"
    assert run(code) == refused + refused + 'stub\n'


def test_modules_that_bind_no_ops_may_come_first():
    """mmdet's and mmseg's own tools/train.py import these before they read a config with custom_imports."""
    code = '''
import mmdet.utils, mmdet.registry, mmseg.registry
import mae_backbone
import mmcv.ops, mmdet.structures.mask.structures as of_mmdet, mmseg.utils.mask_classification as of_mmseg
print(of_mmdet.roi_align is mmcv.ops.roi_align, of_mmseg.point_sample is mmcv.ops.point_sample)
'''
    assert run(code) == 'True True\n'


def test_all_modules_that_bind_ops_are_known():
    binders = []
    for package in ('mmdet', 'mmseg'):
        folder = Path(find_spec(package).submodule_search_locations[0])
        for file in folder.rglob('*.py'):
            # In the first column or in a `try` there: what is imported inside of a function binds nothing early.
            if '.mim' not in file.parts and re.search(r'^( {4})?from mmcv\.ops', file.read_text('utf-8'), re.MULTILINE):
                binders.append('.'.join([package, *file.relative_to(folder).with_suffix('').parts]))
    assert len(binders) > 30
    assert mmcv_ops.without_ops(binders) == sorted(binders)


# ---- one training step and one prediction of whole models, shrunken

def shrunken(node: object) -> object:
    """A model's config with 16 channels everywhere, 3 classes, no synchronised norms and no pretrained weights."""
    if isinstance(node, list):
        return [shrunken(item) for item in node]
    if not isinstance(node, dict):
        return node
    replaced = {key: 16 for key, value in node.items() if key.endswith('channels') and isinstance(value, int)}
    if 'num_classes' in node:  # few, so that a chance score is above mmdet's threshold of 0.05
        replaced['num_classes'] = 3
    if 'norm_cfg' in node:
        replaced['norm_cfg'] = {'type': 'BN'}
    return {key: shrunken(value) for key, value in node.items()
            if key not in ('init_cfg', 'pretrained')} | replaced


def build(package: str, base: str, **preprocessor: object) -> torch.nn.Module:
    """The model of a base config of mmdet or mmseg on a ResNet-18 of 8, 16, 32, 64 channels."""
    from mmengine.config import Config, ConfigDict
    from mmengine.registry import MODELS, DefaultScope
    folder = Path(find_spec(package).submodule_search_locations[0])
    config = shrunken(Config.fromfile(folder / f'.mim/configs/_base_/models/{base}.py').model.to_dict())
    config['backbone'] |= {'depth': 18, 'base_channels': 8, 'stem_channels': 8}
    config['data_preprocessor'] |= preprocessor
    pyramid = config.get('neck') or config['decode_head']
    pyramid['in_channels'] = [8, 16, 32, 64]
    if 'auxiliary_head' in config:
        config['auxiliary_head']['in_channels'] = 32
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(package):
        return MODELS.build(ConfigDict(config))


def train_and_predict(model: torch.nn.Module, sample: object, *, autocast: bool = False) -> list:
    """One step of SGD on two copies of `sample`, loss and gradients finite, then the prediction for them."""
    images = torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8)
    batch = {'inputs': list(images), 'data_samples': [sample.clone(), sample.clone()]}
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 40
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert total > 0
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16, enabled=autocast):
        return model.eval()(**model.data_preprocessor(batch), mode='predict')


@pytest.mark.parametrize('autocast', [False, True], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize('base', ['mask-rcnn_r50_fpn', 'cascade-mask-rcnn_r50_fpn'])
def test_detectors_train_and_predict(base, autocast):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    masks = np.zeros((2, 96, 96), dtype=np.uint8)
    masks[0, 10:50, 20:60] = masks[1, 40:90, 30:80] = 1
    sample = DetDataSample(metainfo={'img_shape': (96, 96), 'ori_shape': (96, 96), 'scale_factor': (1., 1.)})
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[20., 10, 60, 50], [30, 40, 80, 90]]),
                                       labels=torch.tensor([1, 2]), masks=BitmapMasks(masks, 96, 96))
    for prediction in train_and_predict(build('mmdet', base), sample, autocast=autocast):
        found = prediction.pred_instances
        assert 0 < len(found) <= 100
        assert found.masks.shape == (len(found), 96, 96)
        assert torch.isfinite(found.bboxes).all()


def test_upernet_trains_and_predicts():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    sample = SegDataSample(metainfo={'img_shape': (96, 96), 'ori_shape': (96, 96)})
    sample.gt_sem_seg = PixelData(data=torch.randint(3, (1, 96, 96)))
    for prediction in train_and_predict(build('mmseg', 'upernet_r50', size=(96, 96)), sample):
        assert prediction.pred_sem_seg.data.shape == (1, 96, 96)
        assert torch.isfinite(prediction.seg_logits.data).all()
