"""A request for a transition that there is not: answered, whatever rclpy's release does of it."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

import rclpy
from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode

from robustseg_ros.transitions import refuse_impossible

pytestmark = pytest.mark.ros


@pytest.fixture
def lifecycle():
    context = rclpy.Context()
    rclpy.init(context=context)
    made = LifecycleNode("x", context=context, enable_rosout=False)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def ask(node: LifecycleNode, label: str) -> bool:
    (service,) = (one for one in node.services if one.srv_name.endswith("/change_state"))
    request = ChangeState.Request()
    request.transition.label = label
    return service.callback(request, ChangeState.Response()).success


@pytest.mark.parametrize("raises", [False, True], ids=["as rclpy is here", "as Jazzy's is"])
def test_what_cannot_be_is_refused_and_what_can_be_is_done(lifecycle, raises):
    (service,) = (one for one in lifecycle.services if one.srv_name.endswith("/change_state"))
    serve = service.callback

    def jazzy(request, response):
        if request.transition.label == "deactivate":
            raise RCLError("Transition is not registered.")
        return serve(request, response)

    if raises:
        service.callback = jazzy
    refuse_impossible(lifecycle)
    assert not ask(lifecycle, "deactivate")
    assert ask(lifecycle, "configure")
    assert not ask(lifecycle, "no such transition")
