"""The configuration of a robot, as a file and as parameters; its topics and transports."""
