"""TLS contexts from settings, built again when one of the files changes."""

import functools
import ssl
from pathlib import Path
from typing import TypeAlias

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from aggregator.settings import Tls

# What tells a changed file: modification time in ns, size, inode; None if it is not there.
Signature: TypeAlias = tuple[int, int, int] | None


def file_signature(path: Path | None) -> Signature:
    """Return what changes when the file at *path* (or what its symlinks lead to) is replaced."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def signatures(tls: Tls) -> tuple[Signature, ...]:
    """Return the signatures of every file that *tls* names."""
    return tuple(file_signature(path) for path in (tls.ca_file, tls.cert_file, tls.key_file))


@functools.lru_cache(maxsize=64)
def context(tls: Tls, _signatures: tuple[Signature, ...]) -> ssl.SSLContext:
    """Return the client context for *tls*; clusters with the same settings share one.

    Loading the public authorities takes 20 ms and a megabyte, which 500 clusters should not repeat.
    Raises OSError (ssl.SSLError is one) if a file cannot be read or does not fit.
    """
    made = ssl.create_default_context(cafile=tls.ca_file)
    if tls.ca_file is None:
        made.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    if tls.insecure_skip_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        # Without a password an encrypted key would be asked for on the terminal.
        made.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
    return made
