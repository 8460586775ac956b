"""What holds for every test: no setting of this machine reaches it; generated cases have no deadline."""

import os
import signal

import hypothesis

# The names that Heavylift reads its settings from, save those that tell the tests where real servers are.
SETTINGS = ("SERVICE_TYPE", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "DATABASE_URL", "PORT")

for name in list(os.environ):
    if name in SETTINGS or (name.startswith("HEAVYLIFT_") and not name.startswith("HEAVYLIFT_TEST_")):
        del os.environ[name]

# A shell has the programs that it starts in the background ignore Ctrl-C, and so would everything that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow, not wrong; pytest's own timeout ends what hangs.
hypothesis.settings.register_profile(
    "heavylift",
    hypothesis.settings.get_profile("ci" if "CI" in os.environ else "default"),
    deadline=None,
)
hypothesis.settings.load_profile("heavylift")
