"""``python -m helpers.training``."""

from helpers.training.cli import main

raise SystemExit(main())
