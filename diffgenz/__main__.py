"""`python -m diffgenz`."""

import sys

from diffgenz.cli import main

sys.exit(main())
