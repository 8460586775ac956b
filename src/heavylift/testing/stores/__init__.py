"""The contract of `heavylift.store.Store` as a suite: what passes it is a store.

    class TestMyStore(StoreContract):
        def make_store(self, clock): ...
        def make_again(self, store, clock): ...

It needs pytest, with pytest-asyncio in its auto mode. `histories.StoreHistories` adds random histories; it needs
hypothesis.
"""

from heavylift.testing.stores.adding import Adding
from heavylift.testing.stores.cases import StoreCases
from heavylift.testing.stores.claiming import Claiming
from heavylift.testing.stores.counting import Counting
from heavylift.testing.stores.ending import Ending
from heavylift.testing.stores.gates import Gates
from heavylift.testing.stores.hints import Waking
from heavylift.testing.stores.lanes import Lanes
from heavylift.testing.stores.leases import Leases
from heavylift.testing.stores.moving import Moving
from heavylift.testing.stores.questions import Asking
from heavylift.testing.stores.rates import Rates
from heavylift.testing.stores.reading import Reading
from heavylift.testing.stores.retention import Pruning
from heavylift.testing.stores.returning import Returning
from heavylift.testing.stores.saving import Saving
from heavylift.testing.stores.standing import Standings
from heavylift.testing.stores.unique_keys import UniqueKeys

__all__ = ["StoreCases", "StoreContract"]


class StoreContract(
    Adding,
    UniqueKeys,
    Claiming,
    Lanes,
    Gates,
    Returning,
    Rates,
    Saving,
    Ending,
    Moving,
    Leases,
    Asking,
    Reading,
    Pruning,
    Waking,
    Counting,
    Standings,
):
    """Every case of the contract."""
