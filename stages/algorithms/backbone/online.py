"""Whether anybody answers where weights are published: found out in seconds, not in minutes.

The Hub's client tries five times with pauses in between, and torch waits as long as a server that
says nothing lets it.
"""

import contextlib
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

PATIENCE = 5.0  # seconds for the first word of an answer; slow networks take two or three
REMEMBERED = 60  # seconds

Reach = Literal["answers", "fails", "silent"]


def reach(url: str) -> Reach:
    """What a look at the server of a URL comes to; any answer will do, also a refusal.

    Proxies of the environment are used. Asked again within a minute, it is not looked again.
    """
    parts = urlsplit(url)
    return _reach(f"{parts.scheme}://{parts.netloc}", int(time.monotonic() // REMEMBERED))


@lru_cache(maxsize=16)
def _reach(server: str, minute: int) -> Reach:
    found: list[Reach] = []

    def look() -> None:
        try:
            request = urllib.request.Request(server, method="HEAD")
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            found.append("answers")
        except Exception:  # no such server, no route to it, no answer of this protocol
            found.append("fails")
        else:
            found.append("answers")

    # of a thread: no time limit is on asking for an address by its name
    looking = threading.Thread(target=look, daemon=True)
    begun = time.monotonic()
    looking.start()
    looking.join(PATIENCE)
    if time.monotonic() - begun >= PATIENCE:  # the thread's own limit is as long
        return "silent"
    return found[0] if found else "silent"


@contextlib.contextmanager
def hub() -> Iterator[None]:
    """Use the Hub's client: from its cache alone, where nobody answers.

    What it says of each attempt is kept to itself: what fails is an error anyway.

    Raises
    ------
    ConnectionError
        For what is not in the cache, where nobody answers, or nobody is to be asked.
    """
    # here, and not above: it comes with timm, and only its networks need it
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    logger = logging.getLogger("huggingface_hub")
    before, offline = logger.level, constants.HF_HUB_OFFLINE
    away = not offline and reach(constants.ENDPOINT) != "answers"
    logger.setLevel(logging.ERROR)
    try:
        constants.HF_HUB_OFFLINE = offline or away
        yield
    except (LocalEntryNotFoundError, ConnectionError) as error:
        if not (offline or away):
            raise
        why = "is not asked (HF_HUB_OFFLINE)" if offline else "does not answer"
        raise ConnectionError(
            f"{constants.ENDPOINT} {why}, and its cache here does not have it"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(before)
