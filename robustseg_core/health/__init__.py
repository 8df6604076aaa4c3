"""What is believed of each stream, by arrival, stamp, identity and content."""
