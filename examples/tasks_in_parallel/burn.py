"""The work; as a program of its own, too: `python burn.py 300` prints what it was asked for when it is done."""

import json
import sys
import time


def burn(milliseconds: int) -> None:
    """Keep a CPU busy for so long."""
    end = time.monotonic() + milliseconds / 1000
    while time.monotonic() < end:
        pass


if __name__ == "__main__":
    cpu_time = int(sys.argv[1])
    print(f"burning for {cpu_time} ms", flush=True)
    burn(cpu_time)
    print(json.dumps({"CPUTimeMs": cpu_time}))
