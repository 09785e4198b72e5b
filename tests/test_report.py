"""The report of the quickstart, from logs as MMEngine writes them."""
import json
from html.parser import HTMLParser

import pytest

from mae_backbone.quickstart import report


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Finished steps with two logged validations each, and no models to draw with."""
    for task in report.TASKS:
        for init, value in (('mae', 0.5), ('random', 0.25)):
            folder = tmp_path / f'{task.name}_{init}'
            for attempt, step in (('1', 10), ('2', 20)):
                logs = folder / attempt / 'vis_data'
                logs.mkdir(parents=True)
                lines = [{'loss': 1.0, 'step': step}]
                lines += [{key: value * step / 20 * 100 / task.percent, 'step': step} for key in task.metrics]
                (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
            (folder / report.DONE).write_text('90.0')
    (tmp_path / 'mae' / 'reconstructions').mkdir(parents=True)
    (tmp_path / 'mae' / 'reconstructions' / 'iter_2.png').write_bytes(b'')
    (tmp_path / 'mae' / report.DONE).write_text('120.0')
    monkeypatch.setattr(report, 'draw_task', lambda *_, **__: report.np.zeros((8, 8, 3), 'uint8'))
    monkeypatch.setattr(report, 'list_images', lambda _: [1, 2, 3])
    return tmp_path


def test_results_have_every_metric_from_both_starts(work):
    rows = report.results(work)
    assert [row['metric'] for row in rows[::2]] == ['box AP', 'mask AP', 'mIoU', 'top-1']
    assert {(row['init'], row['value'], row['minutes']) for row in rows} == {('mae', 50.0, 1.5), ('random', 25.0, 1.5)}


def test_every_link_of_the_page_exists_and_its_tags_are_closed(work):
    page = report.write_report(work, configs=work, pretrained_on=work)
    reader = Reader()
    reader.feed(page.read_text(encoding='utf-8'))
    assert reader.open == []
    assert len(reader.links) == 5
    assert all((work / link).is_file() for link in reader.links)
    assert all(link in (work / 'report.md').read_text(encoding='utf-8') for link in reader.links)
    assert len(json.loads((work / 'results.json').read_text(encoding='utf-8'))) == 8
    assert '+25.0' in page.read_text(encoding='utf-8')


class Reader(HTMLParser):
    """Collects pictures and tags that stay open."""

    def __init__(self) -> None:
        super().__init__()
        self.links, self.open = [], []

    def handle_starttag(self, tag, attrs) -> None:
        self.links += [value for key, value in attrs if key == 'src']
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag
