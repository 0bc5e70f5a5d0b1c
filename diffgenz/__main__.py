"""`python -m diffgenz`."""

import sys

from diffgenz.ui.cli.main import main

sys.exit(main())
