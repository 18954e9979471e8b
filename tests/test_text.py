"""Text of strangers: JSON and YAML within bounds, files of the right kind and length, values cut."""

import json
import os
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from toolkit.regular import opened
from toolkit.runtime import InputError
from toolkit.text import (
    DEPTH,
    check_record,
    one_line,
    parse_json,
    parse_yaml,
    printable,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
    short,
)


class Cut(TypedDict):
    side: int


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + LAUGHS.split("\n", 1)[1].replace("[", "{<<: [").replace("]", "]}")

BAD_JSON = {
    "empty": "",
    "cut off": '{"a": [1, 2',
    "deep": "[" * 101 + "]" * 101,
    "very deep": "[" * 1_000_000,
    "deep mappings": '{"a":' * 200 + "1" + "}" * 200,
    "deep after texts with brackets": '["\\"[]]]]]]]", ' + "[" * 120 + "]" * 121,
    "nan": '{"a": NaN}',
    "infinity": "[-Infinity]",
    "overflow": "[1e999]",
    "long number": "[" + "9" * 10_000 + "]",
    "number beyond floats": "[" + "9" * 400 + "]",
    "long fraction": "[0." + "9" * 10_000 + "]",
    "half a character": '["\\ud800"]',
    "two first halves": '["\\ud83d\\ud83d\\ude00"]',
    "halves apart": '["\\ud83d\\\\\\ude00"]',
    "control character": '["a\nb"]',
    "two values": "{} {}",
}
BAD_YAML = {
    "laughs": LAUGHS,
    "laughs of merges": MERGES,
    "alias of itself": "a: &a [*a]",
    "unknown alias": "a: *b",
    "duplicate anchor": "- &a 1\n- &a 2",
    "object": "!!python/object/apply:os.system ['true']",
    "deep lists": "[" * 10_000,
    "deep blocks": "- " * 10_000,
    "deep mappings": "{a: " * 200 + "1" + "}" * 200,
    "deep keys": "? " * 10_000,
    "long": "#" + "x" * 2_000_000,
    "many values": "- a\n" * 60_000,
    "date": "2024-99-99",
    "date of a tag": "!!timestamp x",
    "float of a tag": "!!float x",
    "int of a tag": "!!int ''",
    "bool of a tag": "!!bool x",
    "time zone": "2001-01-01t00:00:00+99:00",
    "nan": "a: .nan",
    "infinity": "a: -.INF",
    "overflow": "a: 1.0e+999",
    "long number": "a: " + "9" * 10_000,
    "long hexadecimal": "a: 0x" + "f" * 1000,
    "long sexagesimal": "a: 1" + ":1" * 100_000,
    "list as key": "{[1]: 2}",
    "two documents": "--- 1\n--- 2",
    "half a character": '"\\ud800"',
    "zero byte": "a: \0",
    "tab": "\t- a",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_is_refused(text):
    with pytest.raises(InputError, match="^a.json ") as caught:
        parse_json(text, "a.json")
    assert len(str(caught.value)) < 300
    with pytest.raises(InputError):
        parse_json(text.encode(), "a.json")


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_yaml_that_is_refused(text):
    begin = time.monotonic()
    with pytest.raises(InputError, match="^a.yaml ") as caught:
        parse_yaml(text, "a.yaml")
    assert time.monotonic() - begin < 20
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@pytest.mark.parametrize("data", [b'"\xff"', b"\xff\xfe[\0]\0", b"\x80"])
def test_bytes_that_are_not_utf8(parse, data):
    with pytest.raises(InputError, match="UTF-8"):
        parse(data, "a")


def test_what_is_accepted():
    deep = "[" * DEPTH + "]" * DEPTH
    assert str(parse_json(deep, "a")) == str(parse_yaml(deep, "a")) == deep
    assert parse_json('\ufeff{"a": "\\ud83d\\ude00 [[["}'.encode(), "a") == {"a": "\U0001f600 [[["}
    assert parse_json('["\\\\ud800", "\\\\\\"[["]', "a") == ["\\ud800", '\\"[[']
    assert parse_yaml("\ufeffa: &b [1, 2.5, on]\nc: *b".encode(), "a") == {
        key: [1, 2.5, True] for key in "ac"
    }
    assert parse_yaml("{1: on, b: 2024-99-99}", "a", plain=True) == {"1": "on", "b": "2024-99-99"}
    many = [f"class {i}" for i in range(20_000)]
    assert parse_yaml("\n".join(f"- {name}" for name in many), "a") == many


numbers = st.integers(-(10**90), 10**90) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=20,
)


