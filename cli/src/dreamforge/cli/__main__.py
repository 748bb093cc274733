"""The script `dreamforge`; `python -m dreamforge.cli` where that is not on PATH."""

from dreamforge.runtime.service.gc_tuning import leave_out_imports

with leave_out_imports():
    from dreamforge.cli.main import app

if __name__ == "__main__":
    app()
