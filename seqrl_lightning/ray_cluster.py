"""Ray, on this machine or on a cluster: the connection to it, which leaves this process's signal handlers alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from seqrl_lightning.errors import needs_extra
from seqrl_lightning.types import ConfigurationError, one_line


@contextmanager
def ray_session(address: str, setting: str, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray, and disconnect at the end; a connection that is there already is used, and stays.

    Args:
        address: ``local`` starts Ray on this machine; ``auto`` or ``host:port`` names a cluster that is running.
        setting: The setting that says so.
        num_cpus: With ``local``, the CPUs that Ray may hand out; None for those that there are.

    Raises:
        ConfigurationError: If Ray isn't installed, or can't be reached.
    """
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    with needs_extra("ray"):
        import ray
    is_first = not ray.is_initialized()
    try:
        if is_first:
            is_local = address == "local"
            options = {"num_cpus": num_cpus, "include_dashboard": False} if is_local else {}
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        must_be = "'local', 'auto' or the host:port of a running Ray cluster"
        raise ConfigurationError(f"{setting} is {address!r}; it must be {must_be}: {one_line(error)}") from error
    finally:
        for signum, handler in handlers.items():  # Ray has handlers of its own, which would end a run without a save
            if handler is not None:
                signal.signal(signum, handler)
    try:
        yield
    finally:
        if is_first:
            ray.shutdown()
