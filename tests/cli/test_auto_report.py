"""The report of `mae-backbone auto` shows the results of each class and the last pictures of a run."""
import base64
import os
from pathlib import Path

from mae_backbone.cli.auto_report import report_page

STEPS = {'plan': dict(seconds=6, metrics={}), 'test': dict(seconds=60, metrics={'coco/bbox_mAP': 0.25})}


def write(path: Path, content: bytes, changed: float = 0) -> str:
    """Writes a file, and returns its content as it is in a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return base64.b64encode(content).decode()


def test_classes_and_pictures_are_on_the_page(tmp_path):
    write(tmp_path / 'test' / 'classes_test.csv', b'"class",AP\n"<b>, big",12.4618\n')
    shown = [
        write(tmp_path / 'test' / 'confusion_test.png', b'confusion'),
        write(tmp_path / 'train' / 'validation' / 'iter_9.jpg', b'last validation', changed=9),
        write(tmp_path / 'pretrain' / 'reconstructions' / 'iter_9.png', b'last reconstructions', changed=9),
        write(tmp_path / 'train' / 'training.png', b'curves')]
    hidden = [
        write(tmp_path / 'train' / 'validation' / 'iter_10.jpg', b'earlier validation', changed=1),
        write(tmp_path / 'train' / 'validation' / '.DS_Store', b'of a file manager', changed=10),
        write(tmp_path / 'train' / 'validation' / 'Thumbs.db', b'of another file manager', changed=10),
        write(tmp_path / 'pretrain' / 'reconstructions' / 'iter_10.png', b'earlier reconstructions', changed=1)]
    page = report_page(tmp_path, 'cells', 'best.pth', STEPS)
    assert all(content in page for content in shown)
    assert not any(content in page for content in hidden)
    assert '<td>&lt;b&gt;, big</td><td>12.5</td>' in page
    assert '<td>test</td><td>1.0</td>' in page


def test_a_run_without_pictures_has_a_page(tmp_path):
    assert 'coco/bbox_mAP' in report_page(tmp_path, 'cells', 'best.pth', STEPS)
    assert 'best.pth' in report_page(tmp_path, 'cells', 'best.pth', {'plan': STEPS['plan']})
