"""Durable procedures: what a feature's `tasks.py` describes as steps is run here, once, whatever dies in between.

| file | holds |
|---|---|
| `procedure.py` | what a procedure is, and what a step gets to see |
| `store.py` | enqueue, wake, resume, cancel; queries |
| `journal.py` | what becomes of a job when its step has answered or failed |
| `schedule.py` | what is run again and again, by one replica at a time |
| `runner.py` | the threads that claim and run |

Why this is our own: docs/adr/001-own-durable-procedures.md.
"""
