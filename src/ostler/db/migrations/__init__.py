"""The schema's history, run by `db/migrate.py`. One file per revision in `versions/`."""
