"""Latency is measured on the same work in all runtimes, and reported against eager PyTorch."""
import pytest
from helpers.model_files import write_checkpoint

import mae_backbone
from mae_backbone.benchmark.latency import (
    Spec,
    Timing,
    check_same,
    prepare_files,
    prepare_onnxruntime,
    prepare_torch,
    random_checkpoint,
    read_runtimes,
    table,
    timed,
)


def test_runtimes_are_read_with_eager_first():
    assert read_runtimes('openvino,eager') == ['eager', 'openvino']
    assert read_runtimes('compile') == ['eager', 'compile']
    with pytest.raises(ValueError, match='--runtime tensorrt'):
        read_runtimes('eager,tensorrt')


def test_runtimes_compute_the_same(tmp_path):
    checkpoint = write_checkpoint('classification', tmp_path)
    folder = tmp_path / 'files'
    folder.mkdir()
    prepare_files(Spec(str(checkpoint), None), str(folder), ['eager', 'onnxruntime'])()
    seconds, expected = prepare_torch(str(folder), compiled=False)()
    assert 0 < seconds < 10
    assert prepare_onnxruntime(str(folder))()[1] == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(1)  # probabilities


def test_configs_have_random_weights_for_the_size(tmp_path):
    path = random_checkpoint(Spec('configs/classification/vit-ti_100e_in1k.py', 32), tmp_path / 'a.pth')
    model = mae_backbone.load(path, device='cpu')
    assert model.encoder.image_size == (32, 32)
    assert model.net.head.weight.std() > 0


def test_models_that_predict_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'MAEPretrainer: expected a classifier, segmenter or detector'):
        random_checkpoint(Spec('configs/demo/mae_vit-micro_cifar10.py', None), tmp_path / 'a.pth')
    checkpoint = write_checkpoint('pretraining', tmp_path)
    with pytest.raises(ValueError, match=r'a model for pretraining: expected a classifier, segmenter or detector'):
        prepare_files(Spec(str(checkpoint), None), str(tmp_path), ['eager'])()


def test_other_work_is_refused():
    check_same(Spec('a', 1), 'onnxruntime', 10.1, 10.0)
    for total in (10.5, float('nan')):
        with pytest.raises(ValueError, match='cannot be compared'):
            check_same(Spec('a', 1), 'onnxruntime', total, 10.0)


def test_table():
    text = table({'a': {'eager': Timing(0.2, 2**20, [1.0]), 'compile': Timing(0.1, 2**21, [2.0, 1.5, 3.0])}},
                 {'device': 'CPU'})
    assert 'compile' in text
    assert '2.00 (1.50 to 3.00)' in text
    assert '2 MiB' in text


def test_timing_repeats_a_fast_model():
    calls = []
    seconds, total = timed(lambda: calls.append(0) or 7.0)()
    assert len(calls) > 10
    assert seconds < 0.1
    assert total == 7.0
