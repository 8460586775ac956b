"""`python -m examples.add_numbers [--port 3010] [--store sqlite:///add_numbers.db]`."""

import argparse

import uvicorn

from examples.add_numbers.app import app
from examples.add_numbers.tasks import lift

parser = argparse.ArgumentParser(prog="python -m examples.add_numbers")
parser.add_argument("--port", type=int, default=3010)
parser.add_argument("--store", help="where jobs live, such as sqlite:///add_numbers.db")
options = parser.parse_args()
if options.store:
    lift.override(store=options.store)
uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, timeout_graceful_shutdown=5)
