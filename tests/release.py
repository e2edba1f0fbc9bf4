"""Says whether a version can be released: ``hatch run release-check 1.2.3``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from support.pack import ROOT
from support.release import CHECKS, SLOW, Candidate, Check, NotReadyError

NEXT = """\
{version} is ready. Next, once the long forms in CONTRIBUTING.md have passed too:
  git tag --annotate {tag} --message "FireRed Edit {version}"
  git push origin main {tag}
  comfy node publish
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="as in pyproject.toml, such as 1.2.3")
    made = "make examples and locales anew and compare them: minutes, and it needs Chromium"
    parser.add_argument("--made", action="store_true", help=made)
    given = parser.parse_args()
    checks = {**CHECKS, **SLOW} if given.made else CHECKS
    return judge(Candidate(ROOT, given.version), checks)


def judge(candidate: Candidate, checks: Mapping[str, Check]) -> int:
    """Make every check, say how each went and what is to be done next; 1 if any failed."""
    failed = [name for name, check in checks.items() if not _passes(name, check, candidate)]
    if failed:
        sys.stdout.write(f"{candidate.version} is not ready: {', '.join(failed)}.\n")
        return 1
    sys.stdout.write(NEXT.format(version=candidate.version, tag=candidate.tag))
    return 0


def _passes(name: str, check: Check, candidate: Candidate) -> bool:
    try:
        found = check(candidate)
    except NotReadyError as error:
        sys.stdout.write(f"FAILED  {name:<10} {error} {error.remedy}\n")
        return False
    sys.stdout.write(f"ok      {name:<10} {found}\n")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
