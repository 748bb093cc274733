"""`python -m dreamforge.cli`: the command, where its script is not on PATH."""

from dreamforge.cli.main import app

app()
