"""`mae-backbone info` says what an exported file is, and nothing in the file is executed."""
import json
import zipfile
from pathlib import Path

import pytest
from helpers.commands import refused, run_command
from helpers.onnx_files import MEAN, classifier, describe, segmenter

import mae_backbone
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction.onnx.description import PREFIX, PT2_METADATA, Description

VERIFIED = {f'{PREFIX}verified': json.dumps(dict(error=3e-7, limit=1e-4, images=5, sizes=[[16, 16], [24, 16]]))}


def pt2(path: Path, metadata: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('model/version', '0')
        archive.writestr(f'model/extra/{PT2_METADATA}', json.dumps(metadata))
    return path


def test_a_page_on_an_onnx_file(tmp_path: Path):
    description = describe('segmentation', dynamic=('batch', 'size'), minimum=8, source={'versions': {'torch': '2.14'}})
    path = segmenter(tmp_path / 'a.onnx', description.to_metadata() | VERIFIED | {f'{PREFIX}int8': '97% agree'})
    page = mae_backbone.info(path)
    assert page.task == 'segmentation'
    assert page.classes[1] == {'id': 5, 'name': 'dog', 'color': (0, 255, 0)}
    assert page.num_parameters == 9
    assert page.verified['error'] == 3e-7
    text = run_command('info', path)
    for words in ('ONNX file, opset 18', 'weights   9 numbers in tensors of 1 float', 'images float (batch, 3, h, w)',
                  'logits float (batch, 3, h, w)', 'size      any from 8 pixels on (training: 16x16',
                  'dynamic   batch, size', f'mean {list(MEAN)}', 'classes   3: cat (3), dog (5), fox (9)',
                  '3e-07 (limit 0.0001), 5 images of 16x16, 24x16', 'int8      97% agree', 'versions  torch 2.14'):
        assert words in text
    assert 'holds no config' in refused('info', path, '--show-config')


def test_a_page_on_a_pt2_file(tmp_path: Path):
    description = Description('features', part='backbone', image_size=(224, 224), multiple=16, preprocessing=True)
    text = run_command('info', pt2(tmp_path / 'a.pt2', description.to_metadata()))
    for words in ('graph of torch.export', 'task      features, backbone', 'any, resized to 224x224 pixels inside',
                  'dynamic   none', 'verified  no'):
        assert words in text


def test_files_of_other_programs(tmp_path: Path):
    text = run_command('info', classifier(tmp_path / 'a.onnx', {}))
    assert 'images float (batch, 3, 16, 16)' in text
    assert 'none that mae-backbone can use: it was not written by `mae-backbone export`' in text
    assert 'was not written by' in str(mae_backbone.info(pt2(tmp_path / 'a.pt2', {})))


@pytest.mark.parametrize('content', ['[]', '{"mae_backbone.task": 3}', '"' + 'x' * 9_000_000 + '"'])
def test_metadata_of_any_content(tmp_path: Path, content: str):
    with zipfile.ZipFile(tmp_path / 'a.pt2', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f'model/extra/{PT2_METADATA}', content)
    if len(content) > 1000:
        with pytest.raises(CheckpointError, match='is damaged or cut off'):
            mae_backbone.info(tmp_path / 'a.pt2')
    else:
        assert mae_backbone.info(tmp_path / 'a.pt2').description is None


def test_damaged_values_are_left_out(tmp_path: Path):
    metadata = describe('classification', source={'versions': 3}).to_metadata()
    for verified in ('[1]', '{', '{"sizes": 3}', '{"sizes": [3]}'):
        page = mae_backbone.info(pt2(tmp_path / 'a.pt2', metadata | {f'{PREFIX}verified': verified}))
        assert page.verified == {}
        assert 'verified  no' in str(page)


def test_files_that_are_cut_off_are_refused(tmp_path: Path):
    for path in (classifier(tmp_path / 'a.onnx', {}), pt2(tmp_path / 'a.pt2', {})):
        path.write_bytes(path.read_bytes()[:90])
        assert 'damaged or cut off' in refused('info', path)
    assert 'does not exist' in refused('info', tmp_path / 'b.onnx')
