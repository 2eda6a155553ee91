"""Programs of the roles, which go to devices as single files and are in no package: as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROLES = Path(__file__).parents[2] / "ansible/roles"


def load(program: str) -> ModuleType:
    """The module at `program`, a path below ansible/roles."""
    path = ROLES / program
    spec = importlib.util.spec_from_file_location(f"pinna_role_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module
