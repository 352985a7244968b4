"""``python -m dssl_sklearn``: the same as the command ``dssl``."""

from __future__ import annotations

import sys

from dssl_sklearn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
