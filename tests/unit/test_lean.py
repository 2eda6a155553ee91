"""What stays out of a process that imports less: in processes of their own, for it cannot be undone."""

from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neither_ffmpeg_nor_rich_is_loaded_by_an_agent():
    out = run(
        "from pinna.lean import import_less; import_less()\n"
        "import pinna.app, sys\n"
        "print(open('/proc/self/maps').read(), [name for name in sys.modules if name.startswith('rich')])"
    )
    assert "multiarray" in out  # it does list libraries
    assert "libavcodec" not in out
    assert out.endswith("['rich']\n")  # barred


def test_a_link_that_does_without_webrtc_does_without_aiortc():
    out = run(
        "from pinna.lean import import_less; import_less(aiortc=False)\n"
        "import pinna.app, pinna.links.websocket, sys; print('aiortc' in sys.modules)"
    )
    assert out == "False\n"


def test_without_it_both_are_there():
    out = run(
        "import aiortc, structlog, sys; print(open('/proc/self/maps').read(), 'rich.console' in sys.modules)"
    )
    assert "libavcodec" in out
    assert out.endswith("True\n")


def test_an_aiortc_that_needs_pyav_to_be_imported_gets_it():
    out = run(
        "import sys, types\n"
        "from importlib.abc import Loader, MetaPathFinder\n"
        "from importlib.machinery import ModuleSpec\n"
        "class Another(MetaPathFinder, Loader):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return ModuleSpec(name, self) if name == 'aiortc' else None\n"
        "    def exec_module(self, module):\n"
        "        import av\n"
        "        module.version = av.library_versions['libavcodec']\n"
        "sys.meta_path.insert(0, Another())\n"
        "from pinna.lean import import_less; import_less()\n"
        "import aiortc\n"
        "print(aiortc.version)"
    )
    assert out.startswith("(")
