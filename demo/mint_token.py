"""Prints an HS256 token for an administrator, good for twelve hours.

Usage: mint_token.py ISSUER AUDIENCE < secret
"""

import base64
import hashlib
import hmac
import json
import sys
import time
import uuid


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


issuer, audience = sys.argv[1:]
secret = sys.stdin.read().strip().encode()
now = int(time.time())
claims = {
    "sub": str(uuid.uuid4()),
    "iss": issuer,
    "aud": audience,
    "iat": now,
    "exp": now + 12 * 3600,
    "app_metadata": {"role": "admin"},
}
signed = ".".join(part(json.dumps(p, separators=(",", ":")).encode()) for p in ({"alg": "HS256", "typ": "JWT"}, claims))
print(f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}")
