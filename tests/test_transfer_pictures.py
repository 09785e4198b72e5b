"""Pictures of a report: each is drawn from the spec of its cell, and one that cannot be leaves the others alone."""
from pathlib import Path

import cv2
import torch
from test_transfer_encoders import save
from test_transfer_probes import write_classes

from mae_backbone.pretrainer import MAEPretrainer
from mae_backbone.transfer import claims, pictures
from mae_backbone.transfer.encoders import find_encoders, read_architecture
from mae_backbone.transfer.frozen import build_frozen
from mae_backbone.transfer.picture_jobs import plan_pictures
from mae_backbone.transfer.pictures import draw_pictures, photographs
from mae_backbone.transfer.planning import Benchmark
from mae_backbone.transfer.suite import load_suite

ROOT = Path(__file__).parent.parent
CONFIG = ("model = dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2, "
          "encoder=dict(arch=dict(width=16, depth=2, heads=4)))")
SUITE = '''
title = 'Small'
data = dict(images='.')
tasks = dict(knn=dict(probe='knn', data=['images'], options=dict(k=K)))
'''


def save_mae(path: Path) -> Path:
    """A checkpoint as tools/pretrain.py writes it, of random weights."""
    torch.manual_seed(0)
    model = MAEPretrainer(
        dict(arch=dict(width=16, depth=2, heads=4), image_size=16, patch_size=4), decoder_width=16, decoder_depth=1,
        decoder_heads=2, compile=False,
        data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[127.5] * 3, std=[70.0] * 3))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=CONFIG)), path)
    return path


def benchmark(folder: Path, checkpoint: Path, data: Path, *, k: int = 3) -> Benchmark:
    (folder / 'suite.py').write_text(SUITE.replace('K', str(k)))
    encoders = find_encoders([str(checkpoint)], ['random'])
    suite = load_suite(str(folder / 'suite.py'), ROOT / 'configs')
    return Benchmark(suite, tuple(encoders), data, folder / 'out', ROOT)


def test_encoders_are_drawn_from_what_is_planned(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(pictures, 'build_frozen', lambda *args: (built.append(args), build_frozen(*args))[1])
    made = benchmark(tmp_path, save_mae(tmp_path / 'mae.pth'), write_classes(tmp_path / 'data'))
    [job] = plan_pictures(made)
    found = draw_pictures(claims.read_spec(job.folders[0]), job.folders[0])
    assert found['faults'] == []
    assert len(built) == 6, 'each encoder once for each kind of picture'
    assert list(found['pictures']) == ['attention.png', 'principal.png', 'reconstructions_0.png', 'neighbours_0.png',
                                       'neighbours_1.png']
    shapes = {name: cv2.imread(str(job.folders[0] / name)).shape for name in found['pictures']}
    assert shapes['attention.png'] == shapes['principal.png'] == shapes['reconstructions_0.png'] == (
        24 + 4 * 196, 3 * 196, 3)  # four images in three columns, below a line of titles
    assert shapes['neighbours_0.png'] == (24 + 6 * 100, 6 * 100, 3)


def test_without_a_decoder_the_rest_is_drawn(tmp_path):
    checkpoint = save(tmp_path / 'encoder.pth', config=CONFIG.replace('mae_backbone.MAEPretrainer', 'other'))
    made = benchmark(tmp_path, checkpoint, write_classes(tmp_path / 'data'))
    [job] = plan_pictures(made)
    found = draw_pictures(claims.read_spec(job.folders[0]), job.folders[0])
    assert len(found['pictures']) == 4
    assert ['no decoder to show' in fault for fault in found['faults']] == [True]


def test_other_weights_have_another_folder(tmp_path):
    data = write_classes(tmp_path / 'data')
    jobs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        jobs += plan_pictures(benchmark(tmp_path, save(tmp_path / 'mae.pth', config=CONFIG), data))
    assert jobs[0].folders != jobs[1].folders
    assert plan_pictures(benchmark(tmp_path, tmp_path / 'mae.pth', data)) == jobs[1:]


def test_photographs_are_validation_images_and_no_label_maps(tmp_path):
    write_classes(tmp_path / 'data')
    (tmp_path / 'data' / 'annotations' / 'val').mkdir(parents=True)
    (tmp_path / 'data' / 'annotations' / 'val' / 'map.png').touch()
    found = photographs(tmp_path / 'data', 3)
    assert len(found) == 3
    assert {path.relative_to(tmp_path / 'data').parts[0] for path in found} == {'val'}


def test_dense_maps_have_patches_of_images_of_any_size(tmp_path):
    checkpoint = save(tmp_path / 'mae.pth', config=CONFIG)
    data = write_classes(tmp_path / 'data')
    spec = {'of': 'encoders', 'data_root': str(data), 'classes': False, 'image_size': None,
            'encoders': [{'name': 'mae', 'architecture': read_architecture(checkpoint)._asdict()}],
            'where': {'checkpoints': [str(checkpoint)], 'features': None}}
    (tmp_path / 'out').mkdir()
    found = draw_pictures(spec, tmp_path / 'out')
    assert list(found['pictures']) == ['attention.png', 'principal.png']
    assert len(found['faults']) == 1
