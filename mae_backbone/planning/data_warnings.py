"""Checks the data of a plan as the training does, and returns warnings about labels that are not used."""
from mae_backbone.planning.own_data import OwnData


def data_warnings(data: OwnData) -> list[str]:
    """Checks all splits of a data set, so that a plan is not made for data that the training would refuse.

    Reads the headers of all images, decodes some of them, and reads some of the label maps.

    Args:
        data: result of `find_data`.

    Returns:
        Warnings for the plan.

    Raises:
        DataError: the data cannot be used for training.
    """
    warnings = list(data.warnings)
    if data.task == 'pretraining':
        return warnings
    masks = data.splits['train'].has_masks
    for data_format in data.splits.values():
        data_format.check(masks=masks, labels=True)
        warnings += data_format.label_warnings()
    return warnings
