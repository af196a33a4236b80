"""Python's garbage collector, kept from looking at what lives anyway."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def older_set_aside() -> Generator[None]:
    """Within the block, the collector looks at what was made there alone.

    It looks at everything now and then. With torch loaded that are some hundred thousand objects and a tenth of a
    second, about as long as a small fit takes. After the block all is as before.

    Yields:
        Nothing.

    Example:
        >>> with older_set_aside():
        ...     gc.get_freeze_count() > 1000
        True
        >>> gc.get_freeze_count()
        0
    """
    if gc.get_freeze_count():
        # Somebody else has set objects aside, who counts on it.
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
