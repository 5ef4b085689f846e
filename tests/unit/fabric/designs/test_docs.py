"""Every example of docs/blueprints.md is read as the form that it is said to be, without an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ostler.fabric import designs

PAGE = (Path(__file__).parents[4] / "docs" / "blueprints.md").read_text()
EXAMPLES = re.findall(r"^```(\w+) ([\w-]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_form_has_an_example() -> None:
    assert {form for _, form, _ in EXAMPLES} == set(designs.FORMATS)
    assert PAGE.count("\n```") == 2 * len(EXAMPLES)


@pytest.mark.parametrize(("suffix", "form", "text"), EXAMPLES)
def test_examples_are_read(suffix: str, form: str, text: str) -> None:
    assert designs.format_of(text.encode(), f"x.{suffix}") == form
    blueprint, lints = designs.read(text.encode(), f"x.{suffix}", switch_model="MQM9700")
    assert blueprint.cables
    assert [item for item in lints if item.error] == []
    assert not {item.kind for item in lints} & {"half-cable", "bad-value", "rail-crossing", "uneven-trunk"}
