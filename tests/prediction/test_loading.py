"""`mae_backbone.load`: a file of any task becomes a model that predicts; the process stays as it was."""
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.encoder_files import save
from helpers.model_files import CLASSES, TASKS, model_of, write_checkpoint
from mmengine.registry import DefaultScope

import mae_backbone
from mae_backbone.prediction import predictor
from mae_backbone.prediction.typed_results import DetectionResult

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {task: write_checkpoint(task, tmp_path_factory.mktemp(task)) for task in (*TASKS, 'pretraining')}


@pytest.mark.parametrize('task', TASKS)
def test_a_file_alone_predicts_as_its_config_and_checkpoint_do(files, task, tmp_path):
    cfg, _ = model_of(task, tmp_path)
    expected = predictor.Predictor(cfg, files[task])(IMAGE)
    model = mae_backbone.load(files[task])
    result = model.predict(IMAGE)
    assert (model.task, model.classes) == (task, CLASSES[task])
    if isinstance(result, DetectionResult):
        assert len(result) > 5
        assert (result.boxes == expected.boxes).all()
        assert (result.scores == expected.scores).all()
        assert result.rles == [mask.in_image(48, 72) for mask in expected.masks]
    else:
        assert (result.prediction == expected).all()
        assert len(np.unique(result.prediction)) > 1


@pytest.mark.parametrize('task', TASKS)
def test_predictions_of_a_batch_equal_those_of_single_images(files, task):
    model = mae_backbone.load(files[task])
    images = [IMAGE, IMAGE[:, ::-1].copy(), IMAGE[:40, :64].copy(), IMAGE.transpose(1, 0, 2).copy()]
    for single, batched in zip([model.predict(image) for image in images], model.predict(images, batch_size=3),
                               strict=True):
        if isinstance(single, DetectionResult):
            torch.testing.assert_close(single.boxes, batched.boxes, rtol=1e-4, atol=1e-3)
            assert single.names == batched.names
        else:
            np.testing.assert_allclose(single.prediction, batched.prediction, atol=1e-5)


@pytest.mark.parametrize('task', [*TASKS, 'pretraining'])
def test_loading_and_predicting_change_no_state_of_the_process(files, task, capfd):
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.Logger.manager.loggerDict))]

    def state() -> tuple:
        return (torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate(), torch.get_num_threads(),
                dict(DefaultScope._instance_dict), [(list(log.handlers), log.level, log.propagate) for log in loggers],
                torch.is_grad_enabled(), torch.get_default_dtype())
    before = state()
    model = mae_backbone.load(files[task])
    model.features(IMAGE)
    if task in TASKS:
        model.predict(IMAGE)
    assert state() == before
    assert capfd.readouterr() == ('', '')


def test_public_weights_become_an_encoder(tmp_path):
    model = mae_backbone.load(save(tmp_path / 'a.pth', prefix=''))
    assert model.task == 'features'
    assert model.features(IMAGE).shape == (1, 16, 4, 4)
    with pytest.raises(ValueError, match='which predicts no classes'):
        model.predict(IMAGE)
