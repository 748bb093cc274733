"""`python -m dreamforge.gpu_runner`."""

from dreamforge.runtime.service.gc_tuning import leave_out_imports

with leave_out_imports():
    from dreamforge.gpu_runner.main import main

main()
