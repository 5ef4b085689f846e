"""The console: server-rendered pages for people who watch a fleet, live by server-sent events. Composed by `app.py`.

It only reads. `queries.py` asks the database, `sentences.py` says what it means, `rendering.py` and `templates/` draw
it, `live.py` pushes what changed, `pages.py` has the routes.
"""

from ostler.console.pages import Console

__all__ = ["Console"]
