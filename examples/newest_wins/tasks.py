"""The work. A module of its own, so that the processes that run it need not import the web framework."""

import time
from typing import Annotated

from pydantic import Field

from heavylift import Context, Heavylift

LONGEST = 600
PAGE = 0.05
"""Seconds that a page takes."""

Pages = Annotated[int, Field(ge=1, le=LONGEST)]

lift = Heavylift("sqlite:///newest_wins.db", keep="1d")


# A new import of a document makes the one before pointless, whether it waits or runs.
@lift.task(unique="import:{document}", on_conflict="replace", max_attempts=1)
def import_pages(ctx: Context, document: str, pages: Pages) -> int:
    """Import a document page by page; what is half done is cleared away when a newer import stops it."""
    done = 0
    try:
        for _ in ctx.track(range(pages), unit="pages"):
            time.sleep(PAGE)
            done += 1
    finally:
        if done < pages:
            time.sleep(PAGE)
            ctx.log.info("cleared away", document=document, pages=done)
    return done


# An index that is being built may have missed the last change: one more has to follow, but never two.
@lift.task(unique="index:{document}", on_conflict="queue-one", max_attempts=3)
def build_index(ctx: Context, document: str, pages: Pages) -> str:
    """Read all pages of a document anew."""
    for _ in ctx.track(range(pages), unit="pages"):
        time.sleep(PAGE)
    return document
