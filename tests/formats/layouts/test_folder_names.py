"""Folders of a project that hold no images of a data set."""
from mae_backbone.formats.layouts.folder_names import outside_projects


def test_folders_of_a_project_are_left_out_below_the_shared_folder() -> None:
    paths = ['a/b/images/1.jpg', 'a/b/Results/1.jpg', 'a/b/docs.jpg']
    assert outside_projects(paths) == ['a/b/images/1.jpg', 'a/b/docs.jpg']
    assert outside_projects(['results/x/1.jpg', 'results/y/2.jpg']) == ['results/x/1.jpg', 'results/y/2.jpg']
    assert outside_projects(['1.jpg', 'docs/1.jpg']) == ['1.jpg']
    assert outside_projects([]) == []
