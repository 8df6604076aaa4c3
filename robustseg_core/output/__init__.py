"""A label map for others: ROS messages, pictures, result folders, reports."""
