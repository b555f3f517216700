"""``python -m napari_cnnvis.cli``."""

import sys

from napari_cnnvis.cli import main

sys.exit(main())
