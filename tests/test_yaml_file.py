import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymnist import yaml_file
from raymnist.errors import InputError


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("-2e+3", -2e3), ("1.5e-3", 1.5e-3), (".5", 0.5), ("3.", 3.0), ("7", 7), ("-7", -7)],
)
def test_numbers_are_numbers(text, number):
    value = yaml_file.parse(text, "test")
    assert value == number
    assert type(value) is type(number)


@pytest.mark.parametrize("text", ["1e", "e4", "1.2.3", "mnist", "1-2", ".", "-", "010", "1:30", "2026-01-02", "0x1f"])
def test_what_is_no_number_stays_text(text):
    assert yaml_file.parse(f"[{text}]" if text == "-" else f"a: {text}", "test") in ({"a": text}, [text], [[None]])


def test_a_duplicate_key_is_named_with_file_and_line():
    with pytest.raises(InputError, match=r"^file\.yaml, line 3: duplicate key 'a'$"):
        yaml_file.parse("a: 1\nb: 2\na: 3\n", "file.yaml")


def test_a_duplicate_key_deep_inside_is_found():
    with pytest.raises(InputError, match="line 2: duplicate key 'c'"):
        yaml_file.parse("a:\n  b: {c: 1, c: 2}\n", "file.yaml")


@pytest.mark.parametrize(
    "text",
    ["a: [1", "a: b: c", "\tx", "a: 'b", "{a: 1}}", "&a *b", "!!python/object:os.system x", "!!int x", "!!bool x"],
)
def test_a_syntax_error_is_one_line(text):
    with pytest.raises(InputError) as caught:
        yaml_file.parse(text, "file.yaml")
    assert str(caught.value).startswith("file.yaml")
    assert "\n" not in str(caught.value)


@settings(derandomize=True, max_examples=500)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
        max_leaves=8,
    )
)
def test_what_is_dumped_is_read_back(data):
    assert yaml_file.parse(yaml_file.dump(data), "test") == data


def test_merge_keys_are_read_as_yaml_means_them():
    text = "base: &base {a: 1, b: 2}\nmine: {<<: *base, b: 3}\n"
    assert yaml_file.parse(text, "test")["mine"] == {"a": 1, "b": 3}
