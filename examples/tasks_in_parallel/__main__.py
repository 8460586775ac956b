"""`python -m examples.tasks_in_parallel [--port 8080] [--store sqlite:///tasks_in_parallel.db]`."""

import argparse
import logging

import uvicorn

from examples.tasks_in_parallel.app import app
from examples.tasks_in_parallel.tasks import lift

parser = argparse.ArgumentParser(prog="python -m examples.tasks_in_parallel")
parser.add_argument("--port", type=int, default=8080)
parser.add_argument("--store", help="where jobs live, such as sqlite:///tasks_in_parallel.db")
options = parser.parse_args()
if options.store:
    lift.override(store=options.store)
logging.basicConfig(level=logging.INFO, format="%(message)s")
uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, timeout_graceful_shutdown=5)
