"""Tables and pages: whatever comes from data stays text."""
from html.parser import HTMLParser

from mae_backbone import page

NASTY = '<script>alert(1)</script> "quoted" | & \'s\nnext'


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.values, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data) -> None:
        self.text.append(data)


def test_text_from_data_stays_text_on_a_page():
    read = Reader(page.page(NASTY, [
        page.heading(NASTY), page.paragraph(NASTY), page.figure(NASTY, NASTY), page.html_table([NASTY], [[NASTY]]),
        page.gallery({NASTY: NASTY}, NASTY)]))
    assert 'script' not in read.tags
    assert read.text.count(NASTY) == 8  # title, headline, heading, paragraph, two captions and both cells
    assert read.values.count(NASTY) == 4  # the addresses of both pictures and the words in their place


def test_a_cell_of_markdown_ends_where_it_should():
    head, rule, row = page.markdown_table(['a', 'b'], [[NASTY, 'c']]).splitlines()
    assert (head, rule) == ('| a | b |', '| --- | --- |')
    assert row.replace(r'\|', '').count('|') == 3


def test_a_page_names_nothing_of_elsewhere():
    picture = page.data_uri(b'abc', 'image/png')
    assert picture == 'data:image/png;base64,YWJj'
    assert '://' not in page.page('title', [page.figure(picture, 'words')])
