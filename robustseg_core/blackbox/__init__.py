"""What happened around a fault: kept, written, and done again to the bit."""
