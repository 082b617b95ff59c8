"""Bad input and what it must get: raw bytes over real sockets, one case a file (README.md tells the format)."""
