"""Every error says what and where, and carries what the faces need to tell it."""

from __future__ import annotations

import pytest

from ostler.core import errors
from ostler.core.errors import BadInput, OstlerError, Permanent, Temporary

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OstlerError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_without_a_message_the_docstring_speaks(kind: type[OstlerError]) -> None:
    assert str(kind()) == (kind.__doc__ or "").splitlines()[0]
    assert str(kind("Broken.", where="line 3")) == "line 3: Broken."


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_faces_find_their_numbers(kind: type[OstlerError]) -> None:
    assert 400 <= kind.status < 600
    assert kind.exit_code in {1, 2}


def test_the_two_words_exclude_each_other() -> None:
    assert not [kind for kind in ALL if issubclass(kind, Temporary) and issubclass(kind, Permanent)]
    assert {kind for kind in ALL if not issubclass(kind, Temporary | Permanent)} == {OstlerError}


def test_what_is_temporary_says_when_to_try_again() -> None:
    assert Temporary("x").delay == 10.0
    assert Temporary("x", delay=2.5).delay == 2.5
    assert BadInput.exit_code == 2
