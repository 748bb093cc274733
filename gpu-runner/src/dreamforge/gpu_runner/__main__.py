"""`python -m dreamforge.gpu_runner`."""

from dreamforge.gpu_runner.main import main

main()
