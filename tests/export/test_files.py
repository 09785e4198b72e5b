"""Targets become files that other programs read: whole, with names of axes and metadata, without paths."""
import errno
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mae_backbone.export import onnx_file, run, torch_export
from mae_backbone.export.modules import Activation, Chain, Pixels
from mae_backbone.export.target import Axis, ExportError, ExportTarget, image_axes
from mae_backbone.prediction.onnx.description import Description
from mae_backbone.prediction.onnx.session import OnnxSession

slow = pytest.mark.slow  # the first conversion to ONNX of a process takes several seconds
METADATA = {'mae_backbone.task': 'features', 'note': 'a "quoted" note, ä'}


def target(module: nn.Module | None = None, **axes: object) -> ExportTarget:
    module = (module or nn.Conv2d(3, 4, 3, padding=1)).eval().requires_grad_(False)
    return ExportTarget(module, (torch.zeros(2, 3, 8, 10),), ('images',), ('maps',),
                        {'images': image_axes(**({'batch': True, 'size': True, 'minimum': 2} | axes))},
                        {'maps': {0: 'batch', 2: 'height', 3: 'width'}}, METADATA)


class Exported(NamedTuple):
    target: ExportTarget
    path: Path
    converted: Any  # torch.onnx takes a second for each conversion


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path, one, kept = tmp_path_factory.mktemp('onnx') / 'model.onnx', target(), []
    with pytest.MonkeyPatch.context() as patch:
        convert = onnx_file.convert
        patch.setattr(onnx_file, 'convert', lambda *a, **options: kept.append(convert(*a, **options)) or kept[0])
        run.write_target(one, path, check=True)
    return Exported(one, path, kept[0])


@slow
def test_an_onnx_file_computes_what_the_module_does(exported: Exported):
    one, path, _ = exported
    images = torch.randn(3, 3, 5, 7)
    found, = OnnxSession(path)([images.numpy()])
    np.testing.assert_allclose(found, one.module(images).numpy(), atol=1e-5)
    assert [file.name for file in path.parent.iterdir()] == ['model.onnx'], 'nothing else is left behind'


@slow
def test_an_onnx_file_names_its_axes_and_has_metadata(exported: Exported):
    model = onnx.load(str(exported.path))
    onnx.checker.check_model(model)
    for value, channels in ((model.graph.input[0], 3), (model.graph.output[0], 4)):
        assert [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim] == [
            'batch', channels, 'height', 'width']
    entries = {one.key: one.value for one in model.metadata_props}
    verified = json.loads(entries.pop('mae_backbone.verified'))
    assert entries == METADATA
    assert verified['error'] < verified['limit'] == 1e-4
    assert model.opset_import[0].version == 18


@slow
def test_an_onnx_file_names_no_file_of_this_machine(exported: Exported):
    content = exported.path.read_bytes()
    assert b'.py' not in content
    assert str(Path.home()).encode() not in content


@slow
def test_large_weights_are_in_a_file_next_to_it(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_file, 'MAX_INLINE_BYTES', 100)
    with onnx_file.files(tmp_path / 'model.onnx') as temporary:
        onnx_file.save(exported.converted, METADATA, temporary)
    assert sorted(file.name for file in tmp_path.iterdir()) == ['model.onnx', 'model.onnx.data']
    images = np.ones((1, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(OnnxSession(tmp_path / 'model.onnx')([images])[0],
                                  OnnxSession(exported.path)([images])[0])


def test_a_pt2_file_is_read_by_torch_with_its_metadata(tmp_path: Path):
    one = target()
    run.write_target(one, tmp_path / 'model.pt2', check=True)
    extra = {torch_export.PT2_METADATA: ''}
    module = torch.export.load(tmp_path / 'model.pt2', extra_files=extra).module()
    images = torch.randn(3, 3, 6, 9)
    torch.testing.assert_close(module(images), one.module(images))
    metadata = json.loads(extra[torch_export.PT2_METADATA])
    assert metadata.pop('mae_backbone.verified')
    assert metadata == METADATA


@slow
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_a_file_that_differs_is_not_written(exported: Exported, tmp_path: Path, suffix: str,
                                            monkeypatch: pytest.MonkeyPatch):
    path, program = tmp_path / f'model{suffix}', torch_export.trace(exported.target)
    path.write_bytes(b'the old file')
    monkeypatch.setattr(onnx_file, 'convert', lambda *_, **__: exported.converted)
    monkeypatch.setattr(torch_export, 'trace', lambda _: program)
    torch.manual_seed(1)  # other weights than those of `exported`
    with pytest.raises(ExportError, match=r'differs from the model.*No file was written'):
        run.write_target(target(), path, check=True)
    assert path.read_bytes() == b'the old file'
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


class OneSize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(images.shape[0], 3, 80)


def test_a_module_for_one_size_cannot_have_dynamic_ones(tmp_path: Path):
    with pytest.raises(ExportError, match=r'with the dynamic axes batch, height, width .*: try fewer of them'):
        run.write_target(target(OneSize()), tmp_path / 'model.onnx')
    assert list(tmp_path.iterdir()) == []


def test_opsets_that_are_not_supported_are_refused():
    with pytest.raises(ValueError, match='opset=11, expected 18 to 23'):
        onnx_file.convert(target(), opset=11)


@pytest.mark.parametrize('channels', ['RGB', 'BGR'])
def test_pixels_are_normalized_in_the_order_of_the_model(channels: str):
    description = Description('features', channels=channels, mean=(1, 2, 3), std=(4, 5, 6), image_size=(8, 8))
    pixels = torch.randint(0, 256, (2, 3, 12, 9), dtype=torch.uint8)
    expected = pixels if channels == 'RGB' else pixels.flip(1)
    expected = (expected - torch.tensor([1.0, 2, 3])[:, None, None]) / torch.tensor([4.0, 5, 6])[:, None, None]
    torch.testing.assert_close(Pixels(description, None)(pixels), expected)
    assert Chain(Pixels(description, (8, 8)), nn.Identity())(pixels).shape == (2, 3, 8, 8)
    same = Pixels(description, (12, 9))(pixels)
    torch.testing.assert_close(same, expected, msg='a resize to the same size changes nothing')


def test_activations():
    logits = torch.randn(2, 3, 4, 5)
    assert Activation('logits')(logits) is logits
    torch.testing.assert_close(Activation('softmax')(logits), logits.softmax(1))
    assert torch.equal(Activation('argmax')(logits), logits.argmax(1))
    single = torch.randn(2, 1, 4, 5)
    torch.testing.assert_close(Activation('softmax', 0.4)(single), single.sigmoid())
    assert torch.equal(Activation('argmax', 0.4)(single), (single[:, 0].sigmoid() > 0.4).long())


def test_axes_of_images_have_multiples():
    assert image_axes(batch=False, size=False) == {}
    axes = image_axes(batch=True, size=True, multiple=14)
    assert axes[2] == Axis('height', 14, 14, 16380)
    assert axes[0].name == 'batch'


def test_full_disk_leaves_no_pt2_file_and_no_writer_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """torch's own writer aborts the process in its destructor."""
    def full(self: Path, _: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Path, 'write_bytes', full)
    one = target()
    with pytest.raises(OSError, match='No space left') as caught:
        torch_export.save(torch_export.trace(one), one.metadata, tmp_path / 'model.pt2')
    assert caught.value.filename == str(tmp_path / 'model.pt2')
    assert not list(tmp_path.iterdir())
