"""Text from data is escaped in tables and pages."""
from helpers.html_reader import Reader

from mae_backbone.utils import html_report

NASTY = '<script>alert(1)</script> "quoted" | & \'s\nnext {{ 7 * 7 }}'


def test_text_is_escaped_on_a_page():
    reader = Reader(html_report.page(NASTY, [
        html_report.heading(NASTY), html_report.paragraph(NASTY), html_report.preformatted(NASTY),
        html_report.figure(NASTY, NASTY), html_report.html_table([NASTY], [[NASTY]]),
        html_report.html_table([NASTY, NASTY], iter([[NASTY, NASTY], (NASTY,)])),
        html_report.link(NASTY, NASTY), html_report.gallery({NASTY: NASTY}, NASTY)]))
    assert 'script' not in reader.tags
    assert reader.text.count(NASTY) == 15  # title, headline, heading, paragraph, lines, link, two captions, seven cells
    assert reader.values.count(NASTY) == 5  # addresses and alternative texts of both pictures, address of the link
    assert reader.values.count('2') == 1  # columns that the heading row spans


def test_words_in_backticks_are_code():
    assert html_report.paragraph('run `a < b` or `c`') == '<p>run <code>a &lt; b</code> or <code>c</code></p>'
    assert html_report.paragraph('one ` alone') == '<p>one ` alone</p>'


def test_plain_string_on_a_page_is_escaped():
    reader = Reader(html_report.page('title', ['<script>']))
    assert 'script' not in reader.tags
    assert any('<script>' in text for text in reader.text)


def test_markdown_cells_are_escaped():
    head, rule, row = html_report.markdown_table(['a', 'b'], [[NASTY, 'c']]).splitlines()
    assert (head, rule) == ('| a | b |', '| --- | --- |')
    assert row.replace(r'\|', '').count('|') == 3


def test_page_loads_nothing_from_other_places():
    picture = html_report.data_uri(b'abc', 'image/png')
    assert picture == 'data:image/png;base64,YWJj'
    assert '://' not in html_report.page('title', [html_report.figure(picture, 'words')])
