"""When credentials end that say so themselves: client certificates, and tokens that are JWTs.

Nothing is verified here: what a server accepts is its own affair.
"""

import base64
import binascii
import ssl
from datetime import UTC, datetime

import msgspec

_SEQUENCE, _VERSION = 0x30, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


class _Claims(msgspec.Struct, gc=False):
    exp: float | None = None


def token_expiry(token: str) -> float | None:
    """Return the claim `exp` of a JWT (RFC 7519), in seconds since 1970; None without one."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims).exp
    except (ValueError, binascii.Error):  # msgspec's own errors are ValueErrors
        return None


def certificate_expiry(pem: str) -> float | None:
    """Return `notAfter` of the first certificate in *pem*, in seconds since 1970.

    None if there is no certificate. Reads as much of X.509 (RFC 5280, section 4.1) as leads there.
    """
    begin, end = pem.find(ssl.PEM_HEADER), pem.find(ssl.PEM_FOOTER)
    if not 0 <= begin < end:
        return None
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[begin : end + len(ssl.PEM_FOOTER)])
        return _not_after(der)
    except (ValueError, IndexError, binascii.Error):
        return None


def _not_after(der: bytes) -> float:
    """Return when *der* ends. Raises ValueError or IndexError for what is no certificate."""
    _, at, _ = _element(der, 0, _SEQUENCE)  # Certificate
    _, at, _ = _element(der, at, _SEQUENCE)  # TBSCertificate
    tag, _, after = _element(der, at)
    skipped = 3 if tag == _VERSION else 2  # serialNumber, signature, issuer
    for _ in range(skipped):
        _, _, after = _element(der, after)
    _, at, _ = _element(der, after, _SEQUENCE)  # Validity
    _, _, at = _element(der, at)  # notBefore
    tag, begin, end = _element(der, at)
    text = der[begin:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a certificate")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int, expected: int | None = None) -> tuple[int, int, int]:
    """Return the tag of the element at *at*, and where its content begins and ends."""
    tag, length, begin = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + size], "big"), begin + size
    if (expected is not None and tag != expected) or begin + length > len(der):
        raise ValueError("not a certificate")
    return tag, begin, begin + length
