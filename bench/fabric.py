"""How fast a fabric is read, placed, compared and judged: `python -m bench.fabric [--quick] [--hosts N]…`.

For each size a rail-optimised fat tree runs in the simulator ibsim; plugs are exchanged and pulled through its console,
and the real ibnetdiscover looks at it before and after. Then, on the same files:

ours      read the cache (and, apart, the text), place, compare with the design, judge links, make the document; each
          form in a process of its own, so that the peak of its memory is its own
baseline  what the field does: `ibnetdiscover --diff` of the faulty fabric against the cache of the sound one; it has to
          discover again, so its time has the discovery in it, which is also told apart

The plan has to be as long as what was broken: a wrong plan fails the run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import document, target
from ostler.fabric.designs import own_csv
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Blueprint, Port
from tests.fabric_lab import FabricLab

QUICK = (32, 256)
FULL = (32, 128, 256, 512, 2048)
"""Hosts with eight rails: 1,024 to 98,304 ports."""
GOAL_S, GOAL_MB = 3.0, 500.0
SHARE = 50
"""One cable in so many is touched."""


def measure(design: Path, observed: Path, form: str) -> dict[str, Any]:
    """One form of one look, from bytes to the document."""
    from ostler.fabric import designs, formats
    from ostler.fabric.diagnosis import diagnose
    from ostler.fabric.link_causes import with_health
    from ostler.fabric.links.judge import judge
    from ostler.fabric.observed import arrange, snapshots
    from ostler.fabric.report import document as report

    blueprint, _lints = designs.read(design.read_bytes(), design.name)
    data = observed.read_bytes()
    marks = [time.perf_counter()]
    evidence = arrange(formats.read(data, observed.name), observed.name)
    marks.append(time.perf_counter())
    seen, others = snapshots(evidence, blueprint)
    marks.append(time.perf_counter())
    diagnosis = diagnose(blueprint, seen, others)
    marks.append(time.perf_counter())
    diagnosis = with_health(diagnosis, judge(seen, blueprint=blueprint)[0], blueprint)
    found = report(diagnosis, blueprint, seen)
    marks.append(time.perf_counter())
    read, place, compare, judged = (after - before for before, after in itertools.pairwise(marks))
    return {
        "form": form,
        "read_s": round(read, 3),
        "place_s": round(place, 3),
        "compare_s": round(compare, 3),
        "judge_and_report_s": round(judged, 3),
        "all_s": round(marks[-1] - marks[0], 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "verdicts": found["cables"],
        "causes": len(found["causes"]),
        "moves": sum(len(cause["moves"]) for cause in found["causes"]),
        "lines": sum(1 + len(cause["moves"]) for cause in found["causes"]),
    }


def break_it(lab: FabricLab, blueprint: Blueprint, seed: int) -> tuple[int, int]:
    """Exchange and pull plugs at hosts; answers how many plugs were moved and how many cables are out."""
    rng = random.Random(seed)
    hosts = [cable.a for cable in blueprint.cables if cable.role == "host"][8:]  # the first host looks
    chosen = rng.sample(hosts, max(4, len(blueprint.cables) // SHARE // 2 * 2))
    half = len(chosen) // 2
    swapped, cut = chosen[:half], chosen[half:]
    for one, two in zip(swapped[::2], swapped[1::2], strict=False):
        _exchange(lab, blueprint, one, two)
    for port in cut:
        lab.unlink(port)
    return half // 2 * 2, len(cut)


def _exchange(lab: FabricLab, blueprint: Blueprint, one: Port, two: Port) -> None:
    far_one, far_two = blueprint.by_port[one].b, blueprint.by_port[two].b
    lab.unlink(one)
    lab.unlink(two)
    lab.link(one, far_two)
    lab.link(two, far_one)


def discover(lab: FabricLab, host: str, folder: Path, name: str, *more: str) -> tuple[float, bytes]:
    """ibnetdiscover from this host: seconds and text; the cache lies in `NAME.cache`."""
    settings = lab.settings(host)
    argv = ["ibnetdiscover", "-o", "8", *more]
    if not more:
        argv += ["--cache", str(folder / f"{name}.cache")]
    began = time.perf_counter()
    done = subprocess.run(
        argv,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **settings.environment},
        cwd=folder,
        capture_output=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-500:])
    (folder / f"{name}.txt").write_bytes(done.stdout)
    return time.perf_counter() - began, done.stdout


def size(hosts: int, folder: Path) -> dict[str, Any]:
    """Everything about one size."""
    # Widths and speeds stand in the design: ibsim says of its ports that they could do 12 lanes.
    blueprint = fat_tree(hosts, 8, name=f"hosts-{hosts}", width=4, speed="HDR")
    design = folder / "design.csv"
    design.write_text(own_csv.write(blueprint))
    switches = sum(1 for chassis in blueprint.chassis.values() if chassis.kind == "switch")
    with FabricLab(blueprint, folder / "lab", manager=False) as lab:
        host = lab.hosts()[0]
        sound_s, _ = discover(lab, host, folder, "sound")
        moved, cut = break_it(lab, blueprint, hosts)
        discovery_s, _ = discover(lab, host, folder, "faulty")
        diff_s, text = discover(lab, host, folder, "diff", "--diff", str(folder / "sound.cache"))
    ours = {
        form: _apart(design, folder / f"faulty.{suffix}", form)
        for form, suffix in (("cache", "cache"), ("text", "txt"))
    }
    for form, found in ours.items():
        if found["moves"] != moved or found["verdicts"]["absent"] != cut:
            raise RuntimeError(f"{hosts} hosts, {form}: {moved} plugs moved and {cut} out, but {found}")
    return {
        "ports": 2 * len(blueprint.cables),
        "switches": switches,
        "cables": len(blueprint.cables),
        "plugs_moved": moved,
        "cables_out": cut,
        "discovery_s": round(discovery_s, 2),
        "sound_discovery_s": round(sound_s, 2),
        "diff_s": round(diff_s, 2),
        "diff_lines": text.count(b"\n"),
        "ours": ours,
    }


def _apart(design: Path, observed: Path, form: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "bench.fabric", "--measure", str(design), str(observed), form]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--hosts", type=int, nargs="*", help="sizes, in hosts of eight rails")
    parser.add_argument("--measure", nargs=3, metavar=("DESIGN", "OBSERVED", "FORM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(Path(given.measure[0]), Path(given.measure[1]), given.measure[2])))
        return
    sizes: dict[str, Any] = {}
    for hosts in given.hosts or (QUICK if given.quick else FULL):
        with tempfile.TemporaryDirectory(prefix="ostler-bench-fabric-") as name:
            sizes[str(hosts)] = found = size(hosts, Path(name))
        print(json.dumps({hosts: found}), file=sys.stderr)
    last = list(sizes.values())[-1]
    slowest = max(form["all_s"] for form in last["ours"].values())
    largest = max(form["peak_mb"] for form in last["ours"].values())
    lines = last["ours"]["cache"]["lines"]
    print(
        document(
            "fabric",
            {"by_hosts": sizes},
            {
                "ibnetdiscover_diff_s": last["diff_s"],
                "of_it_discovery_s": last["discovery_s"],
                "lines_printed": last["diff_lines"],
            },
            {
                "diff_after_discovery_to_ours": round(max(0.0, last["diff_s"] - last["discovery_s"]) / slowest, 3),
                "lines_to_ours": round(last["diff_lines"] / max(1, lines), 2),
            },
            {
                f"{last['ports']} ports: seconds after the collection": target(GOAL_S, slowest, "<="),
                f"{last['ports']} ports: peak MB": target(GOAL_MB, largest, "<="),
            },
            notes="ibsim stands for the fabric, without a subnet manager; no cable has readings of modules",
        )
    )


if __name__ == "__main__":
    main()
