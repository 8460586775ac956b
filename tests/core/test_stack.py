"""What is known of where a job's code is, as it travels through the store."""

from hypothesis import given
from hypothesis import strategies as st

from heavylift.core import stack
from heavylift.core.stack import Process, Source, Stack

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(0, 1e9)
processes = st.builds(
    Process, st.integers(1, 2**22), texts, st.sampled_from("RSDTZ"), st.none() | texts, numbers, st.integers(0, 2**40)
)
stacks = st.builds(
    Stack,
    numbers,
    st.integers(1, 99),
    st.sampled_from(Source),
    texts,
    st.none() | processes,
    st.lists(processes, max_size=3).map(tuple),
)


@given(stacks)
def test_a_stack_is_what_it_was_on_the_other_side(found):
    assert stack.read(stack.written(found)) == found
