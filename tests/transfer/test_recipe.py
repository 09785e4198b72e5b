"""Encoders that a suite makes: one for all data sets or one for each, in the order in which they need each other."""
import re

import pytest

from mae_backbone.transfer.recipe import encoder_folder, read_entries, with_starts

DATA = dict(one='one', two='folder')
MAE = dict(pretrain='mae.py', data='one')


def test_a_name_may_have_an_encoder_for_each_data_set():
    entries = read_entries({'mae': dict(one=MAE, two=dict(MAE, data='two', folder='images', length=3, on=dict(
        labels=[0.1]))), 'file': dict(checkpoint='a.pth')}, DATA)
    assert list(entries) == ['mae/one', 'mae/two', 'file']
    first, second, given = entries.values()
    assert (first.name, first.limits, first.is_extra) == ('mae', {'data': ('one',)}, False)
    assert (second.name, second.limits, second.is_extra) == ('mae', {'data': ('two',), 'labels': (0.1,)}, True)
    assert (second.recipe.command, second.recipe.folder, second.recipe.length) == ('pretrain', 'images', 3)
    assert [entry.is_for('two') for entry in (first, second, given)] == [False, True, True]
    assert (given.recipe, given.given) == (None, {'checkpoint': 'a.pth'})
    assert len({encoder_folder(key) for key in entries}) == 3


def test_an_encoder_is_for_the_data_that_it_is_made_from_unless_it_says_more():
    entries = read_entries({'a': MAE, 'b': dict(MAE, on=['two']), 'c': dict(MAE, on=dict(tasks=['knn']))}, DATA)
    assert [entry.limits['data'] for entry in entries.values()] == [('one',), ('two',), ('one',)]
    assert entries['c'].is_extra


def test_each_encoder_is_made_after_the_one_that_it_starts_from():
    entries = read_entries({'c': dict(MAE, start='b'), 'b': dict(MAE, start='a'), 'a': MAE,
                            'd': dict(MAE, start='a'), 'file': dict(checkpoint='x')}, DATA)
    assert with_starts(['d', 'c', 'file'], entries) == ['a', 'd', 'b', 'c']
    assert with_starts([], entries) == []


@pytest.mark.parametrize(('encoders', 'says'), [
    ({'a': 'mae.pth'}, "encoder 'a' of the suite is 'mae.pth': expected dict(checkpoint='MAE.pth')"),
    ({'a': dict(pretrain='mae.py')}, "is made from the data None: the suite has one, two"),
    ({'a': dict(MAE, data='three')}, "is made from the data 'three'"),
    ({'a': dict(MAE, epochs=3)}, 'has the unknown key epochs: an encoder that the suite makes has against, amp, data'),
    ({'a': dict(MAE, amp=1)}, 'has amp=1: expected True or False'),
    ({'a': dict(MAE, length=0)}, 'has length=0: expected 1 or more'),
    ({'a': dict(MAE, length=0.5)}, 'has length=0.5: expected a number of epochs'),
    ({'a': dict(MAE, seed=True)}, 'has seed=True: expected an integer'),
    ({'a': dict(MAE, pretrain=3)}, 'has pretrain=3: expected the path of a config'),
    ({'a': dict(MAE, train='x.py')}, 'has pretrain and train: set one'),
    ({'a': dict(MAE, folder='../x')}, "has folder='../x': expected a folder inside"),
    ({'a': dict(MAE, folder='/x')}, "has folder='/x': expected a folder inside"),
    ({'a': dict(MAE, options=['x'])}, 'expected a dict of --cfg-options'),
    ({'a': dict(MAE, on='one')}, "has on='one': expected names of data sets such as ['one']"),
    ({'a': dict(MAE, on=['three'])}, 'is for the data three: the suite has one, two'),
    ({'a': dict(MAE, on=dict(labels=0.1))}, "has on={'labels': 0.1}"),
    ({'a': dict(MAE, line=3)}, 'has line=3'),
    ({'a': dict(MAE, against='b')}, "has against='b'"),
    ({'a': dict(MAE, against=['b'])}, "encoder 'a' is compared with b: the suite has a"),
    ({'a': dict(MAE, start='b')}, "encoder 'a' starts from 'b': expected one that the suite makes, a"),
    ({'a': dict(MAE, start='b'), 'b': dict(checkpoint='x')}, "encoder 'a' starts from 'b'"),
    ({'a': dict(MAE, start='a')}, "encoder 'a' starts from itself: a from a"),
    ({'a': dict(MAE, start='b'), 'b': dict(MAE, start='a')}, "encoder 'a' starts from itself: a from b from a"),
    ({'a': dict(like='b')}, "encoder 'a' has the architecture of 'b': the suite has a"),
    ({'a/one': MAE}, '"/" in its name'),
    ({'a': dict(options={})}, "encoder 'a' of the suite is {'options': {}}: expected dict(checkpoint="),
    ({'a': dict(checkpoint='x', options={})}, 'expected dict(checkpoint=')])
def test_mistakes_are_named(encoders: dict, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        read_entries(encoders, DATA)
