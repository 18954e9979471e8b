"""A report on a phone: what is wide scrolls inside itself, and the list of contents leads to its sections."""

import cv2
import numpy as np

from toolkit.page import Section, Table, write_page


def test_a_phone_does_not_scroll_sideways(page, tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((100, 3000, 3), np.uint8))
    columns = {f"a long name of column {i}": ["0.123456", "a_name_without_spaces_" * 4] for i in range(9)}
    section = Section(
        "A command `toolkit train --data datasets/mine --model fastest-v2` in a text.",
        {"wide.png": "A picture"},
        [Table("A table", "folder/" * 12 + "figures.json", columns)],
        {"a figure": "of_many_letters" * 3},
        {"folder/" * 14: "a folder"},
    )
    write_page(tmp_path / "a.html", "Title", "Text", {"Part": section}, ["wide.png"], {"Part": "2 min"})
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto((tmp_path / "a.html").as_uri())
    wide, shown = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= shown == 390
    table = page.locator(".table")
    assert table.evaluate("e => e.scrollWidth > e.clientWidth")
    page.get_by_role("navigation").get_by_role("link", name="Part").click()
    assert page.url.endswith("#part")
