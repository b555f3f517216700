"""Model + Volume (+ Hierarchy) -> Attribution. The module can be called: `run.explain`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Explain(ModuleType):
    """Lets ``napari_cnnvis.explain(...)`` run a method, as the package has this name as well."""

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        """See `napari_cnnvis.explain.run.explain`."""
        from napari_cnnvis.explain.run import explain

        return explain(*args, **parameters)


sys.modules[__name__].__class__ = _Explain
