"""`python -m examples.long_process [--port 3000] [--store sqlite:///long_process.db]`."""

import argparse

import uvicorn

from examples.long_process.app import app
from examples.long_process.tasks import lift

parser = argparse.ArgumentParser(prog="python -m examples.long_process")
parser.add_argument("--port", type=int, default=3000)
parser.add_argument("--store", help="where jobs live, such as sqlite:///long_process.db")
options = parser.parse_args()
if options.store:
    lift.override(store=options.store)
uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, timeout_graceful_shutdown=5)
