"""What is refused before the server or a client starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler import ground
from ostler.cli.client import Client
from ostler.config import Config, DatabaseSettings
from ostler.core.errors import BadInput, Conflict
from ostler.nodes import selector


def test_a_second_server_on_the_same_sqlite_is_refused(tmp_path: Path) -> None:
    config = Config(database=DatabaseSettings(f"sqlite:///{tmp_path}/ostler.db"))
    with ground.sole_server(config), pytest.raises(Conflict, match="Another ostler serve"), ground.sole_server(config):
        raise AssertionError("two servers on one file")
    with ground.sole_server(config):
        pass  # and the lock ends with its holder


@pytest.mark.parametrize("token", ["ä", "abc\n", "a b\t"])
def test_a_mispasted_token_is_one_line(token: str) -> None:
    with pytest.raises(BadInput, match="copy it again"):
        Client("http://127.0.0.1:1", token)


def test_a_mistyped_state_is_no_empty_answer() -> None:
    with pytest.raises(BadInput, match="No state 'flying'"):
        selector.parse("state=flying")
