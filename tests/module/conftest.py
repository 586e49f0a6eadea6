import sys
from pathlib import Path

# `golden` is a helper of the tests in this folder, not a module of the package.
sys.path.insert(0, str(Path(__file__).parent))
