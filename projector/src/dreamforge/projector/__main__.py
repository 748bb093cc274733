"""`python -m dreamforge.projector`."""

from dreamforge.projector.main import main

main()
