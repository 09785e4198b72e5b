"""Predictors of exported files prepare, normalize and batch images as the PyTorch predictor does."""
from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_files import CLASSES, MEAN, STD, WEIGHT, classifier, describe, segmenter

import mae_backbone
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.cli.main import main
from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.prediction.typed_results import ClassificationResult, SegmentationResult
from mae_backbone.utils.image_grid import save_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
ANY_SIZE = dict(dynamic=('batch', 'size'), prepare={'kind': 'pipeline', 'steps': []})


def logits_of(pixels: np.ndarray) -> np.ndarray:
    """pixels (H, W, 3) RGB -> logits (H, W, 3)."""
    return (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(STD) @ WEIGHT.T


def test_scores_are_those_of_the_evaluation_transform(tmp_path: Path):
    model = mae_backbone.load(classifier(tmp_path / 'a.onnx', describe('classification').to_metadata()))
    results = model.predict([IMAGE, IMAGE[::-1].copy(), IMAGE[:16]], batch_size=2)
    for image, result in zip([IMAGE, IMAGE[::-1].copy(), IMAGE[:16]], results, strict=True):
        pixels = evaluation_transform(16)(image).permute(1, 2, 0).numpy()
        logits = logits_of(pixels).mean((0, 1))
        assert isinstance(result, ClassificationResult)
        np.testing.assert_allclose(result.scores, np.exp(logits) / np.exp(logits).sum(), atol=1e-6)
    assert model.classes == ('cat', 'dog', 'fox')
    assert model.class_ids == [3, 5, 9]
    assert model.predict(IMAGE).name in model.classes


def test_labels_are_those_of_each_pixel(tmp_path: Path):
    model = mae_backbone.load(segmenter(tmp_path / 'a.onnx', describe('segmentation', **ANY_SIZE).to_metadata()))
    result = model.predict(IMAGE)
    assert isinstance(result, SegmentationResult)
    assert result.labels.dtype == np.uint8
    assert (result.labels == logits_of(IMAGE).argmax(-1)).all()
    assert result.colors == [one.color for one in CLASSES]


def test_channels_are_those_of_the_model(tmp_path: Path):
    metadata = describe('segmentation', channels='BGR', **ANY_SIZE).to_metadata()
    model = mae_backbone.load(segmenter(tmp_path / 'a.onnx', metadata))
    assert (model.predict(IMAGE).labels == logits_of(IMAGE[..., ::-1]).argmax(-1)).all()


@pytest.mark.parametrize('settings', [dict(slide={'crop': [16, 16], 'stride': [10, 10]}), {}])
def test_windows_and_tiles_of_a_pixelwise_model_change_nothing(tmp_path: Path, settings: dict):
    metadata = describe('segmentation', settings=settings, **ANY_SIZE).to_metadata()
    model = mae_backbone.load(segmenter(tmp_path / 'a.onnx', metadata))
    expected = logits_of(IMAGE).argmax(-1)
    assert (model.predict(IMAGE).labels == expected).all()
    assert (model.predict(IMAGE, tile=16, overlap=0.25).labels == expected).all()
    assert (model.predict([IMAGE] * 3, batch_size=3)[2].labels == expected).all()


def test_a_threshold_that_is_not_a_score_is_refused(tmp_path: Path):
    model = mae_backbone.load(segmenter(tmp_path / 'a.onnx', describe('segmentation', **ANY_SIZE).to_metadata()))
    with pytest.raises(ValueError, match='the threshold is nan, expected a score'):
        model.predict(IMAGE, threshold=float('nan'))


def test_an_image_that_the_pipeline_resizes_gets_labels_at_its_size(tmp_path: Path):
    prepare = {'kind': 'pipeline', 'steps': [{'scale': [80, 48], 'keep_ratio': True}]}
    metadata = describe('segmentation', dynamic=('batch', 'size'), prepare=prepare).to_metadata()
    model = mae_backbone.load(segmenter(tmp_path / 'a.onnx', metadata))
    flat = np.repeat(np.repeat(IMAGE[:6, :10], 4, 0), 4, 1)
    labels = model.predict(flat).labels
    assert labels.shape == (24, 40)
    assert (labels[2::4, 2::4] == logits_of(IMAGE[:6, :10]).argmax(-1)).mean() > 0.9


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path):
    metadata = describe('segmentation', dynamic=(), prepare=ANY_SIZE['prepare']).to_metadata()
    model = mae_backbone.load(segmenter(tmp_path / 'a.onnx', metadata))
    assert model.predict(IMAGE[:16, :16]).labels.shape == (16, 16)
    with pytest.raises(CheckpointError, match='takes images of 16x16 pixels only, this one is 24x40'):
        model.predict(IMAGE)
    metadata = describe('segmentation', **ANY_SIZE, multiple=16, minimum=32).to_metadata()
    with pytest.raises(CheckpointError, match='sides of multiples of 16 pixels, 32 to 16384 pixels, this one is 24x40: '
                                              'predict it with the checkpoint'):
        mae_backbone.load(segmenter(tmp_path / 'a.onnx', metadata)).predict(IMAGE)


def test_metadata_that_do_not_fit_the_outputs_are_refused(tmp_path: Path):
    metadata = describe('classification', classes=CLASSES[:2]).to_metadata()
    with pytest.raises(CheckpointError, match='its metadata promise float32 of'):
        mae_backbone.load(classifier(tmp_path / 'a.onnx', metadata)).predict(IMAGE)
    with pytest.raises(CheckpointError, match='names no classes'):
        mae_backbone.load(classifier(tmp_path / 'a.onnx', describe('classification', classes=()).to_metadata()))
    metadata = describe('classification', prepare={'kind': 'unknown', 'reason': 'it has CLAHE'}).to_metadata()
    with pytest.raises(CheckpointError, match=r'predicts no image files \(it has CLAHE\)'):
        mae_backbone.load(classifier(tmp_path / 'a.onnx', metadata))
    with pytest.raises(CheckpointError, match='cannot be used for predictions: it was not written by'):
        mae_backbone.load(classifier(tmp_path / 'a.onnx', {}))


