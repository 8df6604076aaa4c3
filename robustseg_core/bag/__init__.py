"""Recordings without ROS: read rosbag2 (db3, mcap) and ROS 1 bags, whole or damaged; write MCAP."""

from robustseg_core.bag.reader import Bag, Recorded, Topic
from robustseg_core.bag.recording import Recording
from robustseg_core.bag.writer import BagWriter

__all__ = ["Bag", "BagWriter", "Recorded", "Recording", "Topic"]
