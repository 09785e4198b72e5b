"""Text of configs without templates of MMEngine."""


def without_templates(code: str) -> str:
    """Returns Python code of the same value in which MMEngine finds no template, such as `{{ fileDirname }}`.

    MMEngine replaces templates in the text of a config before it reads it. Names of folders and classes may contain
    them. Two braces occur only in strings: a set or a dict is no element of a set and no key of a dict.
    """
    return code.replace('{{', '{\\x7b')
