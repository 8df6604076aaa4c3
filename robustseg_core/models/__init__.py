"""The any-modality network: pack what is alive, encode once, fuse per sample, decode."""
