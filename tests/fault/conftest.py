"""What the fault tests share with the fuzz tests: a whole system of real processes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))  # tests are imported by path; what they share needs a name
