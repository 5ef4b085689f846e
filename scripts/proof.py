"""`make proof`: the long campaigns, many kill points and long random walks, and one JSON document of what they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

CAMPAIGNS = {
    "kill -9 of workers, both databases": (["tests/store/jobs/test_kill.py"], {"OSTLER_KILL_POINTS": "300"}),
    "random walks of the job engine": (["tests/store/jobs/test_engine_model.py"], {"OSTLER_MODEL_EXAMPLES": "2000"}),
    "kill -9 of webhook senders": (["tests/flow/events/test_killed_sender.py"], {}),
    "random walks of webhook lanes": (["tests/store/events/test_lanes.py"], {}),
    "fuzzed API": (["tests/contract/test_openapi.py"], {}),
    "random fabrics": (["tests/unit/fabric/diagnosis/test_campaign.py"], {"OSTLER_FABRIC_CASES": "3000"}),
    "closed loop of the fabric": (["tests/e2e/test_fabric_loop.py"], {"OSTLER_FABRIC_CASES": "100"}),
}


def main() -> int:
    results = {}
    for name, (paths, more) in CAMPAIGNS.items():
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            began = time.monotonic()
            command = [sys.executable, "-m", "pytest", *paths, "-n", "2", f"--junitxml={report}", "--timeout=3600"]
            done = subprocess.run(command, env={**os.environ, **more}, stdout=sys.stderr, check=False)
            suite = ElementTree.parse(report).getroot().find("testsuite")  # noqa: S314 - pytest wrote it just now
            counts = {} if suite is None else {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors")}
        results[name] = {**counts, "seconds": round(time.monotonic() - began, 1), "ok": done.returncode == 0}
    print(json.dumps({"proof": results, "ok": all(one["ok"] for one in results.values())}))
    return 0 if all(one["ok"] for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
