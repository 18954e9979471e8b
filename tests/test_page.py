"""A report's page: it is well formed, carries its pictures, escapes its texts."""

import base64
from html.parser import HTMLParser
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from toolkit.page import Section, Table, read_section, write_page

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Pictures, links, identifiers and text of a page whose tags close in order and whose attributes do not
    repeat."""

    def __init__(self, text):
        super().__init__()
        assert text.startswith("<!doctype html>")
        self.open, self.tags, self.images, self.links, self.ids, self.text = [], set(), [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs)
        self.tags.add(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []
        self.links += [unquote(attributes["href"])] if tag == "a" else []
        self.open += [tag] if tag not in VOID else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (160, 320, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a photograph.png"), noise)
    cv2.imwrite(str(tmp_path / "chart.png"), np.full((80, 160, 3), 255, np.uint8))
    table = Table('T & "t"', "figures.json", {"<name>": ["a<b"], "value": ["long " * 10]})
    shown = Section(
        "Text with <b> & more",
        {"a photograph.png": 'noise, "seen" & heard', "chart.png": "nothing"},
        [table],
        {"speed": "1 < 2"},
        {"figures.json": "the figures"},
    )
    sections = {"One, with <tags>": shown, "Two": "it needs <ncnn>"}
    contents = {"One, with <tags>": "3 min", "Three": "to come"}
    write_page(tmp_path / "page.html", "Title <i>", "Head", sections, ["chart.png"], contents)
    return Page((tmp_path / "page.html").read_text())


def test_texts_are_escaped(page):
    for text in ("Title <i>", "Text with <b> & more", "a<b", 'T & "t"', "1 < 2", "Skipped: it needs <ncnn>."):
        assert text in page.text
    assert not page.tags & {"b", "i", "ncnn", "script"}
    assert page.ids == ["one-with-tags", "two"]


def test_the_contents_lead_to_the_sections_that_are_there(page):
    assert [link for link in page.links if link.startswith("#")] == ["#one-with-tags"]
    assert "3 min" in page.text
    assert "to come" in page.text


def test_pictures_are_inside_and_their_files_named(page):
    assert [image["alt"] for image in page.images] == ["nothing", 'noise, "seen" & heard']  # the lead first
    assert [image["src"][:15] for image in page.images] == ["data:image/png;", "data:image/jpeg"]
    for image, size in zip(page.images, [(160, 80), (320, 160)], strict=True):
        coded = np.frombuffer(base64.b64decode(image["src"].partition(",")[2]), np.uint8)
        assert cv2.imdecode(coded, cv2.IMREAD_COLOR).shape[1::-1] == size
        assert (int(image["width"]), int(image["height"])) == (size[0] * 0.6, size[1] * 0.6)
    assert page.links.count("figures.json") == 3  # the key figure, the table, the list of files
    assert page.links.count("a photograph.png") == 1


def test_a_section_goes_through_json():
    from dataclasses import asdict

    section = Section("Text", {"a.png": "A"}, (Table("T", "f", {"x": ["1"]}),), {"k": "v"})
    assert read_section(asdict(section)) == section


def test_a_command_in_a_text_is_code(tmp_path):
    write_page(tmp_path / "a.html", "Title", "", {"Part": Section("Run `a <b>` and `c`, not `d.")})
    page = Page((tmp_path / "a.html").read_text())
    assert "code" in page.tags
    assert "Run a <b> and c, not `d." in page.text
