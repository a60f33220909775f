"""List and compare recorded runs: ``python -m muon_lab.runs [FOLDER or FILES]``."""

import sys

from muon_lab.runs.tables import main

if __name__ == "__main__":
    sys.exit(main())