@given(values, st.booleans())
def test_json_is_read_as_it_was_written(value, ascii_only):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only), "a") == value


@given(st.text() | st.text("[]{}&*!?:-,<> \n'\"|>%@`a0.1_~=", max_size=60) | st.binary(max_size=60))
def test_any_text_is_a_value_or_refused(text):
    for parse in (parse_json, parse_yaml):
        try:
            json.dumps(parse(text, "a"), default=str, allow_nan=False)
            sentence = ""
        except InputError as error:
            sentence = str(error)
        assert "\n" not in sentence


def test_files_that_are_not_read(tmp_path):
    (tmp_path / "long").write_bytes(b"[]" * 50)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "long", "pipe", "loop", ".", "a" * 500, "zero\0"):
        with pytest.raises(InputError):
            read_json(tmp_path / name, limit=99)
    with pytest.raises(InputError, match="not a file"):
        read_bytes("/dev/zero", 10)
    assert read_bytes(tmp_path / "long", 100) == b"[]" * 50


def test_a_folder_on_the_way_that_is_closed_to_us_is_named_as_such(tmp_path, monkeypatch):
    """As for another user than root, who may enter every folder."""

    def stat(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stat)
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            read_bytes(tmp_path / "a", 10)


def test_a_yaml_file_holds_a_mapping_of_names(tmp_path):
    with pytest.raises(InputError, match="name a file"):
        read_yaml(tmp_path / "a.yaml", "name a file")
    for text in ("", "- a", "1: 2", "null: 1"):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(InputError):
            read_yaml(tmp_path / "a.yaml", "")
    (tmp_path / "a.yaml").write_text("a: 1\n")
    assert read_yaml(tmp_path / "a.yaml", "") == {"a": 1}


def test_a_value_in_a_sentence_is_short_and_on_one_line():
    for value in ("a\n\x1b[31m" * 1000, 10**10_000, [[[[1]]]] * 1000, {"a" * 999: 1}, "\ud800", b"\n" * 999):
        assert len(short(value)) < 500
        assert short(value).isprintable()


def peak(function, *arguments):
    """Bytes of memory that a call takes at most, and its error or None."""
    tracemalloc.start()
    try:
        function(*arguments)
        error = None
    except InputError as caught:
        error = caught
    finally:
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return memory, error


@pytest.mark.parametrize("part", ["[]", "{}", '[[""]]', '{"a":[]}'])
def test_json_of_many_values_does_not_fill_the_memory(part):
    text = f"[{','.join([part] * (16_000_000 // (len(part) + 1)))}]"
    memory, error = peak(parse_json, text, "a.json")
    assert str(error).startswith("a.json holds more values")
    assert memory < 100_000_000
    assert len(parse_json(text[: len(text) // 16].rpartition(",")[0] + "]", "a.json")) > 100_000


def test_reading_a_small_file_takes_little_memory(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    assert peak(read_bytes, tmp_path / "a", 10_000_000)[0] < 200_000


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a")
    monkeypatch.setattr("toolkit.regular.why_not_regular", lambda path: "")  # as it was a moment before
    with pytest.raises(OSError, match="pipe"):
        opened(tmp_path / "a")


def test_text_of_any_encoding(tmp_path):
    for encoding in ("utf-8", "utf-16", "gb2312"):
        (tmp_path / "a").write_bytes("螺母\n".encode(encoding))
        assert read_text(tmp_path / "a", 99) == "螺母\n"
    (tmp_path / "a").write_bytes(b"\xff" * 9 + b"\0")
    for path, words in (
        (tmp_path / "a", "not a text file"),
        (tmp_path, "folder"),
        (tmp_path / "b", "missing"),
    ):
        with pytest.raises(InputError, match=words):
            read_text(path, 99)


def test_names_of_files_keep_their_spaces_and_signs():
    name = "Screenshot 2026-01-01 at 9.41.00\u202fAM \u00a0\u3000 \U0001f469\u200d\U0001f52c \u0645\u200c.png"
    assert printable(name) == name
    assert "\u200d" in one_line(name)
    for letter in "\x1b\x9b\r\u202e\u2066\u2028\u200b\ufeff\udc80":  # obeyed, not seen, or no character
        assert printable(letter).isascii()
        assert letter not in one_line(letter)


def test_a_field_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"^a\.json is damaged: \S+ is missing: make it again$"):
        check_record({}, Cut, "a.json", "make it again")
