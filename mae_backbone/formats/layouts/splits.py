"""Validation splits for sets without one: stratified by class, by group, and reproducible."""
import json
import subprocess
import sys
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.labeled_set import LabeledImage, LabeledSet

FRACTION = 0.2  # fraction for validation: one of nnU-Net's five folds (Isensee et al., Nature Methods 2021)
SEED = 0        # not the seed of a training, so that repeated trainings are validated on the same images
_MAX_PATTERN = 200  # characters
_SECONDS = 10.0     # limit of the time for matching all names with a pattern


class MadeSplit(NamedTuple):
    """A validation split that was made."""

    line: str                # line for the plan
    record: dict[str, object]  # lists of the images and how they were chosen, for a file


def make_validation(labeled: LabeledSet, *, pattern: str = '') -> MadeSplit | None:
    """Makes a validation split of the training images, if the set has none. Changes `labeled.images`.

    Images without any split count as training images. Images of the same group stay together.

    Args:
        labeled: the set, changed in place.
        pattern: regular expression that is searched in file names. Its first group, or the whole match, is the group
            of an image; images without a match are on their own.

    Returns:
        None if the set has a validation split.

    Raises:
        DataError: the pattern is invalid or too slow, or all images are in one group.
    """
    labeled.images = [image if image.split else image._replace(split='train') for image in labeled.images]
    if 'val' in labeled.splits:
        return None
    candidates = [image for image in labeled.images if image.split == 'train']
    if len(candidates) < 2:
        raise DataError(f'{labeled.root} has {len(candidates)} images to train on and no validation split: expected at '
                        'least two images')
    groups = _groups(candidates, pattern)
    chosen = choose([_classes(image) for image in candidates], groups, FRACTION, SEED)
    if not chosen or len(chosen) == len(candidates):
        raise DataError(f'{labeled.root}: all {len(candidates)} training images are in one group, so that no '
                        'validation split can be made: change --group-pattern')
    names = {candidates[index].file_name for index in chosen}
    labeled.images = [image._replace(split='val') if image.file_name in names else image for image in labeled.images]
    num_groups = len(set(groups))
    by_group = f' and by {num_groups:,} groups' if num_groups < len(candidates) else ''
    return MadeSplit(
        f'split: the data have no validation split: {len(names):,} of {len(candidates):,} images are held out, '
        f'stratified by class{by_group} (seed {SEED})',
        dict(seed=SEED, fraction=FRACTION, group_pattern=pattern, num_groups=num_groups,
             train=[image.file_name for image in labeled.images if image.split == 'train'], val=sorted(names)))


def choose(classes: list[frozenset[str]], groups: list[str], fraction: float, seed: int) -> list[int]:
    """Chooses validation images so that each class has about the same fraction of its images among them.

    Iterative stratification (Sechidis et al., ECML PKDD 2011) for two subsets, with whole groups as units: the rarest
    class that is left is distributed first, each unit to the subset that lacks most images of this class. A class that
    occurs in a single unit stays in training.

    Args:
        classes: classes that each image shows.
        groups: group of each image.
        fraction: fraction of the images for validation, in (0, 1).
        seed: seed of the order of the units.

    Returns:
        Sorted indices of the validation images.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(groups)).tolist():
        members[groups[index]].append(index)
    # Images without objects are a class as well.
    counts = {group: Counter(name for index in indices for name in (classes[index] or {''}))
              for group, indices in members.items()}
    units_of: dict[str, set[str]] = defaultdict(set)
    for group, counted in counts.items():
        for name in counted:
            units_of[name].add(group)
    order = {group: place for place, group in enumerate(members)}
    wanted = {name: fraction * sum(counts[group][name] for group in units) for name, units in units_of.items()}
    total = fraction * len(groups)
    chosen: set[str] = set()
    left = set(members)
    while left:
        name = min((name for name in units_of if units_of[name]), key=lambda name: (len(units_of[name]), name))
        units, single = sorted(units_of[name], key=order.__getitem__), len(units_of[name]) == 1
        for group in units:
            size = len(members[group])
            # Half of the unit still counts as wanted, so that the fraction is rounded and not cut.
            if not single and wanted[name] >= counts[group][name] / 2 and total >= size / 2:
                chosen.add(group)
                total -= size
                for other, count in counts[group].items():
                    wanted[other] -= count
            left.discard(group)
            for other in counts[group]:
                units_of[other].discard(group)
    if not chosen and len(members) > 1:
        chosen.add(min(members, key=lambda group: (len(members[group]), order[group])))
    return sorted(index for group in chosen for index in members[group])


def _classes(image: LabeledImage) -> frozenset[str]:
    return frozenset(labeled.name for labeled in image.objects if not labeled.is_crowd)


def _groups(images: list[LabeledImage], pattern: str) -> list[str]:
    """Returns the group of each image: by the pattern, by the source, or one group per image."""
    names = [image.file_name for image in images]
    matches = match_all(pattern, names) if pattern else [''] * len(names)
    if pattern and not any(matches):
        raise DataError(f'--group-pattern {pattern!r} matches none of the {len(names):,} file names, such as '
                        f'{names[0]}: correct it')
    return [f'pattern {match}' if match else f'group {image.group}' if image.group else f'image {image.file_name}'
            for match, image in zip(matches, images, strict=True)]


_MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
matches = map(re.compile(pattern).search, names)
json.dump([match and (match[1] if match.re.groups else match[0]) or '' for match in matches], sys.stdout)
"""


def match_all(pattern: str, names: list[str]) -> list[str]:
    """Searches a regular expression in names. Returns its first group or the whole match for each; '' without a match.

    Some patterns take exponential time, and Python's `re` has no limit. Therefore another process searches, and is
    stopped after 10 seconds.

    Raises:
        DataError: the pattern is too long, invalid, or too slow.
    """
    if len(pattern) > _MAX_PATTERN:
        raise DataError(f'--group-pattern has {len(pattern)} characters, expected at most {_MAX_PATTERN}')
    try:
        done = subprocess.run([sys.executable, '-I', '-c', _MATCH], input=json.dumps([pattern, names]).encode(),
                              capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DataError(f'--group-pattern {pattern!r} did not match {len(names):,} names within {_SECONDS:.0f} s: '
                        'remove repetitions inside of repetitions') from error
    if done.returncode:
        reason = done.stderr.decode(errors='replace').strip().splitlines()[-1:]
        raise DataError(f'--group-pattern {pattern!r} is no regular expression ({"".join(reason)}): correct it, such '
                        r"as '^(patient\d+)_' for names like patient12_03.png")
    return json.loads(done.stdout)
