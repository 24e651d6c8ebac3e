"""For others' data: audit a published split, certify what was looked at, and hold data against a certificate."""
