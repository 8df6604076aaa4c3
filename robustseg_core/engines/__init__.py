"""What runs the network: a bundle in, class ids and confidence out; one engine per file."""
