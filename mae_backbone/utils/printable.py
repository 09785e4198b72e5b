"""Text that is safe to print: names of files and classes may hold control characters of terminals."""
import logging


def printable(text: str, *, keep: str = '') -> str:
    """Escapes characters that are not printable, such as `\\x1b`, line breaks and bytes that are not UTF-8.

    Args:
        text: any text, such as the name of a file.
        keep: characters that are not escaped.
    """
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() or c in keep else c.encode('unicode_escape').decode() for c in text)


def printable_lines(text: str) -> str:
    """Escapes all of a message but its line breaks and tabs."""
    return printable(text, keep='\n\t')


def escape_record(record: logging.LogRecord) -> bool:
    """A filter for a handler that escapes control characters, such as in names of files. Drops nothing."""
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return True
