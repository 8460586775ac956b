"""Each store passes the suite of the contract, and thousands of random steps.

`HEAVYLIFT_TEST_STEPS=100000` makes so many, other ones in each run.
"""

import os

import pytest

from heavylift.stores import open_store
from heavylift.testing.stores import StoreContract
from heavylift.testing.stores.histories import StoreHistories

STEPS = int(os.environ.get("HEAVYLIFT_TEST_STEPS", "0"))


class SqliteCases:
    """A store in a file; `options` of its URL, `inline` as a worker opens it."""

    options = ""
    inline = False

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.tmp_path = tmp_path
        self.made = 0

    def make_store(self, clock):
        self.made += 1
        return open_store(f"sqlite:///{self.tmp_path}/jobs-{self.made}.db{self.options}", clock, inline=self.inline)

    def make_again(self, store, clock):
        return open_store(store.url, clock, inline=self.inline)


class TestSqlite(SqliteCases, StoreContract):
    pass


class TestSqliteInline(SqliteCases, StoreContract):
    inline = True


class TestSqliteFull(SqliteCases, StoreContract):
    options = "?synchronous=full"


class MemoryCases:
    def make_store(self, clock):
        return open_store("memory://", clock)

    def make_again(self, store, clock):
        return open_store(store.url, clock)


class TestMemory(MemoryCases, StoreContract):
    pass


# What fails is shrunk for up to five minutes before it is shown.
@pytest.mark.timeout(600 + STEPS / 10)
class Histories(StoreHistories):
    """More than 5,000 steps in all: half of them as a worker writes, half as a web process does."""

    steps = STEPS or 2_900
    derandomize = STEPS == 0


class TestHistoriesInline(SqliteCases, Histories):
    inline = True


class TestHistories(MemoryCases, Histories):
    pass
