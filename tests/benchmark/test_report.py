"""Report of a benchmark as a table and as JSON."""
import json
from pathlib import Path

import pytest
from helpers.commands import refused

from mae_backbone.benchmark.report import (
    Report,
    Side,
    bytes_text,
    check_json,
    measure_in_turns,
    median_parts,
    round_ratios,
    table,
    write_json,
)

REPORT = Report('step', {'device': 'abacus'}, Side(30.0, 800, {'dtype': 'float32'}, {'backward': 0.5}, {'flops': 2.0}),
                Side(20.0, 1000, {'dtype': 'float32'}, {'backward': 0.75}, {'flops': 3.0}), (1.25, 1.75, 1.5))


def test_json_has_both_sides_and_their_ratio(tmp_path: Path):
    write_json(REPORT.to_dict(), tmp_path / 'new' / 'report.json')
    result = json.loads((tmp_path / 'new' / 'report.json').read_text())
    assert result['ratio'] == {'throughput': 1.5, 'memory': 0.8}
    assert result['ours'] == {'throughput': 30.0, 'peak_memory': 800, 'settings': {'dtype': 'float32'},
                             'parts': {'backward': 0.5}, 'flops': 2.0}
    assert result['baseline']['peak_memory'] == 1000
    assert result['ratios'] == [1.25, 1.75, 1.5]


def test_a_file_that_cannot_be_written_is_refused_before_the_measurement(tmp_path: Path):
    with pytest.raises(IsADirectoryError, match='is a folder: pass the name of a file'):
        check_json(tmp_path)
    assert 'pass the name of a file' in refused('benchmark', 'flops', 'none', '--against', 'none', '--json', tmp_path)
    check_json(tmp_path / 'new' / 'report.json')
    assert (tmp_path / 'new').is_dir()


def test_table_has_throughput_parts_and_ratios():
    lines = table(REPORT).splitlines()
    assert lines[0] == 'step: device abacus'
    assert any('images/s' in line and '30.00' in line and '20.00' in line and '1.50 (1.25 to 1.75' in line
               for line in lines)
    assert any('backward' in line and '500.0 ms' in line and '750.0 ms' in line and '0.67' in line for line in lines)


def test_sides_take_turns_and_warm_up_is_not_counted():
    calls = []
    times = measure_in_turns(lambda: calls.append('ours') or len(calls), lambda: calls.append('plain') or len(calls),
                             rounds=2)
    assert calls == ['ours', 'plain'] * 3
    assert times == ([3, 5], [4, 6])


def test_the_ratio_is_the_median_of_the_rounds():
    report = REPORT._replace(ours=REPORT.ours._replace(throughput=90.0))
    assert report.ratio == {'throughput': 1.5, 'memory': 0.8}
    assert round_ratios([1.0, 2.0], [2.0, 3.0]) == (2.0, 1.5)
    assert median_parts([{'a': 1.0}, {'a': 9.0}, {'a': 2.0}]) == {'a': 2.0}


@pytest.mark.parametrize(('number', 'text'), [(12, '12 B'), (2048, '2 KiB'), (3 * 2**30, '3.00 GiB')])
def test_bytes_text(number: int, text: str):
    assert bytes_text(number) == text
