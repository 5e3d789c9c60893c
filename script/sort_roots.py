"""Sorts root certificates by the region whose servers they sign, in the form that src/db/tls.rs reads.

Usage: sort_roots.py SOURCE < text that holds certificates in PEM > certs/amazon-rds.pem
"""

import datetime
import re
import subprocess
import sys

HEAD = """\
# Root certificates of Amazon RDS, Aurora and RDS Proxy, as published by AWS
# (Amazon RDS User Guide, "Using SSL/TLS to encrypt a connection to a DB instance or cluster").
# Taken from {source} by script/refresh-roots on {today}, without those that had expired.
# A line "# region NAME" opens the roots of a region; "# region *" those that any region may use.
"""


def field(name: str, text: str) -> str:
    return re.search(rf"^{name}=(.*)$", text, re.MULTILINE)[1]


def common_name(subject: str) -> str:
    """Of a subject without one, the unit, as Starfield's older roots have it."""
    names = dict(re.findall(r"(?:^|,)([A-Z]+)=((?:\\.|[^,\\])*)", subject))
    return names.get("CN") or names["OU"]


def read(pem: str) -> tuple[str, str, str]:
    """A certificate's name, the day it ends, and its canonical text."""
    command = ["openssl", "x509", "-subject", "-enddate", "-dateopt", "iso_8601", "-nameopt", "RFC2253"]
    output = subprocess.run(command, input=pem, capture_output=True, text=True, check=True).stdout
    canonical = output[output.index("-----BEGIN") :].strip()
    return common_name(field("subject", output)), field("notAfter", output)[:10], canonical


def region_of(name: str) -> str:
    found = re.match(r"Amazon RDS (?:Beta |Preview )?([a-z]+(?:-[a-z]+)+-\d) Root CA", name)
    return found[1] if found else "*"


today = datetime.date.today().isoformat()
# In a program each line is a literal of its own, with a written-out line feed.
text = re.sub(r"\\n'? ?\+?\s*'?", "\n", sys.stdin.read())
pems = re.findall(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", text)
certificates = sorted({read(pem) for pem in pems})
regions: dict[str, list[str]] = {}
for name, until, pem in certificates:
    if until > today:
        regions.setdefault(region_of(name), []).append(f"# {name}, until {until}\n{pem}\n")
if len(certificates) < 80:
    sys.exit(f"only {len(certificates)} certificates: that is not the whole bundle")
sys.stdout.write(HEAD.format(source=sys.argv[1], today=today))
for region in sorted(regions, key=lambda region: (region != "*", region)):
    sys.stdout.write(f"# region {region}\n" + "".join(regions[region]))
