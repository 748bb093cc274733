"""`python -m dreamforge.scheduler`."""

from dreamforge.runtime.service.gc_tuning import leave_out_imports

with leave_out_imports():
    from dreamforge.scheduler.main import main

main()
