"""`python -m dreamforge.projector`."""

from dreamforge.runtime.service.gc_tuning import leave_out_imports

with leave_out_imports():
    from dreamforge.projector.main import main

main()
