"""Rebuild, promote and roll back while questions are asked: does one fail, and how soon do others answer?

    python -m benchmarks.swap [FOLDER]        default: the project's own docs

Starts a stack of its own in a temporary home, puts FOLDER into its bucket and syncs it. Then another process asks
all the time, in four threads, while the index is rebuilt with chunks of 128 tokens, rebuilt with another index type
alone, and rolled back. Prints what each embedded and took, the questions answered and failed, and how long after the
rollback was asked for the old generation answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.own_stack import ROOT, lockstep, own_stack

THREADS = 4
QUESTIONS = ["How do I install it?", "What happens to a deleted file?", "Which settings are there?", "Who may read it?"]


def ask(log: Path, until: Path) -> None:
    """Ask until there is a file named ``until``; a line of JSON an answer: time, collection, hits, seconds, error."""
    import threading

    from deployments import environment
    from deployments.cli.session import open_session
    from tasks.retrieval.batch_search import search_all
    from tasks.retrieval.question import Question

    session = open_session(environment.load(), saves=True)
    from tasks.errors import LockstepError
    from tasks.pipelines import load_pipeline

    block = load_pipeline(session.pipeline)
    written = threading.Lock()

    def run() -> None:
        while not until.exists():
            for question in QUESTIONS:
                began, said = time.time(), {"collection": "", "hits": 0, "error": ""}
                try:
                    (found,) = search_all(block, [Question("", question)], block.settings)
                    said |= {"collection": found.collection, "hits": len(found.hits)}
                except LockstepError as error:
                    said["error"] = str(error)
                with written, log.open("a") as file:
                    file.write(json.dumps({"at": time.time(), "seconds": time.time() - began, **said}) + "\n")

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    with own_stack(folder) as (_, home):
        log, until = home / "asked.jsonl", home / "enough"
        first = lockstep("sync")
        with subprocess.Popen([sys.executable, "-m", "benchmarks.swap", "ask", log, until], cwd=ROOT) as asking:
            while not log.exists() and asking.poll() is None:
                time.sleep(0.2)
            smaller = lockstep("rebuild", "--chunk-tokens", "128", "--promote", "auto")
            index = lockstep("rebuild", "--index-type", "IVF_FLAT")
            back = lockstep("rollback")
            time.sleep(2)
            until.touch()
        asked = [json.loads(line) for line in log.read_text().splitlines()]
    failed = [one for one in asked if one["error"] or not one["hits"]]
    old = [one["at"] for one in asked if one["collection"] == back["collection"] and one["at"] > back["began"]]
    new = [one["at"] for one in asked if one["collection"] == back["before"]]
    seconds = sorted(one["seconds"] for one in asked)
    print(f"\n{folder}: {first['new']} objects, {first['chunks_embedded']} chunks")
    for what, done in (("chunks of 128 tokens", smaller), ("another index type", index)):
        counts = f"{done['chunks_embedded']:,} embedded, {done['chunks_reused']:,} reused"
        print(f"{what:<22} {done['seconds']:8.1f} s   {counts}, promoted: {done['promoted']}")
        for gate in done["gates"]:
            print(f"    {gate['name']}: {gate['value']:g} ({gate['bound']})")
    print(f"{'rollback':<22} {back['seconds']:8.1f} s   with the sync of what was missed")
    print(f"rollback command to the first answer of the old generation: {min(old) - back['began']:.1f} s")
    print(f"from the last answer of the new generation to the first of the old: {min(old) - max(new):.2f} s")
    print(f"questions asked: {len(asked)}, failed: {len(failed)}, p95 {seconds[int(len(seconds) * 0.95)]:.3f} s")
    for one in failed[:5]:
        print(f"    {one}")


if __name__ == "__main__":
    ask(*map(Path, sys.argv[2:])) if sys.argv[1:2] == ["ask"] else main()
