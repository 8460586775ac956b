"""`python -m examples.newest_wins [--port 8081] [--store sqlite:///newest_wins.db]`."""

import argparse

import uvicorn

from examples.newest_wins.app import app
from examples.newest_wins.tasks import lift

parser = argparse.ArgumentParser(prog="python -m examples.newest_wins")
parser.add_argument("--port", type=int, default=8081)
parser.add_argument("--store", help="where jobs live, such as sqlite:///newest_wins.db")
options = parser.parse_args()
if options.store:
    lift.override(store=options.store)
uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, timeout_graceful_shutdown=5)
