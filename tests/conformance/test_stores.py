"""Each store passes the suite of the contract."""

import pytest

from heavylift.stores import open_store
from heavylift.testing.stores import StoreContract
from heavylift.testing.stores.histories import StoreHistories


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


class TestSqliteInline(SqliteCases, StoreContract, StoreHistories):
    inline = True


class TestSqliteFull(SqliteCases, StoreContract):
    options = "?synchronous=full"


class TestMemory(StoreContract, StoreHistories):
    def make_store(self, clock):
        return open_store("memory://", clock)

    def make_again(self, store, clock):
        return open_store(store.url, clock)
