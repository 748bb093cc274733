"""Tables on a terminal."""

from rich.table import Table


def table_of(*columns: str) -> Table:
    """A table without a frame; columns with names do not wrap."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("model", "runner", "status", "setting"))
    return table
