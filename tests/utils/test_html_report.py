"""Tables and pages: whatever comes from data stays text."""

from helpers.html_reader import Reader

from mae_backbone.utils import html_report

NASTY = '<script>alert(1)</script> "quoted" | & \'s\nnext'




def test_text_from_data_stays_text_on_a_page():
    read = Reader(html_report.page(NASTY, [
        html_report.heading(NASTY), html_report.paragraph(NASTY),
        html_report.figure(NASTY, NASTY), html_report.html_table([NASTY], [[NASTY]]),
        html_report.gallery({NASTY: NASTY}, NASTY)]))
    assert 'script' not in read.tags
    assert read.text.count(NASTY) == 8  # title, headline, heading, paragraph, two captions and both cells
    assert read.values.count(NASTY) == 4  # the addresses of both pictures and the words in their place


def test_a_cell_of_markdown_ends_where_it_should():
    head, rule, row = html_report.markdown_table(['a', 'b'], [[NASTY, 'c']]).splitlines()
    assert (head, rule) == ('| a | b |', '| --- | --- |')
    assert row.replace(r'\|', '').count('|') == 3


def test_a_page_names_nothing_of_elsewhere():
    picture = html_report.data_uri(b'abc', 'image/png')
    assert picture == 'data:image/png;base64,YWJj'
    assert '://' not in html_report.page('title', [html_report.figure(picture, 'words')])
