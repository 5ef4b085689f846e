"""The server's HTTP face: three listeners, problem documents, who is asking. Composed by `app.py`.

Features bring routers (`*/api.py`) and never import this; it decides what is true of every request: its id, its size,
its identity, the form of its errors.
"""
