"""Tests are imported by path; what they share needs a name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
