from pathlib import Path

from mae_backbone.formats.messages import case_hint, does_not_exist, first_few


def test_missing_path_names_its_neighbors(tmp_path: Path) -> None:
    for name in ('camvid', 'nuclei'):
        (tmp_path / name).mkdir()
    (tmp_path / 'x.json').write_text('')
    assert does_not_exist(str(tmp_path / 'nucleus/train')) == (
        f'{tmp_path}/nucleus/train does not exist; {tmp_path} contains camvid/, nuclei/')
    assert 'camvid/, nuclei/, x.json' in does_not_exist(str(tmp_path / 'y.json'), suffix='.json')
    assert 'contains no folders' in does_not_exist(str(tmp_path / 'camvid/train'))


def test_first_few_are_at_most_three() -> None:
    assert [first_few([]), first_few([1, 2, 3]), first_few('abcd')] == ['', '1, 2, 3', 'a, b, c, ...']


def test_names_that_differ_in_case_are_named() -> None:
    assert case_hint(['red', 'blue'], ['Red', 'green']) == (
        '. Red and red differ only in upper and lower case: use the same spelling')
    assert case_hint(['red', 'blue'], ['red']) == ''
