"""`scripts/soak`: many kill rounds, one line each, and at the end a table of what was checked."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.postgres import PrivateServer, reachable_directory
from tests.support.rounds.course import Course, Result, report
from tests.support.rounds.plan import draw_plan


async def soak(rounds: int, seed: int, mutation: str, directory: Path, server: PrivateServer) -> int:
    """Run the rounds; return how many promises were broken."""
    results: list[Result] = []
    async with Course(directory, server, seed, mutation=mutation) as course:
        for planned in draw_plan(seed, rounds):
            result = await course.run(planned)
            results.append(result)
            say(
                f"round {planned.number:4} {planned.kill:10} requests {result.requests:5} "
                f"closed after {result.closed_after_s:5.2f} s  took {result.seconds:5.2f} s  "
                f"violations {len(result.violations)}"
            )
            for violation in result.violations[:20]:
                say(f"    {violation}")
    say(report(course, results))
    broken = sum(len(result.violations) for result in results)
    if broken:
        kept = tempfile.mkdtemp(prefix="soak-logs-")
        for log in course.logs:
            shutil.copy(log, kept)
        say(f"the proxies' logs are in {kept}")
    return broken


def say(line: str) -> None:
    """Print at once, since a soak takes long and may be killed."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line and run; the exit status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="draws the same plan again; printed where not given")
    parser.add_argument("--mutation", default="", help="a fault of tests/support/rounds/mutant.py, or `elsewhere`")
    args = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if args.seed is None else args.seed
    say(f"seed {seed}")
    directory = reachable_directory()
    server = PrivateServer(directory, {"max_connections": "200", "recovery_init_sync_method": "syncfs"})
    server.start()
    try:
        return 1 if asyncio.run(soak(args.rounds, seed, args.mutation, directory, server)) else 0
    finally:
        server.remove()


if __name__ == "__main__":
    sys.exit(main())
