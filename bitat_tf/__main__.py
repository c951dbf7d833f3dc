"""`python -m bitat_tf` is the `bitat` command."""

import sys

from bitat_tf.cli import main

sys.exit(main())
