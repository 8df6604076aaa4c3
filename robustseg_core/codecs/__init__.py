"""Payload bytes to arrays: images, depth, clouds, event packets, picture files."""
