"""Alembic's env.py runs only inside alembic: pytest must not import it for doctests."""

collect_ignore_glob = ["**/script/env.py"]
