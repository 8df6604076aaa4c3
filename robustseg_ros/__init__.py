"""Everything that talks ROS, and nothing that thinks: convert, hand to the core, publish."""
