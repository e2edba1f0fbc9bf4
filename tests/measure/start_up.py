"""Seconds ComfyUI itself logs for importing the pack, over several starts."""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.comfyui import PACK_FOLDER, install_pack, running_comfyui

LINE = re.compile(rf"([\d.]+) seconds: .*{re.escape(PACK_FOLDER)}\s*$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    starts = parser.parse_args().starts
    seconds = [_one_start() for _ in range(starts)]
    sys.stdout.write(
        f"import of the pack over {starts} starts: median {statistics.median(seconds):.1f} s, "
        f"longest {max(seconds):.1f} s\n"
    )
    return 0


def _one_start() -> float:
    with tempfile.TemporaryDirectory(prefix="firered-start-") as folder:
        base = Path(folder)
        install_pack(base)
        with running_comfyui(base) as server:
            found = LINE.search(server.log.read_text(errors="replace"))
    if found is None:
        raise RuntimeError("ComfyUI's log does not list the pack")
    return float(found[1])


if __name__ == "__main__":
    raise SystemExit(main())
