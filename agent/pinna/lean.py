"""Import less: `pinna run` does without PyAV and rich, 16 MB of 112 resident.

aiortc imports PyAV, and with it FFmpeg, for its codecs; the link encodes and decodes by itself.
structlog imports rich where it is installed, to adorn tracebacks.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import cast


def import_less(*, aiortc: bool = True) -> None:
    """For the whole process; to be called before anything imports aiortc (if it will be) or structlog."""
    sys.modules.setdefault("rich", cast(ModuleType, None))  # `import rich` fails, which structlog expects
    if aiortc:
        _import_aiortc()


def _import_aiortc() -> None:
    stand_in = _StandIn()
    sys.meta_path.insert(0, stand_in)
    try:
        import aiortc  # noqa: F401, PLC0415  (now, while PyAV is not to be found)
    except Exception:  # noqa: BLE001  (another aiortc, which uses PyAV while it is imported: have both whole)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("aiortc", "av")]:
            del sys.modules[name]
    finally:
        sys.meta_path.remove(stand_in)


class _Hollow(ModuleType):
    """A module in which each name is a class that can do nothing: enough for annotations and `isinstance`."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        thing = type(name, (), {"__doc__": "PyAV is not loaded in this process."})
        setattr(self, name, thing)
        return thing


class _StandIn(MetaPathFinder, Loader):
    """Finds hollow modules for PyAV and all that is in it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "av" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