@pytest.mark.parametrize(('options', 'message'), [
    (dict(dtype='bfloat16'), 'is an exported model with a fixed config and precision'),
    (dict(config='x.py'), 'is an exported model with a fixed config and precision')])
def test_options_of_checkpoints_are_refused(tmp_path: Path, options: dict, message: str):
    path = classifier(tmp_path / 'a.onnx', describe('classification').to_metadata())
    with pytest.raises(ValueError, match=message):
        mae_backbone.load(path, **options)
    with pytest.raises(ValueError, match=r'read it with torch.export.load'):
        mae_backbone.load(tmp_path / 'a.pt2')
    model = mae_backbone.load(path)
    with pytest.raises(ValueError, match='test-time augmentation is in the config'):
        model.predict(IMAGE, tta=True)
    with pytest.raises(ValueError, match='a classifier needs the whole image'):
        model.predict(IMAGE, tile=8)


def test_the_command_writes_the_files_of_a_prediction(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = segmenter(tmp_path / 'a.onnx', describe('segmentation', **ANY_SIZE).to_metadata())
    (tmp_path / 'images').mkdir()
    save_picture(str(tmp_path / 'images' / 'one.png'), IMAGE)
    assert main(['predict', path, tmp_path / 'images', '-o', tmp_path / 'out']) == 0
    assert {file.name for file in (tmp_path / 'out').iterdir()} == {'areas.json', 'one.png', 'labels'}
    assert main(['predict', path, tmp_path / 'images', '-o', tmp_path / 'out', '--data-root', 'data']) == 2
    assert '--data-root: an exported file has its classes' in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:100])
    assert main(['predict', path, tmp_path / 'images', '-o', tmp_path / 'out']) == 2
    assert 'is not an ONNX file, or is damaged' in capsys.readouterr().err


def test_images_below_the_smallest_size_of_a_file_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture):
    """The others are predicted, as by a checkpoint."""
    path = segmenter(tmp_path / 'a.onnx', describe('segmentation', **ANY_SIZE, minimum=80).to_metadata())
    (tmp_path / 'images').mkdir()
    for name, side in (('a', 70), ('b', 80), ('c', 90)):
        save_picture(str(tmp_path / 'images' / f'{name}.png'), np.zeros((side, 100, 3), np.uint8))
    assert main(['predict', path, tmp_path / 'images', '-o', tmp_path / 'out', '--batch-size', '2']) == 0
    printed = capsys.readouterr().out
    assert 'skipped: a.png has 70x100 pixels (height x width), too few for the model' in printed
    assert '1 of 3 images are too small and were skipped: a.png' in printed
    assert {file.name for file in (tmp_path / 'out').iterdir()} == {'areas.json', 'b.png', 'c.png', 'labels'}


BANDS = dict(channels='', mean=(20000.0,) * 5, std=(9000.0,) * 5,
             reader={'type': 'ArrayReader', 'channels': 5, 'dtype': 'uint16'})


def test_bands_are_read_and_prepared_as_in_the_training(tmp_path: Path):
    weight = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    path = classifier(tmp_path / 'a.onnx', describe('classification', **BANDS).to_metadata(), weight=weight)
    pixels = np.random.default_rng(0).integers(0, 2 ** 16, (24, 40, 5), dtype=np.uint16)
    (tmp_path / 'images').mkdir()
    np.save(tmp_path / 'images' / 'one.npy', pixels)
    model = mae_backbone.load(path)
    result = model.predict(tmp_path / 'images' / 'one.npy')
    prepared = evaluation_transform(16, None, model.decoding)(pixels).numpy()
    logits = weight @ ((prepared - 20000) / 9000).mean((1, 2))
    np.testing.assert_allclose(result.scores, np.exp(logits) / np.exp(logits).sum(), atol=1e-5)
    assert (model.predict(pixels).scores == result.scores).all()
    assert result.draw().shape[2] == 3
    with pytest.raises(ValueError, match='pass the channels that the model was trained with'):
        model.predict(IMAGE)
    assert main(['predict', path, tmp_path / 'images', '-o', tmp_path / 'out']) == 0
    assert {file.name for file in (tmp_path / 'out').iterdir()} == {'scores.json', 'one.png'}


def test_readers_that_are_not_known_are_refused(tmp_path: Path):
    metadata = describe('classification', **BANDS | dict(reader={'type': 'Own', 'channels': 5})).to_metadata()
    with pytest.raises(CheckpointError, match="cannot be used for predictions: the reader 'Own' is not known"):
        mae_backbone.load(classifier(tmp_path / 'a.onnx', metadata))
    metadata = describe('classification', prepare={'kind': 'unknown', 'reason': 'its images are read by Own'})
    with pytest.raises(CheckpointError, match='its images are read by Own'):
        mae_backbone.load(classifier(tmp_path / 'a.onnx', metadata.to_metadata()))


def test_probabilities_of_a_segmenter_belong_to_its_labels(tmp_path: Path):
    metadata = describe('segmentation', **ANY_SIZE).to_metadata()
    predictor = mae_backbone.load(segmenter(tmp_path / 'a.onnx', metadata)).predictor
    labels, confidence = predictor.labels_and_confidence(IMAGE)
    logits = logits_of(IMAGE)
    assert (labels == logits.argmax(-1)).all()
    np.testing.assert_allclose(confidence, (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).max(-1), atol=1e-5)
