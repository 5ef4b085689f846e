"""The console: server-rendered pages for people who watch a fleet, live by server-sent events. Composed by `app.py`.

It only reads, but for what a technician does on a phone: tickets are taken and closed (`tickets.py`,
`ticket_acts.py`), rounds over the fabric are walked and signed (`fabric_rounds.py`). `fabric.py` has its pages.
`queries.py` asks the database for the map and a node's page (`ladder.py`: its repairs); `rooms.py` lists the other
pages, each with its own question: `now.py`, `would_act.py`, `maintenance.py`, `rma.py`, `checks.py`, ….
`sentences.py` says what it means, `rendering.py` and `templates/` draw it, `live.py` pushes what changed, `pages.py`
has the routes.
"""

from ostler.console.pages import Console

__all__ = ["Console"]
