"""`python -m cascade.cli`: the same as `cascade`."""

from cascade.cli import app

app(prog_name="cascade")
