"""What the page does at each event, without a browser and without Gradio."""
import cv2
import numpy as np
import pytest
from helpers.model_files import TASKS, write_checkpoint
from helpers.onnx_files import classifier, describe, segmenter

import mae_backbone
from mae_backbone.demo.feature_bank import build_bank
from mae_backbone.demo.page import MAX_FIGURE, Page, View, Visit, fit

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return {task: mae_backbone.load(write_checkpoint(task, tmp_path_factory.mktemp(task)), device='cpu')
            for task in (*TASKS, 'pretraining')}


@pytest.fixture
def page(models, tmp_path):
    def make(task: str, **options) -> Page:
        return Page(models[task], tmp_path, **{'bank': None, 'max_bytes': 10**6, **options})
    return make


def test_an_upload_becomes_a_visit(page, tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(cv2.imencode('.png', IMAGE[..., ::-1])[1].tobytes())
    visit, message, preview = page('classification').take(str(path))
    assert (visit.pixels == IMAGE).all()
    assert (preview == IMAGE).all()
    assert 'a.png: 72 x 48 pixels' in message


def test_a_broken_upload_gives_a_message(page, tmp_path):
    (tmp_path / 'b.png').write_bytes(b'no image')
    visit, message, preview = page('classification').take(str(tmp_path / 'b.png'))
    assert visit is preview is None
    assert 'role="alert"' in message
    assert 'b.png is not an image' in message
    assert str(tmp_path) not in message
    assert 'Upload an image' in page('classification').take(None)[1]


@pytest.mark.parametrize('task', TASKS)
def test_a_prediction_has_figure_legend_and_files(page, task):
    visit = Visit(IMAGE, IMAGE, 'a.png')
    view = page(task).predict(visit, 0.06)
    assert view.figure.ndim == 3
    assert 'class="legend' in view.text
    assert all(file.stat().st_size for file in view.files)
    again = page(task).show(visit, 1.0)
    assert {file.name for file in again.files} == {file.name for file in view.files}
    assert again.text != view.text
    assert not {*again.files} & {*view.files}  # a download that has begun is not overwritten


def test_probabilities_of_a_segmenter_belong_to_its_labels(models):
    labels, confidence = models['segmentation'].predictor.labels_and_confidence(IMAGE)
    assert (labels == models['segmentation'].predict(IMAGE).labels).all()
    assert (confidence >= 1 / len(models['segmentation'].classes) - 1e-6).all()
    assert (confidence <= 1).all()


def test_probabilities_that_take_too_much_memory_are_left_out(models, monkeypatch):
    monkeypatch.setattr('mae_backbone.prediction.chunked_logits.DEVICE_BYTES', 10_000)
    labels, confidence = models['segmentation'].predictor.labels_and_confidence(IMAGE)
    assert (labels == models['segmentation'].predict(IMAGE).labels).all()
    assert confidence is None


def test_a_mask_ratio_hides_that_fraction(page):
    view = page('pretraining').reconstruct(Visit(IMAGE, IMAGE, 'a.png'), 0.5, 0)
    assert '50% of the patches hidden' in view.text
    assert view.text.count('<img') == 3
    assert [file.name for file in view.files] == ['reconstruction.png']
    assert page('pretraining').reconstruct(Visit(IMAGE, IMAGE, 'a.png'), 0.5, 1).text != view.text


@pytest.mark.parametrize('task', [*TASKS, 'pretraining'])
def test_attention_follows_the_clicked_point(page, task):
    one, visit = page(task), Visit(IMAGE, IMAGE, 'a.png')
    center = one.attend(visit, one.blocks[-1])
    assert visit.point == (36, 24)
    assert visit.shown == center.figure.shape[:2]
    width = visit.shown[1]
    corner = one.click(visit, one.blocks[-1], (width - 1, 0))
    assert visit.point == pytest.approx((72 * (width - 1) / width, 0))
    assert (corner.figure != center.figure).any()


def test_neighbors_come_from_the_bank(page, models, tmp_path):
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.png'), IMAGE[..., ::-1])
    bank = build_bank(models['pretraining'], tmp_path / 'images')
    found = page('pretraining', bank=bank).find(Visit(IMAGE, IMAGE, 'a.png'))
    assert '<b>1.000</b> a.png' in found


def test_without_an_image_nothing_is_shown(page):
    assert page('detection').predict(None, 0.3) == page('detection').show(None, 0.3) == View()
    assert page('pretraining').reconstruct(None, 0.5, 0) == page('pretraining').attend(None, 0) == View()
    assert page('pretraining').find(None) == ''


@pytest.mark.parametrize('shape', [(4000, 10, 3), (20, 3200, 3), (30, 40, 3)])
def test_figures_fit_the_page(shape):
    fitted = fit(np.zeros(shape, np.uint8)).shape
    assert max(fitted) <= MAX_FIGURE
    assert fitted == shape or max(fitted) == MAX_FIGURE


def test_an_exported_model_has_a_page(tmp_path):
    anything = dict(dynamic=('batch', 'size'), prepare={'kind': 'pipeline', 'steps': []})
    for task, write, options in (('classification', classifier, {}), ('segmentation', segmenter, anything)):
        model = mae_backbone.load(write(tmp_path / f'{task}.onnx', describe(task, **options).to_metadata()))
        one, visit = Page(model, tmp_path, bank=None, max_bytes=10 ** 6), Visit(IMAGE, IMAGE, 'a.png')
        assert one.blocks == []
        view = one.predict(visit, 0.0)
        assert any(name in view.text for name in model.classes)
        assert view.files
