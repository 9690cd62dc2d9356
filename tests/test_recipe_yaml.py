"""Reading YAML without its traps."""

import pytest

from backend.metrology.recipe_yaml import read_document


def mistakes(text):
    """Line and text of each mistake."""
    document = read_document(text)
    return [(mistake.line or document.line(mistake.path), mistake.text) for mistake in
            document.mistakes]  # fmt: skip


def test_data_and_lines():
    """Each piece is found again in the file."""
    document = read_document("a:\n  b: [1,\n    2.5]\nc: text\n")
    assert document.data == {"a": {"b": [1, 2.5]}, "c": "text"}
    assert document.mistakes == ()
    assert document.line(("a", "b", 1)) == 3
    assert document.line(("a", "missing", 0)) == 1
    assert document.line(("c",)) == 4


@pytest.mark.parametrize("text", ["2", "2.0", "2.", "+2", "0.2e+1"])
def test_whole_numbers_are_alike(text):
    """However it is written, 2 is 2."""
    assert repr(read_document(f"a: {text}").data) == "{'a': 2}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 1 already"),
        ("a: 1\nb: 2\non: 3", "'on' in quotes"),
        ("\n\n12:30: 3", "'12:30' in quotes"),
        ("\n\n? [a, b]\n: 3", "single word"),
        ("\n\na: 1e-3", "write 1.0e-3"),
        ("\n\na: 2.5e3", r"write 2.5e+3"),
        ("\n\na: 12:30", "plain decimal"),
        ("\n\na: 010", "plain decimal"),
        ("\n\na: 0x1f", "plain decimal"),
        ("\n\na: 1_000", "plain decimal"),
        ("\n\na: .inf", "plain decimal"),
        ("\n\na: .nan", "plain decimal"),
        ("\n\na: 1.0e+300", "too large"),
        ("\n\na: 2024-01-01", "in quotes"),
        ("\n\na: !!python/name:os.system x", "in quotes"),
        ("b: &x 1\n\na: *x", "alias"),
        ("\n\na: [1", "as YAML"),
        ("\n\n\ta: 1", "as YAML"),
    ],
)
def test_traps_are_told_with_their_line(text, told):
    """What YAML would take silently for something else; each of these is in line 3."""
    ((line, sentence),) = mistakes(text)
    assert told in sentence
    assert line == (4 if text.endswith("[1") else 3) or told == "as YAML"


def test_quotes_make_text():
    """A label that looks like a number or a truth value can be written."""
    assert read_document("'on': ['1e-3', '010', \"no\"]").data == {"on": ["1e-3", "010", "no"]}


@pytest.mark.parametrize("text", ["", "# nothing\n", "a: " + "[" * 5000, "a: b\n---\nc: d"])
def test_what_is_no_recipe_at_all(text):
    """One sentence, no crash."""
    assert len(mistakes(text)) == 1


def test_a_billion_laughs_are_not_expanded():
    """Aliases of aliases would fill the memory."""
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 30))
    assert "alias" in mistakes(text)[0][1]
