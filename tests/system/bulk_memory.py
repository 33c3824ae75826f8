"""Sends to the given number of recipients from a file, and prints the seconds and the peak memory that it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace


def main(folder: str, count: int, results: str) -> None:
    from airflow_provider_omnimessage.api.messages import sms
    from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

    source = Path(folder) / f"{count}.jsonl"
    with open(source, "w") as lines:
        for index in range(count):
            lines.write(json.dumps({"to": f"+3725{index:06d}9", "name": f"Person {index}"}) + "\n")
    operator = ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients=str(source),
        messages=[sms("Hello $name")],
        time_to_send="2099-01-01T09:00Z",
        results_path=results,
        parallel=2,
    )
    begin = time.perf_counter()
    returned = operator.execute({"ti": SimpleNamespace(max_tries=0, dag_id="memory", task_id="send")})
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_mib": peak, "accepted": returned["accepted"]}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
