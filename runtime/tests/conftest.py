"""What the tests of the runtime share is imported by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name
