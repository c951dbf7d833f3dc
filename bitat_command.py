"""The first step of the `bitat` command, outside the package.

Importing `bitat_tf` fails where it cannot have the Keras that it needs (`bitat_tf._keras`).
In a program that is an ImportError; on the command line it is one line and exit status 2.
"""

import sys
import traceback


def main() -> int:
    """Run the `bitat` command; returns the exit status."""
    try:
        from bitat_tf import cli
    except ImportError as err:
        if "--verbose" in sys.argv:
            traceback.print_exc()
        print(f"bitat: {' '.join(str(err).split())}", file=sys.stderr)
        return 2
    return cli.main()
