"""`python -m dreamforge.scheduler`."""

from dreamforge.scheduler.main import main

main()
