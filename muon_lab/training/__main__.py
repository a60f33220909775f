"""Run ``python -m muon_lab.training``."""

import sys

from muon_lab.training.loop import main

if __name__ == "__main__":
    sys.exit(main())
