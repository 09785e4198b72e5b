"""Results of `benchmark gpu` as text."""
from mae_backbone.benchmark.gpu.report import cell, line, markdown, table


def test_table_has_a_column_for_each_figure():
    assert table({'a': {'images/s': 1234.5, 'ok': True}, 'b': {'note': 'x|y'}}).splitlines() == [
        '|  | images/s | ok | note |', '| --- | --- | --- | --- |', '| a | 1,234 | yes |  |', '| b |  |  | x/y |']


def test_figures_have_three_digits():
    assert [cell(value) for value in (0.012345, 12.345, 99999.9, False, 3, 'text')] == [
        '0.0123', '12.3', '100,000', 'no', '3', 'text']


def test_reasons_are_in_line_and_report():
    check = {'rows': {}, 'error': 'no kernel', 'seconds': 2.0}
    assert line('ops', check) == 'ops: error: no kernel (2.0 s)'
    text = markdown({'command': 'benchmark gpu', 'checks': {'ops': check}})
    assert text == '`benchmark gpu`\n\n### ops\n\nerror: no kernel'
