"""`mae_backbone.load`: a file of any task becomes a model that predicts; the process stays as it was."""
import logging
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
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
    with pytest.raises(ValueError, match='which does not predict classes'):
        model.predict(IMAGE)


def test_threads_load_and_predict_at_once_as_one_does(files):
    def work(task: str) -> list[np.ndarray]:
        model = mae_backbone.load(files[task])
        result = model.predict([IMAGE, IMAGE[:, ::-1].copy()])
        return [model.features(IMAGE), *(getattr(one.prediction, 'scores', one.prediction) for one in result)]

    tasks = list(TASKS) * 2
    expected = {task: work(task) for task in TASKS}
    scope = dict(DefaultScope._instance_dict)
    with ThreadPoolExecutor(len(tasks)) as pool:
        for task, values in zip(tasks, pool.map(work, tasks), strict=True):
            for value, alone in zip(values, expected[task], strict=True):
                np.testing.assert_allclose(value, alone, rtol=1e-5, atol=1e-6)
    assert scope == dict(DefaultScope._instance_dict)


@pytest.mark.parametrize('task', TASKS)
def test_results_are_plain_objects(files, task):
    result = mae_backbone.load(files[task]).predict(IMAGE)
    assert repr(pickle.loads(pickle.dumps(result))) == repr(result)


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_tiles_and_test_time_augmentation_are_options_of_a_prediction(files, task, tmp_path):
    cfg, _ = model_of(task, tmp_path)
    model = mae_backbone.load(files[task])
    for options in (dict(tile=32, overlap=0.25), dict(tta=True)):
        expected = predictor.Predictor(cfg, files[task], **options)(IMAGE)
        found = model.predict(IMAGE, **options).prediction
        assert (getattr(found, 'scores', found) == getattr(expected, 'scores', expected)).all()
    assert model.predict(IMAGE).describe() == model.predict([IMAGE])[0].describe(), 'options are not kept'
    with pytest.raises(ValueError, match='tiles of 0 pixels'):
        model.predict(IMAGE, tile=0)


def test_a_lower_precision_is_close(files):
    expected = mae_backbone.load(files['classification']).predict(IMAGE).scores
    found = mae_backbone.load(files['classification'], dtype='bfloat16').predict(IMAGE).scores
    assert 0 < np.abs(found - expected).max() < 0.1
    with pytest.raises(ValueError, match="dtype='int8', expected one of float32"):
        mae_backbone.load(files['classification'], dtype='int8')


def test_features_equal_those_of_the_model(files):
    model = mae_backbone.load(files['pretraining'])
    encoder, image = model.net.mae.encoder, torch.from_numpy(IMAGE[:32, :32].copy()).permute(2, 0, 1)
    inputs = model.net.data_preprocessor({'inputs': [image]})['inputs']
    with torch.no_grad():
        tokens = encoder.encode(encoder.embed(inputs))
    options = dict(as_tensor=True)
    torch.testing.assert_close(model.features(image, **options).flatten(2).transpose(1, 2), tokens[:, 1:])
    torch.testing.assert_close(model.features(image, pool='class', **options), tokens[:, 0])
    torch.testing.assert_close(model.features(image, pool='mean', **options), tokens[:, 1:].mean(1))
    assert not torch.equal(model.features(image, layer=0, **options), model.features(image, **options))
    assert model.features([image] * 3, batch_size=2, size=(16, 64)).shape == (3, 16, 2, 8)


def test_features_of_a_model_that_takes_bgr_are_computed_from_bgr(files):
    model = mae_backbone.load(files['segmentation'])  # its preprocessor does not exchange the channels
    image = np.random.default_rng(0).integers(0, 256, (*model.encoder.image_size, 3), np.uint8)
    preprocessor = model.net.data_preprocessor
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None]
    expected, = model.net.backbone((pixels - preprocessor.mean) / preprocessor.std)
    np.testing.assert_allclose(model.features(image), expected.detach(), atol=1e-5)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(pool='max'), "pool='max', expected None"), (dict(layer=2), 'the 2 blocks are numbered from 0'),
    (dict(pool='class', layer=0), 'for the last layer'), (dict(size=30), 'multiples of the patch size 8'),
    (dict(batch_size=0), 'expected 1 or more'),
])
def test_options_of_features_out_of_range_are_refused(files, options, message):
    with pytest.raises(ValueError, match=message):
        mae_backbone.load(files['pretraining']).features(IMAGE, **options)


def test_reconstructions_do_not_depend_on_the_batch(files):
    model = mae_backbone.load(files['pretraining'])
    images = [IMAGE, IMAGE[::-1].copy(), IMAGE[:, ::-1].copy()]
    singles, batch = (model.reconstruct(images, batch_size=number) for number in (1, 3))
    for one, other in zip(singles, batch, strict=True):
        assert (one.hidden == other.hidden).all()
        assert np.abs(one.reconstruction.astype(int) - other.reconstruction).max() <= 1
    assert model.reconstruct(IMAGE, mask_ratio=0.5).hidden.mean() == 0.5
    with pytest.raises(ValueError, match='between 0 and 1'):
        model.reconstruct(IMAGE, mask_ratio=1.5)
