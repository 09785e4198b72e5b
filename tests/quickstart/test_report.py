"""Report of the quickstart, from logs in the format of MMEngine."""
import json
from html.parser import HTMLParser

import pytest
import torch

from mae_backbone.quickstart import report
from mae_backbone.quickstart.tasks import TASKS, TRANSFER
from mae_backbone.utils.run_logs import DONE


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Finished steps with two logged validations each, and no models to draw with."""
    for task in TASKS:
        for init, value in (('mae', 0.5), ('random', 0.25)):
            folder = tmp_path / f'{task.name}_{init}'
            for attempt, step in (('1', 10), ('2', 20)):
                logs = folder / attempt / 'vis_data'
                logs.mkdir(parents=True)
                lines = [{'loss': 1.0, 'step': step}]
                lines += [{key: value * step / 20 * 100 / task.scale, 'step': step} for key in task.metrics]
                (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
            (folder / DONE).write_text('90.0')
    (tmp_path / TRANSFER).mkdir()
    table = [{'task': 'knn', 'metric': 'top-1', 'model': model, 'summary': {'mean': mean}}
             for model, mean in (('iter_2', 30.0), ('random', 20.0))]
    cells = [{'task': 'knn', 'model': model, 'seconds': 30.0} for model in ('iter_2', 'random', 'random')]
    (tmp_path / TRANSFER / 'results.json').write_text(json.dumps({'table': table, 'cells': cells}))
    (tmp_path / TRANSFER / 'report.html').touch()
    (tmp_path / 'mae' / 'reconstructions').mkdir(parents=True)
    (tmp_path / 'mae' / 'reconstructions' / 'iter_2.png').write_bytes(b'')
    (tmp_path / 'mae' / DONE).write_text('120.0')
    monkeypatch.setattr(report, 'draw_task', lambda *_, **__: report.np.zeros((8, 8, 3), 'uint8'))
    monkeypatch.setattr(report, 'list_images', lambda _: [1, 2, 3])
    return tmp_path


def test_a_folder_that_was_moved_is_drawn_with_its_own_checkpoints(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(report, 'draw_predictions', lambda models, **_: drawn.update(models))
    for init in ('mae', 'random'):
        folder = tmp_path / f'segmentation_{init}'
        folder.mkdir()
        torch.save({'state_dict': {}, 'meta': {'iter': 2, 'epoch': 0}}, folder / 'iter_2.pth')
        (folder / 'last_checkpoint').write_text(f'elsewhere/segmentation_{init}/iter_2.pth')
    report.draw_task(TASKS[1], tmp_path)
    assert [path for _, path in drawn.values()] == [
        str(tmp_path / f'segmentation_{init}' / 'iter_2.pth') for init in ('mae', 'random')]


def test_results_have_every_metric_from_both_starts(work):
    rows = report.results(work)
    assert [row['metric'] for row in rows[::2]] == ['box AP', 'mask AP', 'mIoU', 'top-1']
    assert {(row['init'], row['value'], row['minutes']) for row in rows} == {('mae', 50.0, 1.5), ('random', 25.0, 1.5)}


def test_frozen_features_give_rows_of_the_same_kind(work):
    mae, random = report.frozen_results(work / TRANSFER)
    assert mae == {'task': 'frozen features, knn', 'metric': 'top-1', 'init': 'mae', 'value': 30.0, 'minutes': 0.5}
    assert (random['init'], random['value'], random['minutes']) == ('random', 20.0, 1.0)
    assert random.keys() == report.results(work)[0].keys()


def row(task: str, init: str, value: float) -> dict:
    return {'task': task, 'metric': 'top-1', 'init': init, 'value': value}


def test_the_verdict_explains_every_row_in_which_the_mae_is_not_ahead():
    rows = [row(task, init, value) for task, values in (('frozen features, knn', (23, 28)), ('detection', (15, 9)),
                                                        ('segmentation', (20, 19.5)), ('classification', (50, 50)))
            for init, value in zip(('mae', 'random'), values, strict=True)]
    lead, knn, classification = report.verdict(rows)
    assert lead.startswith('Pretraining helps in 2 of 4 comparisons, by 0.5 to 6.0 points.')
    assert knn == ('Frozen features, knn, top-1: -5.0 points. The features of this MAE tell the classes no better in '
                   'other uses either.')
    assert classification.startswith('Classification, top-1: +0.0 points. One short training each')
    assert report.verdict(rows[:2])[0] == 'Pretraining helps in none of 1 comparisons.'


@pytest.mark.parametrize(('whitened', 'linear', 'reason'), [
    ((41.5, 36.5), (47.8, 40.7), 'the classes differ in directions of small variance'),
    ((36.5, 41.5), (47.8, 40.7), 'not in the distances'), ((36.5, 41.5), (40.7, 47.8), 'no better in other uses')])
def test_the_reason_of_the_neighbors_follows_from_the_other_rows(whitened: tuple, linear: tuple, reason: str):
    rows = [row(f'frozen features, {task}', init, value) for task, values in (
        ('knn', (23, 28)), ('knn whitened', whitened), ('linear', linear))
        for init, value in zip(('mae', 'random'), values, strict=True)]
    (text,) = [text for text in report.verdict(rows) if text.startswith('Frozen features, knn, top-1: -5.0 points.')]
    assert reason in text
    assert f'give {whitened[0]:.1f} for the MAE and {whitened[1]:.1f} for random weights.' in text
    assert f'gives {linear[0]:.1f} for the MAE and {linear[1]:.1f} for random weights.' in text


def test_every_link_of_the_page_exists_and_its_tags_are_closed(work):
    page = report.write_report(work, pretrained_on=work)
    reader = Reader()
    reader.feed(page.read_text(encoding='utf-8'))
    assert reader.open == []
    assert len(reader.links) == 6
    assert all((work / link).is_file() for link in reader.links)
    pictures = [link for link in reader.links if link.endswith('.png')]
    assert all(picture in (work / 'report.md').read_text(encoding='utf-8') for picture in pictures)
    assert len(json.loads((work / 'results.json').read_text(encoding='utf-8'))) == 10
    assert '+25.0' in page.read_text(encoding='utf-8')


class Reader(HTMLParser):
    """Collects pictures and tags that stay open."""

    def __init__(self) -> None:
        super().__init__()
        self.links, self.open = [], []

    def handle_starttag(self, tag, attrs) -> None:
        self.links += [value for key, value in attrs if key in ('src', 'href')]
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag
