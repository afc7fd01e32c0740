#!/usr/bin/env python3
"""Checks that docs/src/wire-profile.md is the agreed text of the wire profile, word for word.

The text is agreed outside this repository. To take over a new version, copy it whole and record its
SHA-256 here; an edit of the copy alone fails."""

import hashlib
import pathlib
import sys

AGREED = "d1b27ef96401198916c2139b66be586a8755053bfc9195184bf242783a4064a3"
COPY = pathlib.Path(__file__).resolve().parent.parent / "docs/src/wire-profile.md"

found = hashlib.sha256(COPY.read_bytes()).hexdigest()
if found != AGREED:
    sys.exit(
        f"{COPY} was edited: its SHA-256 is {found}, and that of the agreed text is {AGREED}. "
        "Restore it, or take over the new agreed text and record its SHA-256 in tools/wire_profile.py."
    )
