"""A request for a transition that the state does not have, which not every rclpy answers."""

from __future__ import annotations

from typing import Any

from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode


def refuse_impossible(node: LifecycleNode) -> None:
    """Answer such a request with "no", and go on.

    rclpy of Jazzy (7.1, `LifecycleNode.__change_state`) raises where it is served, so that
    `ros2 lifecycle set NODE activate` ended a node that was not configured; Kilted's answers.
    """
    (service,) = (one for one in node.services if one.srv_name.endswith("/change_state"))
    serve = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return serve(request, response)
        except RCLError as error:
            wanted = request.transition.label or request.transition.id
            node.get_logger().error(f"there is no transition {wanted} from here: {error}")
            response.success = False
            return response

    service.callback = answer
