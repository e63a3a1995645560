"""The wire: encodings that sources and stores share. Knows no adapter and no projection."""
