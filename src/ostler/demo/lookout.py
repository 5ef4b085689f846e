"""The demo's looks at the whole fabric, sent as `ostler fabric collect` sends them; and the cable that comes out.

For `cli/demo.py`. A look shows the fabric as it should be, a cable is pulled, the next look shows it; the last is taken
when the server wants one, because somebody says that the cable is mended.
"""

from __future__ import annotations

import time

from ostler.adapters.fabric.port import Collection, Output
from ostler.demo.account import Row, Server
from ostler.demo.story import PULLED, Story
from ostler.demo.technician import Hand

REPAIR = "a repair waits for its proof"
"""Why the server wants the last look (`fabric/policy.py`)."""


class Lookout:
    """`turn` takes the looks that are due; safe to repeat after a busy server broke it off."""

    def __init__(self, server: Server, hand: Hand, story: Story) -> None:
        self._server = server
        self._hand = hand
        self._vantage = story.of("crossed").nodes[0]
        """The host that looks: one whose power nobody touches."""
        self._pulled = story.of("pulled").nodes[0]
        self._out = False
        self.looks: list[Row] = []

    def turn(self) -> None:
        """Raises `Temporary`."""
        if not self.looks:
            self._look()
        if not self._out:
            self._hand("cut", plugs=[[self._pulled, PULLED]])
            self._out = True
        if len(self.looks) == 1 or (len(self.looks) == 2 and self._server.look_wanted() == REPAIR):
            self._look()

    def _look(self) -> None:
        began = time.time()
        text = str(self._hand("dump", host=self._vantage)["text"])
        output = Output("ibnetdiscover", ("ibnetdiscover",), text.encode())
        self.looks.append(self._server.looked(Collection(self._vantage, began, time.time() - began, (output,))))
