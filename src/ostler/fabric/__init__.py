"""The InfiniBand fabric: what was designed, what is there, what differs, and which plug has to move.

Read it as the data goes:

| room | turns | into |
|---|---|---|
| `formats/` | files and outputs of the field's tools | a `Sweep`: what a source said, by GUID (`sweep.py`) |
| `places/` | a `Sweep` | a `Snapshot`: the same by place (`model.py`) |
| `designs/` | files of designers | a `Blueprint` (`model.py`) |
| `diagnosis/` | `Blueprint` and `Snapshot` | verdicts on every cable, causes, the fewest plug moves |
| `links/` | two snapshots, readings of modules | what ails links that are where they belong |
| `report.py` | all that | the document that every face shows |

All of these are pure. Over them `service.py` takes a look in, `books.py` and `parts.py` bring the
books in line with it, `tasks.py` says when to look, `rounds.py` keeps what people look at; `store.py`, `api.py`.
"""
