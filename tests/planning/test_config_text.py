"""Text of configs: Python that gives the same values."""
import pytest

from mae_backbone.planning.config_text import formatted

VALUES = [
    dict(a=1, b=dict(c=[1, 2.5, (3,)], d='text'), e=None, f=True),
    [dict(type='Resize', scale=(640, 640), keep_ratio=True)] * 9,
    dict(numbers=list(range(200))),
    dict(nested=dict(deeper=dict(deepest=['long string of some length'] * 12, more=(1, 2)))),
    [], {}, (), (1,), '{{ fileDirname }}/{{{{$HOME:}}}}',
]


@pytest.mark.parametrize('value', VALUES, ids=range(len(VALUES)))
def test_text_is_python_of_the_same_value_in_120_columns(value):
    text = 'name = ' + formatted(value, 7)
    assert '{{' not in text  # MMEngine replaces templates in the text of a config
    variables: dict = {}
    exec(text, variables)
    assert variables['name'] == value
    assert max(map(len, text.splitlines())) <= 120
